"""Cross-stage partial blocks: half the channels pass by the work of the other half."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visionkit.nn.conv import Bottleneck, ConvNormAct


class CspBlock(nn.Module):
    """Split the channels, run a chain of bottlenecks on one half, concatenate every intermediate result, mix by 1x1.

    Source: Wang et al. 2019, CSPNet, section 3 (the split); Wang et al. 2022, Designing Network Design Strategies
    Through Gradient Path Analysis, section 3.3 (aggregating every intermediate result, as ELAN does).
    """

    def __init__(self, in_channels: int, out_channels: int, depth: int = 1, residual: bool = True) -> None:
        super().__init__()
        half = out_channels // 2
        self.entry = ConvNormAct(in_channels, 2 * half)
        self.blocks = nn.ModuleList(Bottleneck(half, residual) for _ in range(depth))
        self.exit = ConvNormAct((2 + depth) * half, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.entry(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        mixed: Tensor = self.exit(torch.cat(parts, 1))
        return mixed


class SpatialPyramidPool(nn.Module):
    """Max pooling over 5, 9 and 13 pixels beside the input, mixed by 1x1. Three chained 5-pixel pools do it.

    Source: He et al. 2014, Spatial Pyramid Pooling; in this stride-1 form, Redmon and Farhadi's successors
    (Bochkovskiy et al. 2020, YOLOv4, section 3.4).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.entry = ConvNormAct(channels, half)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.exit = ConvNormAct(4 * half, channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.entry(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        mixed: Tensor = self.exit(torch.cat(parts, 1))
        return mixed
