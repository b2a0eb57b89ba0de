"""Matching: which anchor point answers for which ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from visionkit.ops.boxes import box_area, box_iou, intersection_area

POSITIVE, BACKGROUND, IGNORE = 1, 0, -1


@dataclass(frozen=True, slots=True)
class Matches:
    """What a matcher decides for the A anchors of one image.

    Args:
        gt_index: i64 [A], the ground truth of each anchor; 0 where the anchor is not positive.
        label: i64 [A], POSITIVE, BACKGROUND or IGNORE.
        quality: f32 [A] in [0, 1], how well a positive anchor does its job; 0 elsewhere.
    """

    gt_index: Tensor
    label: Tensor
    quality: Tensor


@torch.no_grad()
def match_task_aligned(
    scores: Tensor,
    boxes: Tensor,
    points: Tensor,
    strides: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    gt_ignore: Tensor,
    *,
    top: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> Matches:
    """Task-aligned assignment: each ground truth takes the `top` points that classify and localise it best.

    Source: Feng et al. 2021, TOOD, section 3.2: alignment t = s^alpha * u^beta (equation 6) of the score s of the
    truth's class and the IoU u. A point wanted by several truths goes to the one it overlaps most. `quality` is t
    scaled, per truth, to the truth's largest IoU. Candidates are points inside the box; a box that holds no point (a
    tiny object between cells) takes the points within one stride of its centre. A point whose predicted box misses
    the truth altogether is never positive.

    Points that are mostly inside an ignored region (a crowd) and not positive are IGNORE: their predicted box lies in
    the region by more than half.

    Args:
        scores: [A, K] in [0, 1].
        boxes: [A, 4] predicted boxes in pixels.
        points, strides: [A, 2] and [A], in pixels.
        gt_boxes, gt_labels, gt_ignore: [G, 4], [G], [G]; G may be 0.
    """
    count = len(points)
    crowds, gt_boxes, gt_labels = gt_boxes[gt_ignore], gt_boxes[~gt_ignore], gt_labels[~gt_ignore]
    kept = (~gt_ignore).nonzero().squeeze(1)  # [G'] -> rows of the caller's ground truths
    label = points.new_full((count,), BACKGROUND, dtype=torch.int64)
    gt_index = torch.zeros_like(label)
    quality = points.new_zeros(count)

    if len(crowds):
        inside = intersection_area(boxes[:, None], crowds[None]) / box_area(boxes)[:, None].clamp(min=1e-7)
        label[(inside > 0.5).any(1)] = IGNORE
    if not count or not len(gt_boxes):
        return Matches(gt_index, label, quality)

    iou = box_iou(gt_boxes[:, None], boxes[None])  # [G, A]
    candidates = _points_inside(points, strides, gt_boxes)
    alignment = scores.T[gt_labels].pow(alpha) * iou.pow(beta) * candidates

    wanted = torch.zeros_like(candidates)
    best = alignment.topk(min(top, count), dim=1)
    wanted.scatter_(1, best.indices, best.values > 0)

    # A point serves one truth: the one it overlaps most.
    owner = (iou * wanted).argmax(0)
    positive = wanted.any(0)

    is_owned = torch.zeros_like(wanted)
    is_owned[owner, torch.arange(count, device=owner.device)] = positive
    owned = alignment * is_owned
    # A tiny object's IoU with a fresh network's boxes, to the sixth power, is far below any usual epsilon.
    relative = owned / owned.amax(1, keepdim=True).clamp(min=torch.finfo(owned.dtype).tiny)
    best_iou = (iou * is_owned).amax(1, keepdim=True)
    label[positive] = POSITIVE
    gt_index[positive] = kept[owner[positive]]
    quality[positive] = (relative * best_iou).amax(0)[positive]
    return Matches(gt_index, label, quality)


def _points_inside(points: Tensor, strides: Tensor, gt_boxes: Tensor) -> Tensor:
    """bool [G, A]: points inside each box, or, for a box that holds none, within one stride of its centre."""
    offsets = torch.cat((points[None] - gt_boxes[:, None, :2], gt_boxes[:, None, 2:] - points[None]), -1)
    inside = offsets.amin(-1) > 0
    centres = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2
    near = (points[None] - centres[:, None]).abs().amax(-1) < strides[None]
    return torch.where(inside.any(1, keepdim=True), inside, near)
