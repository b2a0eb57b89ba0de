"""Box coding: between boxes and what a network regresses. Law: `decode(encode(boxes, points), points) == boxes`."""

from __future__ import annotations

import torch
from torch import Tensor


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
    return distribution @ torch.arange(distribution.shape[-1], dtype=torch.float32, device=logits.device)
