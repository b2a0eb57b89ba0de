"""From the scores of boxes to decisions, in operations that ONNX has: suppression, then the best of each image.

A graph runs a batch at once and decides nothing by Python, so the loops over images and classes of `visionkit.ops.nms`
cannot be traced. Suppression is one operator here, which stands for ONNX's own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.ops.nms import nms_per_class

OUT = -1.0
"""Score of what must not be chosen; thresholds are 0 or more."""


@torch.library.custom_op("visionkit::suppressed", mutates_args=())
def suppressed(boxes: Tensor, scores: Tensor, most: Tensor, iou: Tensor, score: Tensor) -> Tensor:
    """What ONNX's operator NonMaxSuppression says: i64 [N, 3], the group, class and box of each decision.

    A box goes where a better one of its group and class overlaps it by more than `iou`. Scores must be above `score`;
    those that are equal to it pass in `visionkit.ops.nms` and not here.

    Args:
        boxes: f32 [G, A, 4].
        scores: f32 [G, C, A].
        most: i64 [1], decisions a group and class.
        iou, score: f32 [1], thresholds.
    """
    rows = [boxes.new_zeros((0, 3), dtype=torch.int64)]
    for group in range(len(boxes)):
        label, box = (scores[group] > score).nonzero().unbind(1)
        keep = nms_per_class(boxes[group, box], scores[group, label, box], label, float(iou))
        # In ONNX's order: class by class.
        keep = keep[label[keep].argsort(stable=True)]
        place = torch.arange(len(keep)) - torch.searchsorted(label[keep], label[keep])
        keep = keep[place < most]
        rows.append(torch.stack((torch.full_like(keep, group), label[keep], box[keep]), 1))
    return torch.cat(rows)


@suppressed.register_fake
def _(boxes: Tensor, scores: Tensor, most: Tensor, iou: Tensor, score: Tensor) -> Tensor:
    return boxes.new_empty((torch.library.get_ctx().new_dynamic_size(), 3), dtype=torch.int64)


def suppression_node(boxes: Any, scores: Any, most: Any, iou: Any, score: Any) -> Any:
    """The operator in a graph."""
    import onnxscript  # noqa: PLC0415 - an extra

    return onnxscript.opset18.NonMaxSuppression(boxes, scores, most, iou, score)


def best_of_images(image: Tensor, scores: Tensor, most: Tensor, images: int) -> Tensor:
    """Which of N decisions stay, i64 [M], best first: of each image the `most` best.

    Args:
        image: i64 [N], which one each is in.
        scores: f32 [N].
        most: i64 [1].
        images: B.
    """
    order = scores.sort(descending=True)[1]
    own = image[order][:, None] == torch.arange(images)
    # The place of each decision among those of its own image, 1 for the best.
    place = (own.to(torch.int64).cumsum(0) * own).sum(1)
    return order[(place <= most).nonzero().squeeze(1)]


def decided(
    boxes: Tensor, scores: Tensor, score: Tensor, iou: Tensor, most: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The decisions of a batch, best first: i64 [N] image, i64 [N] class, i64 [N] box and f32 [N] score of each.

    Args:
        boxes: f32 [B, A, 4].
        scores: f32 [B, K, A].
        score, iou: f32 [1], thresholds.
        most: i64 [1], decisions an image.
    """
    image, label, box = suppressed(boxes, scores, most, iou, score).unbind(1)
    confidence = scores[image, label, box]
    kept = best_of_images(image, confidence, most, boxes.shape[0])
    return image[kept], label[kept], box[kept], confidence[kept]


def best_rows(scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The `most` best of each row [B, N], scores and places [B, most]; of fewer all, and then places beyond them, whose
    score is minus infinity."""
    return F.pad(scores, (0, most), value=-torch.inf).topk(most, dim=1)
