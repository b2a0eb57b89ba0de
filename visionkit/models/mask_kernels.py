"""Dynamic masks: every point of a detector has weights for a small network, which tells its object's pixels from all
others.

Source: Tian et al. 2020, Conditional Convolutions for Instance Segmentation (CondInst), section 3. With one layer it
would be prototypes and their coefficients (Bolya et al. 2019, YOLACT), the worst depth of CondInst's table 1, and save
next to nothing: the two layers of 300 objects take 4 % of the multiply-adds of the map that they read, at 640 px.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.nn.conv import ConvNormAct
from visionkit.types import Level

FEATURES = 8
"""Channels of the map that the networks of all objects read."""

HIDDEN = 8
"""Channels between the two layers of an object's network."""

INPUTS = FEATURES + 2
"""With x and y."""

KERNEL_SHAPES = ((HIDDEN, INPUTS), (HIDDEN, 1), (1, HIDDEN), (1, 1))
"""Weights and biases of both layers, as they follow one another in a kernel."""

KERNEL_SIZE = sum(rows * columns for rows, columns in KERNEL_SHAPES)


class MaskKernels(nn.Module):
    """One map of features twice as fine as the finest level, and at each point of each level a kernel.

    Args:
        levels: of the neck, fine to coarse.
        width: of the convolutions before the features.
        kernel_width: of the towers before the kernels.
    """

    def __init__(self, levels: Sequence[Level], width: int = 64, kernel_width: int = 32) -> None:
        super().__init__()
        # Of a path aggregation neck the finest map has already seen the coarser ones.
        self.tower = nn.Sequential(ConvNormAct(levels[0].channels, width, 3), ConvNormAct(width, width, 3))
        self.enlarge = nn.ConvTranspose2d(width, FEATURES, 2, 2)
        self.kernel_towers = nn.ModuleList(_narrow_tower(level.channels, kernel_width) for level in levels)
        self.kernel_predictors = nn.ModuleList(nn.Conv2d(kernel_width, KERNEL_SIZE, 1) for _ in levels)
        self.stride = levels[0].stride // 2
        """Pixels from one cell of the features to the next."""
        self.reset_predictors()

    def reset_predictors(self) -> None:
        """Start with one network for all objects, which each of them changes a little.

        Kernels around 0 would have gradients around 0: those of either layer are products with the other's weights.
        """
        spreads = (math.sqrt(2 / INPUTS), 0.0, math.sqrt(1 / HIDDEN), 0.0)
        start = torch.cat(
            [s * torch.randn(rows * columns) for s, (rows, columns) in zip(spreads, KERNEL_SHAPES, strict=True)]
        )
        for predictor in self.kernel_predictors:
            nn.init.normal_(cast(nn.Conv2d, predictor).weight, std=0.01)
            with torch.no_grad():
                cast(Tensor, predictor.bias).copy_(start)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps of the levels -> kernels [B, A, KERNEL_SIZE] of the points in the order of `anchor_points`, and features
        [B, FEATURES, H, W]."""
        kernels = [
            predictor(tower(x)).flatten(2).transpose(1, 2)
            for tower, predictor, x in zip(self.kernel_towers, self.kernel_predictors, maps, strict=True)
        ]
        return torch.cat(kernels, 1), self.enlarge(self.tower(maps[0]))


def _narrow_tower(in_channels: int, width: int) -> nn.Sequential:
    """To few channels by a 1x1, then a look around by a depthwise 3x3: half of what the class tower costs."""
    return nn.Sequential(ConvNormAct(in_channels, width), ConvNormAct(width, width, 3, groups=width))


def object_masks(features: Tensor, stride: int, kernels: Tensor, boxes: Tensor, cells: int) -> Tensor:
    """The masks that R objects of one image have in their boxes, as logits [R, cells, cells].

    At the centre of each cell the object's network gets the features, interpolated, and the place in the box: x and y
    from -1 to 1. (The paper gives it the place relative to the object's point, in all of the image: a box says where
    and how large the object is, so its network need not.)

    Single precision, whatever the features and kernels are in.

    Args:
        features: [FEATURES, H, W].
        stride: of them, in pixels.
        kernels: [R, KERNEL_SIZE].
        boxes: f32 [R, 4] x1 y1 x2 y2 in pixels; beyond the image the features of its border count.
        cells: on each side of a mask.
    """
    share = (torch.arange(cells, device=boxes.device, dtype=boxes.dtype) + 0.5) / cells
    points = boxes[:, None, :2] + share[:, None] * (boxes[:, None, 2:] - boxes[:, None, :2])  # [R, cells, 2]
    height, width = features.shape[-2:]
    places = 2 * points / (stride * points.new_tensor([width, height])) - 1  # -1 and 1 are the sides of the map
    x, y = places[:, None, :, 0], places[:, :, None, 1]
    grid = torch.stack(torch.broadcast_tensors(x, y), 3).flatten(0, 1)  # [R * cells, cells, 2]
    read = F.grid_sample(
        features[None].float(), grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    inputs = read.view(len(features), len(boxes), cells * cells).transpose(0, 1)
    across = (2 * share - 1).expand(cells, cells)
    within = torch.stack((across, across.T)).flatten(1)  # [2, cells * cells]
    inputs = torch.cat((inputs, within.expand(len(boxes), -1, -1)), 1)

    first, first_bias, last, last_bias = unpacked(kernels.float())
    hidden = torch.baddbmm(first_bias, first, inputs).relu()
    return torch.baddbmm(last_bias, last, hidden).view(-1, cells, cells)


def unpacked(kernels: Tensor) -> list[Tensor]:
    """[R, KERNEL_SIZE] -> [R, rows, columns] for each of `KERNEL_SHAPES`."""
    ends = accumulate((rows * columns for rows, columns in KERNEL_SHAPES), initial=0)
    return [
        kernels[:, start:end].reshape(-1, *shape)
        for (start, end), shape in zip(pairwise(ends), KERNEL_SHAPES, strict=True)
    ]
