"""Non-maximum suppression, exact and per class."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms


def nms_per_class(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """Indices [M] of the boxes that no better box of the same class overlaps by more than `iou`, best score first.

    Each class is suppressed on its own. Shifting the classes apart and suppressing once would be shorter, but
    the shifted coordinates lose bits and the result differs by a few boxes.

    Args:
        boxes: f32 [N, 4] x1 y1 x2 y2.
        scores: f32 [N].
        labels: i64 [N].
        iou: boxes that overlap by more are suppressed, in [0, 1].
    """
    kept = [scores.new_empty(0, dtype=torch.int64)]
    for label in labels.unique():
        of_class = (labels == label).nonzero().squeeze(1)
        kept.append(of_class[nms(boxes[of_class], scores[of_class], iou)])
    keep = torch.cat(kept)
    return keep[scores[keep].argsort(descending=True, stable=True)]
