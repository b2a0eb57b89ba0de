"""Matching: which anchor point answers for which ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from visionkit.ops.boxes import box_area, box_iou, intersection_area

POSITIVE, BACKGROUND, IGNORE = 1, 0, -1


@dataclass(frozen=True, slots=True)
class Matches:
    """What a matcher decides for the A anchors of each of B images.

    Args:
        gt_index: i64 [B, A], the ground truth of each anchor, a row of the batch's truths; 0 where the anchor is not
            positive.
        label: i64 [B, A], POSITIVE, BACKGROUND or IGNORE.
        quality: f32 [B, A] in [0, 1], how well a positive anchor does its job; 0 elsewhere.
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
    gt_image: Tensor,
    *,
    top: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> Matches:
    """Task-aligned assignment: each ground truth takes the `top` points that classify and localise it best.

    Source: Feng et al. 2021, TOOD, section 3.2: alignment t = s^alpha * u^beta (equation 6) of the score s of the
    truth's class and the IoU u. A point wanted by several truths goes to the one it overlaps most, the first of equals.
    `quality` is t scaled, per truth, to the truth's largest IoU. Candidates are points inside the box; a box that holds
    no point (a tiny object between cells) takes the points within one stride of its centre. A point whose predicted box
    misses the truth altogether is never positive.

    Points that are mostly inside an ignored region (a crowd) and not positive are IGNORE: their predicted box lies in
    the region by more than half.

    The truths of all images lie end to end, and what is computed is computed for pairs of a truth and a point that may
    match, a few hundredths of all: images without a truth and images with many need no case of their own.

    Args:
        scores: [B, A, K] in [0, 1].
        boxes: [B, A, 4] predicted boxes in pixels.
        points, strides: [A, 2] and [A], in pixels.
        gt_boxes, gt_labels, gt_ignore: [G, 4], [G], [G] over all images; G may be 0.
        gt_image: [G], which of the B images each truth is in.
    """
    count = len(points)
    matches = Matches(
        gt_index=torch.zeros_like(boxes[..., 0], dtype=torch.int64),
        label=torch.full_like(boxes[..., 0], BACKGROUND, dtype=torch.int64),
        quality=torch.zeros_like(boxes[..., 0]),
    )
    _ignore_inside(gt_boxes[gt_ignore], gt_image[gt_ignore], boxes, matches.label)
    if not count or gt_ignore.all():
        return matches

    # The pairs that may match: truth g, point a.
    candidates = _points_inside(points, strides, gt_boxes) & ~gt_ignore[:, None]
    g, a = candidates.nonzero().unbind(1)
    overlap = box_iou(gt_boxes[g], boxes[gt_image[g], a])
    alignment = boxes.new_zeros(candidates.shape)  # [G, A]
    alignment[g, a] = scores[gt_image[g], a, gt_labels[g]].pow(alpha) * overlap.pow(beta)

    # The pairs that a truth wants.
    best = alignment.topk(min(top, count), dim=1)
    g, rank = (best.values > 0).nonzero().unbind(1)
    a, aligned = best.indices[g, rank], best.values[g, rank]
    overlap = box_iou(gt_boxes[g], boxes[gt_image[g], a])

    # A point serves one truth: the one it overlaps most.
    place = gt_image[g] * count + a
    most = boxes.new_zeros(boxes[..., 0].numel()).scatter_reduce(0, place, overlap, "amax")
    first = g.new_full(most.shape, len(gt_boxes))
    foremost = overlap == most[place]
    first.scatter_reduce_(0, place[foremost], g[foremost], "amin")
    owned = first[place] == g
    g, place, aligned, overlap = g[owned], place[owned], aligned[owned], overlap[owned]

    per_truth = boxes.new_zeros(len(gt_boxes))
    largest, best_iou = (per_truth.scatter_reduce(0, g, values, "amax") for values in (aligned, overlap))
    # Both lie above zero. A tiny object's IoU with a fresh network's boxes, to the sixth power, is far below any usual
    # epsilon, so there is none.
    matches.label.view(-1)[place] = POSITIVE
    matches.gt_index.view(-1)[place] = g
    matches.quality.view(-1)[place] = aligned / largest[g] * best_iou[g]
    return matches


def _ignore_inside(crowds: Tensor, image: Tensor, boxes: Tensor, label: Tensor) -> None:
    """Label IGNORE what lies in crowds [N, 4] of images [N] by more than half."""
    for crowd, b in zip(crowds, image.tolist(), strict=True):
        share = intersection_area(boxes[b], crowd) / box_area(boxes[b]).clamp(min=1e-7)
        label[b, share > 0.5] = IGNORE


def _points_inside(points: Tensor, strides: Tensor, gt_boxes: Tensor) -> Tensor:
    """bool [G, A]: points inside each box, or, for a box that holds none, within one stride of its centre."""
    x, y = points.T
    x1, y1, x2, y2 = gt_boxes.T[..., None]
    inside: Tensor = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    between = ~inside.any(1)
    centres = (gt_boxes[between, :2] + gt_boxes[between, 2:]) / 2
    inside[between] = (points - centres[:, None]).abs().amax(-1) < strides
    return inside
