"""The light backbone: small, quick on a CPU, exactly 10 units."""

from __future__ import annotations

from torch import Tensor, nn

from visionkit.nn.activations import Activation
from visionkit.nn.conv import HARD_SWISH, ConvNormAct
from visionkit.nn.csp import CspBlock, SpatialPyramidPool
from visionkit.nn.norms import Norm
from visionkit.types import Level, Unit

WIDTHS = (16, 32, 64, 128, 192)
DEPTHS = (1, 2, 4, 2)


class CspLight(nn.Module):
    """Five halvings, a cross-stage partial block after each but the first, spatial pyramid pooling at the end.

    Source: partial stages after Wang et al. 2019, CSPNet, with most depth in the third, as He et al. 2015 (ResNet,
    table 1) place it. The widths are ours: each half is a multiple of 16, the lanes of a 512-bit register (20 or 40
    channels run at two thirds of the speed of 16 or 32).

    `forward` takes normalised images f32 [B, 3, H, W] and returns the maps of strides 8, 16 and 32. A side of s pixels
    gives ceil(s / stride) cells.

    Args:
        norm, activation: make the layer of that kind for so many channels.
    """

    def __init__(self, *, norm: Norm = nn.BatchNorm2d, activation: Activation = HARD_SWISH) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, WIDTHS[0], 3, stride=2, norm=norm, activation=activation)
        units = [Unit("stem", ("stem",))]
        for i, depth in enumerate(DEPTHS, start=1):
            down = ConvNormAct(WIDTHS[i - 1], WIDTHS[i], 3, stride=2, norm=norm, activation=activation)
            self.add_module(f"down{i}", down)
            self.add_module(f"stage{i}", CspBlock(WIDTHS[i], WIDTHS[i], depth, norm=norm, activation=activation))
            units += [Unit(f"down{i}", (f"down{i}",)), Unit(f"stage{i}", (f"stage{i}",))]
        self.pool = SpatialPyramidPool(WIDTHS[-1], norm=norm, activation=activation)
        self.units = (*units, Unit("pool", ("pool",)))
        self.levels = (Level(WIDTHS[2], 8), Level(WIDTHS[3], 16), Level(WIDTHS[4], 32))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps: dict[str, Tensor] = {}
        x = images
        for unit in self.units:
            x = maps[unit.name] = self.get_submodule(unit.name)(x)
        return maps["stage2"], maps["stage3"], maps["pool"]
