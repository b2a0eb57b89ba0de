"""Where predictions are made: the anchor points of feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def anchor_points(
    shapes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The centres of all cells of P feature maps, level by level, row by row.

    Source: Tian et al. 2019, FCOS, section 3.1: cell (x, y) of a level with stride s stands for the pixel
    (s/2 + x s, s/2 + y s).

    Args:
        shapes: height and width in cells, one a level.
        strides: input pixels per cell, one a level.

    Returns:
        points f32 [A, 2], x y in input pixels, and the stride of each, f32 [A].

    >>> points, strides = anchor_points([(1, 2)], [8])
    >>> points.tolist(), strides.tolist()
    ([[4.0, 4.0], [12.0, 4.0]], [8.0, 8.0])
    """
    points, point_strides = [], []
    for (height, width), stride in zip(shapes, strides, strict=True):
        y, x = torch.meshgrid(
            torch.arange(height, dtype=torch.float32, device=device),
            torch.arange(width, dtype=torch.float32, device=device),
            indexing="ij",
        )
        points.append((torch.stack((x, y), -1).reshape(-1, 2) + 0.5) * stride)
        point_strides.append(torch.full((height * width,), float(stride), device=device))
    return torch.cat(points), torch.cat(point_strides)
