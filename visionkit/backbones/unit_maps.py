"""A backbone that returns other maps than it usually does."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from visionkit.backbones.timm_features import TimmFeatures
from visionkit.errors import UsageError
from visionkit.types import Level, Unit

PROBE = 256
"""Side in pixels of the image without content on which maps are measured: every stride up to 32 divides it."""


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


def with_finer_map(network: nn.Module, stride: int) -> UnitMaps:
    """A network that besides its own maps gives a finer one: the last at `stride`.

    Args:
        network: publishes `levels` and `units`; running their modules in order is its whole forward pass.
        stride: pixels of the image per pixel of that map.

    Raises:
        UsageError: it has no map at that stride.

    >>> from visionkit.backbones.resnet import resnet18
    >>> with_finer_map(resnet18(), 4).levels[:2]
    (Level(channels=64, stride=4), Level(channels=128, stride=8))
    """
    levels: tuple[Level, ...] = network.levels  # type: ignore[assignment]
    seen = _levels_of_units(network) if _runs_by_units(network) else {}
    finer = [level for level in seen.values() if level.stride == stride]
    if not finer or not set(levels) <= set(seen.values()):
        raise UsageError(f"the backbone gives no map of stride {stride} beside its own; use another, such as csp-light")
    last = {level: name for name, level in seen.items()}
    return UnitMaps(network, {last[level]: level for level in (finer[-1], *levels)})


def _runs_by_units(network: nn.Module) -> bool:
    """Whether the units are all that a network runs: GoogLeNet scales its pixels first, and of timm's no one knows."""
    units: tuple[Unit, ...] = network.units  # type: ignore[assignment]
    parts = {name.partition(".")[0] for unit in units for name in unit.modules}
    return parts == {name for name, _ in network.named_children()} and not isinstance(network, TimmFeatures)


def _levels_of_units(network: nn.Module) -> dict[str, Level]:
    """What each unit of a network gives, in their order."""
    # A copy without content: nothing is computed, and no statistic moves.
    empty = copy.deepcopy(network).to("meta").eval()
    x = torch.zeros(1, 3, PROBE, PROBE, device="meta")
    found = {}
    units: tuple[Unit, ...] = network.units  # type: ignore[assignment]
    for unit in units:
        for name in unit.modules:
            x = empty.get_submodule(name)(x)
        found[unit.name] = Level(x.shape[1], PROBE // x.shape[-1])
    return found
