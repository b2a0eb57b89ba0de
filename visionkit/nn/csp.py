"""Cross-stage partial blocks: half the channels pass by the work of the other half."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visionkit.nn.activations import Activation
from visionkit.nn.conv import HARD_SWISH, ConvNormAct, Residual
from visionkit.nn.norms import Norm


class CspBlock(nn.Module):
    """Two 1x1 convolutions part the input; one runs through residual blocks, the other passes by; a 1x1 mixes both.

    Source: Wang et al. 2019, CSPNet, section 3.2 and figure 2 (partial block, then transition after the concatenation).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int = 1,
        residual: bool = True,
        *,
        norm: Norm = nn.BatchNorm2d,
        activation: Activation = HARD_SWISH,
    ) -> None:
        super().__init__()
        half = out_channels // 2
        self.bypass = ConvNormAct(in_channels, half, norm=norm, activation=activation)
        self.entry = ConvNormAct(in_channels, half, norm=norm, activation=activation)
        self.blocks = nn.Sequential(*(Residual(half, residual, norm=norm, activation=activation) for _ in range(depth)))
        self.transition = ConvNormAct(2 * half, out_channels, norm=norm, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.transition(torch.cat((self.blocks(self.entry(x)), self.bypass(x)), 1))
        return mixed


class SpatialPyramidPool(nn.Module):
    """Max pooling over 5, 9 and 13 cells beside the input itself, all concatenated and mixed by 1x1.

    Source: He et al. 2014, Spatial Pyramid Pooling; at stride 1, as Bochkovskiy et al. 2020, YOLOv4, section 3.4
    """

    def __init__(self, channels: int, *, norm: Norm = nn.BatchNorm2d, activation: Activation = HARD_SWISH) -> None:
        super().__init__()
        half = channels // 2
        self.entry = ConvNormAct(channels, half, norm=norm, activation=activation)
        self.pools = nn.ModuleList(nn.MaxPool2d(size, stride=1, padding=size // 2) for size in (5, 9, 13))
        self.transition = ConvNormAct(4 * half, channels, norm=norm, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        mixed: Tensor = self.transition(torch.cat([x, *(pool(x) for pool in self.pools)], 1))
        return mixed
