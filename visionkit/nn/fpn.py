"""Feature pyramid: what the coarse maps know brought to the fine ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.nn.conv import conv_layers
from visionkit.nn.norms import Norm, no_norm
from visionkit.types import Level

Extra = Literal["none", "pool", "convolve-p", "convolve-c"]


class FeaturePyramid(nn.Module):
    """A 1x1 convolution a map to one width, each map added to the next finer one, a 3x3 convolution on each sum.

    Source: Lin et al. 2017, Feature Pyramid Networks, section 3.

    Parameter names are torchvision's: `inner_blocks.0.0.weight` (1x1), `layer_blocks.0.0.weight` (3x3), fine to coarse;
    `extra_blocks.p6`, `extra_blocks.p7`.

    Args:
        levels: of the maps that `forward` takes, fine to coarse.
        width: channels of all maps that it returns.
        norm: after each of those convolutions.
        extra: coarser maps behind the others: `pool`, one, every second pixel of the coarsest (section 4.1, footnote);
            `convolve-p`, two, by strided convolutions from the pyramid's coarsest; `convolve-c`, two, from the
            backbone's (Lin et al. 2017, Focal Loss, section 4, footnote 2); `none`.
    """

    def __init__(self, levels: Sequence[Level], width: int, *, norm: Norm = no_norm, extra: Extra = "none") -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(
            nn.Sequential(*conv_layers(level.channels, width, norm=norm)) for level in levels
        )
        self.layer_blocks = nn.ModuleList(nn.Sequential(*conv_layers(width, width, 3, norm=norm)) for _ in levels)
        self.extra = extra
        strides = [level.stride for level in levels]
        if extra == "pool":
            strides.append(2 * strides[-1])
        elif extra != "none":
            in_channels = width if extra == "convolve-p" else levels[-1].channels
            self.extra_blocks = nn.ModuleDict(
                {"p6": nn.Conv2d(in_channels, width, 3, 2), "p7": nn.Conv2d(width, width, 3, 2)}
            )
            strides += [2 * strides[-1], 4 * strides[-1]]
        self.levels = tuple(Level(width, stride) for stride in strides)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        sums = [inner(x) for inner, x in zip(self.inner_blocks, features, strict=True)]
        for p in reversed(range(len(sums) - 1)):
            sums[p] = sums[p] + F.interpolate(sums[p + 1], size=sums[p].shape[-2:], mode="nearest")
        maps: list[Tensor] = [layer(x) for layer, x in zip(self.layer_blocks, sums, strict=True)]
        if self.extra == "pool":
            maps.append(F.max_pool2d(maps[-1], 1, stride=2))
        elif self.extra != "none":
            # Padded here: of a map of one pixel, torch 2.15 on a CPU leaves the weight gradient of a padded, strided
            # convolution in bf16 uninitialised.
            coarsest = maps[-1] if self.extra == "convolve-p" else features[-1]
            maps.append(self.extra_blocks["p6"](F.pad(coarsest, (1, 1, 1, 1))))
            maps.append(self.extra_blocks["p7"](F.pad(F.relu(maps[-1]), (1, 1, 1, 1))))
        return maps
