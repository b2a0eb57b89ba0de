"""Boxes as tensors: x1 y1 x2 y2 in pixels, half-open, so that width = x2 - x1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPSILON = 1e-7


def box_area(boxes: Tensor) -> Tensor:
    """Areas [...] of boxes [..., 4]; 0 where a box is inverted."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [..., 4] cut to an image of so many pixels H, W; one that lies beyond it is left empty at its edge."""
    height, width = size
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def intersection_area(a: Tensor, b: Tensor) -> Tensor:
    """Areas of overlap [...] of boxes [..., 4], broadcast against each other."""
    top_left = torch.maximum(a[..., :2], b[..., :2])
    bottom_right = torch.minimum(a[..., 2:], b[..., 2:])
    return (bottom_right - top_left).clamp(min=0).prod(-1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union [...] of boxes [..., 4], broadcast against each other; 0 for two empty boxes.

    For all pairs of N and M boxes: `box_iou(a[:, None], b[None])`, [N, M].

    >>> box_iou(torch.tensor([0., 0., 2., 2.]), torch.tensor([1., 0., 3., 2.])).item()  # 2 / (4 + 4 - 2)
    0.3333333432674408
    """
    overlap = intersection_area(a, b)
    union = box_area(a) + box_area(b) - overlap
    return overlap / union.clamp(min=EPSILON)


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU [...] of boxes [..., 4], broadcast, in (-1, 1]: IoU less the share of the hull that neither box fills.

    Source: Rezatofighi et al. 2019, Generalized Intersection over Union, algorithm 1.
    """
    overlap = intersection_area(a, b)
    union = box_area(a) + box_area(b) - overlap
    hull = _hull_sides(a, b).prod(-1)
    return overlap / union.clamp(min=EPSILON) - (hull - union) / hull.clamp(min=EPSILON)


def distance_iou(a: Tensor, b: Tensor) -> Tensor:
    """DIoU [...] of boxes [..., 4], broadcast, in (-1, 1]: IoU less a penalty for the distance of the centres.

    Source: Zheng et al. 2020, Distance-IoU Loss, equations 6 and 7.
    """
    return box_iou(a, b) - _centre_penalty(a, b)


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """CIoU [...] of boxes [..., 4], elementwise, in (-1.5, 1]: IoU less a penalty for distance and aspect ratio.

    Source: Zheng et al. 2020, Distance-IoU Loss, equations 7 to 11; the trade-off weight takes no gradient.
    """
    iou = box_iou(a, b)
    # Before the aspect, not where it is used: gradients are summed in the order of the work, to the last bit.
    penalty = _centre_penalty(a, b)
    size_a, size_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    angle_a = torch.atan(size_a[..., 0] / (size_a[..., 1] + EPSILON))
    angle_b = torch.atan(size_b[..., 0] / (size_b[..., 1] + EPSILON))
    aspect = (4 / math.pi**2) * (angle_a - angle_b).square()
    with torch.no_grad():
        trade_off = aspect / (1 - iou + aspect + EPSILON)
    return iou - penalty - trade_off * aspect


def _hull_sides(a: Tensor, b: Tensor) -> Tensor:
    """Width and height [..., 2] of the smallest boxes that hold both."""
    return torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])


def _centre_penalty(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the centres [...] over the squared diagonal of the hull."""
    diagonal = _hull_sides(a, b).square().sum(-1) + EPSILON
    between_centres = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]).square().sum(-1) / 4
    return between_centres / diagonal
