"""Networks that are one sequence of layers, as most are whose blocks do not branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from visionkit.backbones.image_size import require_least_side
from visionkit.types import Level, Unit

DETECTOR_STRIDES = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Stage:
    """Layers that follow each other at one stride.

    Args:
        layers: of them, `units` counts all together as one unit, each as one, or each of their own children as one.
        channels: of what the last one returns.
        stride: input pixels per pixel of that.
        name: of the unit that all together are; "" where each layer is a unit, which has the layer's own name.
        split: each child of each layer is a unit.
    """

    layers: Sequence[nn.Module]
    channels: int
    stride: int
    name: str = ""
    split: bool = False


class FeatureStack(nn.Module):
    """Layers in a row, named `features.0`, `features.1`, ... as in torchvision's checkpoints.

    Args:
        name: how errors call the network.
        stages: all layers in order.
        strides: the levels to return: of each stride the last map that there is.
        least: sides of images in pixels below which the last map would be empty.

    `forward` takes normalised images f32 [B, 3, H, W] and returns one map a level. It raises UsageError for images
    smaller than `least`.
    """

    def __init__(
        self, name: str, stages: Sequence[Stage], *, strides: Sequence[int] = DETECTOR_STRIDES, least: int = 1
    ) -> None:
        super().__init__()
        self.name = name
        self.least = least
        self.features = nn.Sequential(*(layer for stage in stages for layer in stage.layers))
        units: list[Unit] = []
        ends: dict[int, tuple[int, int]] = {}  # stride -> last layer, its channels
        count = 0
        for stage in stages:
            names = [f"features.{count + i}" for i in range(len(stage.layers))]
            count += len(names)
            ends[stage.stride] = (count - 1, stage.channels)
            if stage.split:
                names = [f"{n}.{child}" for n in names for child, _ in self.get_submodule(n).named_children()]
            units += [Unit(stage.name, tuple(names))] if stage.name else [Unit(n, (n,)) for n in names]
        self.units = tuple(units)
        self.levels = tuple(Level(ends[stride][1], stride) for stride in strides)
        self._ends = frozenset(ends[stride][0] for stride in strides)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        require_least_side(images, self.least, self.name)
        maps = []
        x = images
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self._ends:
                maps.append(x)
        return tuple(maps)
