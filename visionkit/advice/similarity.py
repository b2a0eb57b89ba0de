"""How far the user's images lie from those that weights were learnt from, stage by stage of the backbone.

A network with batch normalisation carries a memory of its images: mean and variance of each channel before each norm.
The same two numbers of the user's images say how much of what a stage learnt to expect is there. That these statistics
tell domains apart: Li et al. 2017, Revisiting Batch Normalization for Practical Domain Adaptation. Weights of other
networks that visionkit trained carry the same two numbers of what each unit gives: `visionkit.nn.source_statistics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from visionkit.nn.norms import FrozenBatchNorm2d, SwitchableNorm2d
from visionkit.nn.source_statistics import ChannelStatistics, SourceStatistics
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
        distance: a mean over its norms, or of what it gives.
        norms: how many these are; 0 where it is of what the unit gives.
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
        source_images: how many the source statistics are of, where they are stored beside the weights; None where norms
            remember all they learnt from.
    """

    stages: tuple[StageDistance, ...]
    images: int
    source_images: int | None = None

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


def channel_distance(mean: Tensor, variance: Tensor, source_mean: Tensor, source_variance: Tensor) -> float:
    """How far two sets of channel statistics lie apart, in standard deviations of the source: the median channel.

    Of a channel it is the root of (m1 - m2)² + (s1 - s2)², the Fréchet distance of two normal distributions (Dowson and
    Landau 1982, The Fréchet Distance between Multivariate Normal Distributions), by the source's deviation. The median,
    because some channels of a network are all but off, and a mean would speak of these alone.

    Args:
        mean, variance: [C].
        source_mean, source_variance: [C].

    >>> import torch
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
    for name, module in _remembering(model):
        seen[name] = ChannelStatistics()
        handles.append(module.register_forward_pre_hook(_adding_to(seen[name])))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def norms_remember(model: nn.Module) -> bool:
    """Whether any norm of a model's backbone describes what it learnt from."""
    return any(True for _ in _remembering(model))


def _remembering(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if name.startswith("backbone.") and isinstance(module, WITH_STATISTICS) and module.running_mean is not None:
            yield name, module


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


def similarity_to(
    source: SourceStatistics, units: Sequence[Unit], seen: Mapping[str, ChannelStatistics], images: int
) -> Similarity | None:
    """The distances of what `observing_units` saw from what the same units gave on the source's images; None where no
    unit is known there with as many channels.

    Args: as for `similarity_of`.
    """
    stages = []
    for number, unit in enumerate(units):
        known, found = source.units.get(unit.name), seen.get(unit.name)
        if known is not None and found is not None and found.count and found.mean.shape == known[0].shape:
            distance = channel_distance(found.mean, found.variance, *known)
            stages.append(StageDistance(number, unit.name, distance, 0))
    return Similarity(tuple(stages), images, source.images) if stages else None
