"""Matching by overlap: which anchor, or which region of interest, answers for which ground truth."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.ops.boxes import box_area, box_iou, intersection_area
from visionkit.ops.matching import BACKGROUND, IGNORE, POSITIVE


@torch.no_grad()
def match_by_iou(
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_ignore: Tensor,
    *,
    positive: float,
    background: float,
    low_quality: bool = False,
) -> tuple[Tensor, Tensor]:
    """Each of an image's A boxes with the ground truth it overlaps most.

    Source: Ren et al. 2015, Faster R-CNN, section 3.1.2.

    A box is positive from an IoU of `positive` on, background below `background`, and ignored in between; also ignored,
    where it is not positive, if more than half of it lies in an ignored region (a crowd). An image without a ground
    truth is all background.

    Args:
        boxes: [A, 4]; A may be 0.
        gt_boxes, gt_ignore: [G, 4], [G]; G may be 0.
        positive, background: IoU in 0..1, `background` at most `positive`.
        low_quality: the boxes that overlap a truth most, all of equals, are positive for it however little that is,
            unless they are so for another one anyhow: no truth that meets a box goes without. Wanted by several
            truths, a box takes the one it overlaps most.

    Returns:
        gt_index i64 [A], the ground truth of each box, 0 where it is not positive; label i64 [A], POSITIVE, BACKGROUND
        or IGNORE.
    """
    overlap = torch.where(gt_ignore[:, None], 0, box_iou(gt_boxes[:, None], boxes))  # [G, A]
    best, gt_index = _foremost(overlap)
    label = torch.where(best >= positive, POSITIVE, torch.where(best < background, BACKGROUND, IGNORE))
    if low_quality:
        highest = F.pad(overlap, (0, 1)).amax(1, keepdim=True)  # padded, so that A may be 0
        wanted, wanted_by = _foremost(torch.where((overlap == highest) & (highest > 0), overlap, 0))
        rescued = (wanted > 0) & (label != POSITIVE)
        gt_index = torch.where(rescued, wanted_by, gt_index)
        label = torch.where(rescued, POSITIVE, label)

    inside = intersection_area(gt_boxes[:, None], boxes) > 0.5 * box_area(boxes)
    in_crowd = (inside & gt_ignore[:, None]).any(0) & (label != POSITIVE)
    label = torch.where(in_crowd, IGNORE, label)
    return torch.where(label == POSITIVE, gt_index, 0), label


def _foremost(overlap: Tensor) -> tuple[Tensor, Tensor]:
    """The largest overlap of each column [A] and the row it stands in, the first of equals; 0 where there is no row."""
    # One more row, of no object: neither an image without a truth nor a box that meets none is a special case.
    best, row = F.pad(overlap, (0, 0, 0, 1)).max(0)
    return best, row
