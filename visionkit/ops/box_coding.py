"""Box coding: between boxes and what a network regresses. Law: `decode(encode(boxes, points), points) == boxes`.

The same law holds for boxes about anchors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGEST_GROWTH = math.log(1000 / 16)
"""Most that the logarithm of a side may grow by when decoded: a fresh network's outputs overflow otherwise."""

LEAST_SIDE = 1e-2
"""Sides are encoded as at least so many pixels: the logarithm of an empty side is endless."""

DeltaWeights = tuple[float, float, float, float]


def encode_distances(boxes: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """Distances left, top, right, bottom from points to the sides of boxes, in strides.

    Source: Tian et al. 2019, FCOS, equation 1, with each level's targets divided by its stride.

    Args:
        boxes: [..., A, 4] x1 y1 x2 y2 in pixels.
        points: [A, 2] x y in pixels.
        strides: [A].

    Returns:
        [..., A, 4]; negative where the point is outside the box.
    """
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), -1) / strides[:, None]


def decode_distances(distances: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """The inverse of `encode_distances`: boxes [..., A, 4] in pixels."""
    distances = distances * strides[:, None]
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1)


def expected_distances(logits: Tensor) -> Tensor:
    """The mean of each side's distribution over the whole numbers 0..R-1.

    Source: Li et al. 2020, Generalized Focal Loss, equation 5.

    Args:
        logits: [..., 4 * R], side by side.

    Returns:
        [..., 4], in strides, in [0, R - 1].
    """
    distribution: Tensor = logits.unflatten(-1, (4, -1)).float().softmax(-1)
    numbers = torch.arange(distribution.shape[-1], dtype=torch.float32, device=logits.device)
    # Not `@`: ONNX Runtime takes ten times as long for the product with one column, a tenth of the whole network.
    return (distribution * numbers).sum(-1)


def encode_deltas(boxes: Tensor, anchors: Tensor, weights: DeltaWeights = (1, 1, 1, 1)) -> Tensor:
    """How boxes differ from anchors: shifts of the centre in sides of the anchor, logarithms of how the sides grow.

    Source: Girshick et al. 2014, R-CNN, appendix C, equations 6 to 9.

    Args:
        boxes, anchors: [..., 4] x1 y1 x2 y2 in pixels, broadcast against each other. Sides below `LEAST_SIDE` count as
            that.
        weights: what each of the four is multiplied by, so that they vary alike.

    Returns:
        [..., 4]: dx, dy, dw, dh.
    """
    sides, anchor_sides = ((b[..., 2:] - b[..., :2]).clamp(min=LEAST_SIDE) for b in (boxes, anchors))
    shift = (boxes[..., :2] + boxes[..., 2:] - anchors[..., :2] - anchors[..., 2:]) / 2 / anchor_sides
    growth = (sides / anchor_sides).log()
    return torch.cat((shift, growth), -1) * boxes.new_tensor(weights)


def decode_deltas(deltas: Tensor, anchors: Tensor, weights: DeltaWeights = (1, 1, 1, 1)) -> Tensor:
    """The inverse of `encode_deltas`: boxes [..., 4] in pixels, of sides at most 62.5 times the anchor's.

    Half precision is decoded in the anchors' precision.
    """
    deltas = deltas.to(anchors.dtype) / anchors.new_tensor(weights)
    anchor_sides = anchors[..., 2:] - anchors[..., :2]
    centres = deltas[..., :2] * anchor_sides + (anchors[..., :2] + 0.5 * anchor_sides)
    halves = 0.5 * (deltas[..., 2:].clamp(max=LARGEST_GROWTH).exp() * anchor_sides)
    return torch.cat((centres - halves, centres + halves), -1)
