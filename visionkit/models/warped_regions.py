"""Regions of an image warped to one size, for a network that was made for whole pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CONTEXT = 16 / 227
"""What lies around a box on each side of its warped picture, as a share of that (Girshick et al. 2014, appendix A)."""


def with_context(boxes: Tensor) -> Tensor:
    """Boxes [R, 4] grown about their centres until they take up all but `CONTEXT` on each side of what they were.

    >>> with_context(torch.tensor([[10.0, 20, 205, 215]])).tolist()  # 195 px of 227, with 16 on each side
    [[-6.0, 4.0, 221.0, 231.0]]
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / (2 * (1 - 2 * CONTEXT))
    return torch.cat((centre - half, centre + half), 1)


def warp(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    """What an image shows in boxes, each stretched to a square whatever its shape.

    What lies beyond the image is 0, which is the mean colour of a normalised image (appendix A likewise). A box that is
    much larger than the square is read from an image brought down by halves, where linear interpolation would skip
    pixels.

    Args:
        image: f32 [C, H, W].
        boxes: f32 [R, 4] x1 y1 x2 y2 in pixels; R may be 0.
        side: of the squares.

    Returns:
        f32 [R, C, side, side].
    """
    pictures = image.new_empty(len(boxes), len(image), side, side)
    longest = (boxes[:, 2:] - boxes[:, :2]).amax(1) if len(boxes) else boxes.new_empty(0)
    halvings = (longest / side).clamp(min=1).log2().floor()
    halved, factor = image[None], 1
    for level in range(int(halvings.max()) + 1 if len(boxes) else 0):
        if level:
            halved, factor = F.avg_pool2d(halved, 2, ceil_mode=True, count_include_pad=False), 2 * factor
        chosen = (halvings == level).nonzero().squeeze(1)
        if len(chosen):
            pictures[chosen] = _read(halved, boxes[chosen] / factor, side)
    return pictures


def _read(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    """[1, C, H, W], [R, 4] -> [R, C, side, side], by linear interpolation at the centres of the squares' pixels."""
    height, width = image.shape[-2:]
    share = (torch.arange(side, device=boxes.device) + 0.5) / side
    x, y = (
        2 / size * (boxes[:, axis, None] + share * (boxes[:, axis + 2] - boxes[:, axis])[:, None]) - 1
        for axis, size in ((0, width), (1, height))
    )
    where = torch.stack((x[:, None].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)), -1)
    # One tall picture instead of R, which would want R copies of the image.
    read = F.grid_sample(image, where.reshape(1, -1, side, 2), padding_mode="zeros", align_corners=False)
    regions: Tensor = read[0].unflatten(1, (-1, side)).transpose(0, 1)
    return regions
