"""What of an object's mask lies in a region: the truth that a mask head learns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_SIDE = 1e-3
"""Pixels; no box is divided by less."""


def region_masks(masks: Tensor, boxes: Tensor, regions: Tensor, cells: int) -> Tensor:
    """Masks that are given on their own boxes, read on regions: bool [R, cells, cells].

    A cell of a region is inside where the mask says so at its centre, interpolated between the mask's cells; what lies
    beyond the box is outside. Source: He et al. 2017, Mask R-CNN, section 3.1, "Training": the intersection between an
    RoI and its ground-truth mask.

    Args:
        masks: [R, M, M], 1 inside, on M x M cells that divide the box evenly.
        boxes: [R, 4], of the masks.
        regions: [R, 4].
        cells: on each side of the result.

    >>> half = torch.tensor([[[1, 0], [1, 0]]])  # the left half of a box 8 px wide, read 2 px further right
    >>> box, region = torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([[2.0, 0, 10, 8]])
    >>> region_masks(half, box, region, 4)[0].int().tolist()[0]
    [1, 0, 0, 0]
    """
    corner, side = boxes[:, :2], (boxes[:, 2:] - boxes[:, :2]).clamp(min=LEAST_SIDE)
    share = (torch.arange(cells, device=boxes.device, dtype=boxes.dtype) + 0.5) / cells
    points = regions[:, None, :2] + share[:, None] * (regions[:, None, 2:] - regions[:, None, :2])  # [R, cells, 2]
    within = 2 * (points - corner[:, None]) / side[:, None] - 1  # -1 and 1 are the sides of the box
    x, y = within[:, None, :, 0], within[:, :, None, 1]
    grid = torch.stack(torch.broadcast_tensors(x, y), 3)
    read = F.grid_sample(
        masks[:, None].to(boxes.dtype), grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return read[:, 0] >= 0.5
