"""Path aggregation neck: coarse meaning flows down to fine levels, fine position flows back up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.errors import UsageError
from visionkit.nn.conv import ConvNormAct
from visionkit.nn.csp import CspBlock
from visionkit.types import Level


class PathAggregation(nn.Module):
    """P levels in, P levels of the same strides out, each with `widths[p]` channels.

    Source: Liu et al. 2018, Path Aggregation Network, section 3.1, with concatenation instead of addition
    (Bochkovskiy et al. 2020, YOLOv4, section 3.4) and CSP blocks instead of single convolutions.

    Raises:
        UsageError: a level's stride is not twice the one before.
    """

    def __init__(self, levels: Sequence[Level], widths: Sequence[int], depth: int = 1) -> None:
        super().__init__()
        strides = [level.stride for level in levels]
        if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
            raise UsageError(f"a path aggregation neck needs levels whose strides double, got {strides}")
        # Where the backbone is much wider than the neck, a 1x1 convolution first brings each level to its width.
        self.lateral = nn.ModuleList(
            nn.Identity() if level.channels <= width else ConvNormAct(level.channels, width)
            for level, width in zip(levels, widths, strict=True)
        )
        entering = [min(level.channels, width) for level, width in zip(levels, widths, strict=True)]
        pairs = range(len(levels) - 1)
        self.top_down = nn.ModuleList(
            CspBlock(
                entering[p] + (entering[-1] if p == pairs[-1] else widths[p + 1]), widths[p], depth, residual=False
            )
            for p in pairs
        )
        self.down = nn.ModuleList(ConvNormAct(widths[p], widths[p], 3, stride=2) for p in pairs)
        self.bottom_up = nn.ModuleList(
            CspBlock(
                widths[p] + (entering[-1] if p == pairs[-1] else widths[p + 1]), widths[p + 1], depth, residual=False
            )
            for p in pairs
        )
        self.levels = tuple(Level(width, level.stride) for level, width in zip(levels, widths, strict=True))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        maps = [lateral(x) for lateral, x in zip(self.lateral, features, strict=True)]
        for p in reversed(range(len(self.top_down))):
            enlarged = F.interpolate(maps[p + 1], size=maps[p].shape[-2:], mode="nearest")
            maps[p] = self.top_down[p](torch.cat((maps[p], enlarged), 1))
        for p, (down, mix) in enumerate(zip(self.down, self.bottom_up, strict=True)):
            maps[p + 1] = mix(torch.cat((down(maps[p]), maps[p + 1]), 1))
        return maps
