"""Sizes that a graph learns when it runs: of its images, and with them anchors and the edges that boxes are cut at."""

from __future__ import annotations

import torch
from torch import Tensor


def channels_first(images: Tensor) -> Tensor:
    """Images of a graph, u8 [B, H, W, 3], as a model takes them: [B, 3, H, W]."""
    return images.permute(0, 3, 1, 2)


def edges(images: Tensor) -> Tensor:
    """f32 [4]: W H W H of images [B, H, W, 3], the largest corners that a box in them can have."""
    height, width = (torch.full((1,), images.shape[dim], dtype=torch.float32) for dim in (1, 2))
    return torch.cat((width, height, width, height))


def cut(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes [..., 4] cut to an image whose `edges` are these: `visionkit.ops.boxes.clip_boxes`."""
    return boxes.clamp(min=0).minimum(limits)


def rows_of(predictions: Tensor, values: int) -> Tensor:
    """[B, A * V, H, W] -> [B, H * W * A, V]: `visionkit.ops.anchors.rows_of_anchors`, for maps of any size."""
    rows: Tensor = predictions.unflatten(1, (-1, values)).permute(0, 3, 4, 1, 2).flatten(1, 3)
    return rows


def anchors_on(x: Tensor, cell: Tensor, images: Tensor) -> Tensor:
    """f32 [h * w * A, 4], the anchors of one map [B, C, h, w] of images [B, H, W, 3]:
    `visionkit.ops.anchors.anchor_boxes`, for maps of any size.

    Args:
        cell: f32 [A, 4], of one of its cells.
    """
    height, width = x.shape[-2:]
    rows, columns = (
        torch.arange(cells, dtype=torch.float32) * torch.full((1,), side // cells, dtype=torch.float32)
        for cells, side in ((height, images.shape[1]), (width, images.shape[2]))
    )
    y, x_ = torch.meshgrid(rows, columns, indexing="ij")
    corners = torch.stack((x_, y, x_, y), -1).flatten(0, 1)
    return (corners[:, None] + cell).flatten(0, 1)
