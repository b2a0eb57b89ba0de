"""How far the user's images lie from those that weights were learnt from, stage by stage of the backbone.

A network with batch normalisation carries a memory of its images: mean and variance of each channel before each norm.
The same two numbers of the user's images say how much of what a stage learnt to expect is there. That these statistics
tell domains apart: Li et al. 2017, Revisiting Batch Normalization for Practical Domain Adaptation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from visionkit.nn.norms import FrozenBatchNorm2d, SwitchableNorm2d
from visionkit.types import Unit

WITH_STATISTICS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d, SwitchableNorm2d)
"""Norms whose buffers `running_mean` and `running_var` describe their input."""

LEAST_VARIANCE = 1e-5
"""Added to variances, as norms do: a channel that is always off is no measure of distance."""


@dataclass(frozen=True, slots=True)
class StageDistance:
    """How far a unit of the backbone sees the images from what it knows, in standard deviations.

    Args:
        number: of the unit.
        distance: a mean over its norms.
        norms: how many these are.
    """

    number: int
    unit: str
    distance: float
    norms: int


@dataclass(frozen=True, slots=True)
class Similarity:
    """Distances of all stages that have source statistics, at least one.

    Args:
        images: that were looked at.
    """

    stages: tuple[StageDistance, ...]
    images: int

    @property
    def distance(self) -> float:
        """A mean over the stages."""
        return sum(stage.distance for stage in self.stages) / len(self.stages)

    def to_json(self) -> dict[str, Any]:
        return {
            "distance": self.distance,
            "images": self.images,
            "stages": [{"unit": s.unit, "number": s.number, "distance": s.distance} for s in self.stages],
        }


class ChannelStatistics:
    """Mean and variance of each channel over everything that is added; batches are put together in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def add(self, maps: Tensor) -> None:
        """Take in maps [B, C, H, W]."""
        found = torch.var_mean(maps.detach().float(), (0, 2, 3), correction=0)
        variance, mean = (each.cpu().double() for each in found)
        count = maps.numel() // maps.shape[1]
        self.count += count
        self._sum = self._sum + count * mean
        self._squares = self._squares + count * (variance + mean.square())

    @property
    def mean(self) -> Tensor:
        """f64 [C]."""
        return torch.as_tensor(self._sum) / self.count

    @property
    def variance(self) -> Tensor:
        """f64 [C]."""
        return (torch.as_tensor(self._squares) / self.count - self.mean.square()).clamp(min=0)


def channel_distance(mean: Tensor, variance: Tensor, source_mean: Tensor, source_variance: Tensor) -> float:
    """How far two sets of channel statistics lie apart, in standard deviations of the source: the median channel.

    Of a channel it is the root of (m1 - m2)² + (s1 - s2)², the Fréchet distance of two normal distributions (Dowson and
    Landau 1982, The Fréchet Distance between Multivariate Normal Distributions), by the source's deviation. The median,
    because some channels of a network are all but off, and a mean would speak of these alone.

    Args:
        mean, variance: [C].
        source_mean, source_variance: [C].

    >>> one = torch.ones(3)
    >>> round(channel_distance(one * 3, one * 4, one, one * 4), 3)  # 2 apart, and the deviation is 2
    1.0
    """
    mean, variance, source_mean, source_variance = (
        each.cpu().double() for each in (mean, variance, source_mean, source_variance)
    )
    wide, source_wide = ((v + LEAST_VARIANCE).sqrt() for v in (variance, source_variance))
    shift = (mean - source_mean).square() + (wide - source_wide).square()
    return float((shift.sqrt() / source_wide).median())


@contextmanager
def observing_norms(model: nn.Module) -> Iterator[dict[str, ChannelStatistics]]:
    """What goes into each norm of a model's backbone while it runs inside the block, by the norm's name."""
    seen: dict[str, ChannelStatistics] = {}
    handles = []
    for name, module in model.named_modules():
        if name.startswith("backbone.") and isinstance(module, WITH_STATISTICS) and module.running_mean is not None:
            seen[name] = ChannelStatistics()
            handles.append(module.register_forward_pre_hook(_adding_to(seen[name])))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _adding_to(statistics: ChannelStatistics) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def add(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        statistics.add(inputs[0])

    return add


def similarity_of(
    model: nn.Module, units: Sequence[Unit], seen: dict[str, ChannelStatistics], images: int
) -> Similarity | None:
    """The distances of what `observing_norms` saw from what the norms remember; None where no norm remembers anything.

    Args:
        units: of the model.
        images: that went through.
    """
    stages = []
    for number, unit in enumerate(units):
        inside = tuple(f"{module}." for module in unit.modules)
        names = [n for n, found in seen.items() if found.count and (n in unit.modules or n.startswith(inside))]
        distances = []
        for name in names:
            norm = model.get_submodule(name)
            mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
            distances.append(channel_distance(seen[name].mean, seen[name].variance, mean, variance))
        if distances:
            stages.append(StageDistance(number, unit.name, sum(distances) / len(distances), len(distances)))
    return Similarity(tuple(stages), images) if stages else None
