"""A backbone that returns other maps than it usually does."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from visionkit.types import Level, Unit


class UnitMaps(nn.Module):
    """A network whose units follow each other, giving the maps behind some of them, fine to coarse.

    A detector that reads a finer map than backbones publish, or a block between two of them, takes its backbone through
    this. The names of parameters and units stay what they are.

    Args:
        network: publishes `units`; running their modules in order is its whole forward pass.
        levels: by the name of a unit, the level that it returns; in the order of the units.

    `forward` takes normalised images f32 [B, 3, H, W] and returns one map a level.

    >>> from visionkit.backbones.resnet import resnet18
    >>> UnitMaps(resnet18(), {"layer1.1": Level(64, 4), "layer4.1": Level(512, 32)}).levels[0].stride
    4
    """

    def __init__(self, network: nn.Module, levels: Mapping[str, Level]) -> None:
        super().__init__()
        for name, child in network.named_children():
            self.add_module(name, child)
        units: tuple[Unit, ...] = network.units  # type: ignore[assignment]
        self.units = units
        self.levels = tuple(levels.values())
        self._returned = frozenset(levels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = []
        x = images
        for unit in self.units:
            for name in unit.modules:
                x = self.get_submodule(name)(x)
            if unit.name in self._returned:
                maps.append(x)
        return tuple(maps)
