"""What a backbone's units gave on the images it learnt from: kept with weights whose norms remember nothing.

Batch normalisation carries mean and variance of each channel by itself. Networks without it (AlexNet, VGG, NiN) and
with group norm do not, so training stores the same two numbers, of what each unit gives, in the weights file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from visionkit.errors import CheckpointError
from visionkit.types import Unit

CARD_KEY = "source_statistics"
"""In the metadata of a weights file."""

DIGITS = 7
"""Significant ones that are stored, about those of float32."""


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


@dataclass(frozen=True, slots=True)
class SourceStatistics:
    """Channel statistics of what units give.

    Args:
        units: by the unit's name, mean and variance of its channels, f64 [C] each.
        images: that were looked at.
    """

    units: Mapping[str, tuple[Tensor, Tensor]]
    images: int

    @classmethod
    def of(cls, seen: Mapping[str, ChannelStatistics], images: int) -> SourceStatistics:
        """What `observing_units` saw of so many images."""
        return cls({name: (found.mean, found.variance) for name, found in seen.items() if found.count}, images)

    def to_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "units": {
                name: {"mean": _rounded(mean), "variance": _rounded(variance)}
                for name, (mean, variance) in self.units.items()
            },
        }

    @classmethod
    def from_json(cls, content: Any) -> SourceStatistics:
        """The inverse of `to_json`.

        Raises:
            CheckpointError: it is nothing that this version knows.
        """
        try:
            units = {
                str(name): (_channels(found["mean"]), _channels(found["variance"]))
                for name, found in content["units"].items()
            }
            return cls(units, int(content["images"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the model's source statistics cannot be read ({type(error).__name__}: {error})"
            ) from None


def source_statistics_of(card: Mapping[str, Any]) -> SourceStatistics | None:
    """The statistics in the metadata of a weights file; None where it has none.

    Raises:
        CheckpointError: it has some that cannot be read.
    """
    content = card.get(CARD_KEY)
    return None if content is None else SourceStatistics.from_json(content)


@contextmanager
def observing_units(model: nn.Module, units: Sequence[Unit]) -> Iterator[dict[str, ChannelStatistics]]:
    """What units of a model's backbone give while it runs inside the block, by the unit's name.

    Of a unit of several modules it is what the last one gives that gives a map [B, C, H, W].
    """
    seen: dict[str, ChannelStatistics] = {}
    handles = []
    for unit in units:
        if unit.name.startswith("backbone.") and unit.modules:
            seen[unit.name] = ChannelStatistics()
            module = model.get_submodule(unit.modules[-1])
            handles.append(module.register_forward_hook(_adding_to(seen[unit.name])))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _adding_to(statistics: ChannelStatistics) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def add(_module: nn.Module, _inputs: tuple[Any, ...], given: Any) -> None:
        if isinstance(given, Tensor) and given.dim() == 4:
            statistics.add(given)

    return add


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]


def _channels(values: Any) -> Tensor:
    found = [float(value) for value in values]
    if not found or not all(map(math.isfinite, found)):
        raise ValueError("channels must be finite numbers, at least one")
    return torch.tensor(found, dtype=torch.float64)
