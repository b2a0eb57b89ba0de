"""Who suppressed whom: what non-maximum suppression decided, with its reasons. For explanations; slower than `nms`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from visionkit.ops.boxes import box_iou
from visionkit.ops.nms import nms_per_class


@dataclass(frozen=True, slots=True)
class Suppression:
    """What became of N boxes.

    Args:
        keep: i64 [M], as `nms_per_class` gives it: the boxes that stay, best score first.
        remover: i64 [N], the kept box that suppressed each; -1 where a box stays.
        overlap: f32 [N], its IoU with that one; 0 where a box stays.
    """

    keep: Tensor
    remover: Tensor
    overlap: Tensor


def explain_suppression(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Suppression:
    """`nms_per_class`, and for each box that goes the one that removed it: of the kept boxes of its class that overlap
    it by more than `iou` the best, which is the first that it met.

    Args: as `nms_per_class`.
    """
    keep = nms_per_class(boxes, scores, labels, iou)
    remover = torch.full_like(labels, -1)
    overlap = boxes.new_zeros(len(boxes))
    is_gone = torch.ones_like(labels, dtype=torch.bool)
    is_gone[keep] = False
    for label in labels[is_gone].unique():
        gone = (is_gone & (labels == label)).nonzero().squeeze(1)
        kept = keep[labels[keep] == label]
        shared = box_iou(boxes[gone, None], boxes[kept])  # [gone, kept]
        # In double precision, as the compiled suppression compares: 0.7 is no f32. Where that one rounded an overlap of
        # just the threshold up and this one down, it is the largest.
        beyond = shared.double() > iou
        first = torch.where(beyond.any(1), beyond.to(torch.uint8).argmax(1), shared.argmax(1))
        remover[gone] = kept[first]
        overlap[gone] = shared.gather(1, first[:, None]).squeeze(1)
    return Suppression(keep, remover, overlap)
