"""The numbered units of a network: the table by which users choose what to freeze."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from visionkit.nn.multiply_adds import COUNTED, counting_multiply_adds
from visionkit.nn.receptive_field import Field, Seen, tracing
from visionkit.types import Unit


@dataclass(frozen=True, slots=True)
class MapRow:
    """What `visionkit layers` says of one map that a unit gives.

    Args:
        shape: C, H, W, or what else the tensor has behind its batch axis.
        count: how many there are: one of the image, or of each region that a detector looks into.
        receptive_field: side in pixels of what a cell sees of the image, padding included; `"global"` where it sees all
            of it, as behind squeeze and excitation; None where that depends on the image, as in a region.
        stride: pixels from a cell to the next; None where there are no cells to speak of.
    """

    shape: tuple[int, ...]
    count: int
    receptive_field: int | Literal["global"] | None
    stride: float | None

    @property
    def output(self) -> str:
        """The shape as text, `64x160x160`."""
        return "x".join(map(str, self.shape))


@dataclass(frozen=True, slots=True)
class UnitRow:
    """What `visionkit layers` says of one unit.

    Args:
        number: its place counted from the input, from 0.
        name: its name.
        types: of the modules that it consists of, in their order; containers are opened.
        maps: what it gives; empty where it was never called.
        parameters: how many numbers it holds to be learnt.
        share: of all parameters of the network, those up to and including this unit, in 0..1.
        multiply_adds: of one image, as `counting_multiply_adds` counts them.
        frozen: True where a freeze was asked for.
    """

    number: int
    name: str
    types: tuple[str, ...]
    maps: tuple[MapRow, ...]
    parameters: int
    share: float
    multiply_adds: int
    frozen: bool

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes C, H, W of its maps."""
        return tuple(of_map.shape for of_map in self.maps)

    @property
    def output(self) -> str:
        """The shapes as text, `64x160x160`, several maps separated by commas."""
        return ", ".join(of_map.output for of_map in self.maps)

    @property
    def type(self) -> str:
        """The types in short: `CspBlock`, `CspBlock x2`, `Conv2d +2` for a convolution and two other modules."""
        if len(set(self.types)) <= 1:
            return "".join(self.types[:1]) + f" x{len(self.types)}" * (len(self.types) > 1)
        names = [counted.__name__ for counted in COUNTED]
        main = next((name for name in self.types if name in names), self.types[0])
        return f"{main} +{len(self.types) - 1}"


Run = Callable[[nn.Module, Tensor], object]


def _forward(network: nn.Module, images: Tensor) -> object:
    return network(images)


def unit_rows(
    model: nn.Module,
    units: Sequence[Unit],
    image_size: int,
    frozen: Collection[int] = (),
    *,
    run: Run = _forward,
) -> tuple[UnitRow, ...]:
    """The table of a network's units, measured by one run on a black image.

    The network is left as it was: no gradient, no statistic and no training flag moves.

    Args:
        model: its `forward` takes images f32 [1, 3, H, W].
        units: its units, names of modules as in `model`.
        image_size: H and W in pixels.
        frozen: numbers of the units to mark as frozen.
        run: what is measured, called with the network and the image: its `forward` by itself where not given.
    """
    maps, multiply_adds = _measure(model, units, image_size, run)
    all_parameters = max(1, sum(p.numel() for p in model.parameters()))
    seen: set[nn.Parameter] = set()
    rows = []
    for number, unit in enumerate(units):
        modules = [model.get_submodule(name) for name in unit.modules]
        seen.update(p for module in modules for p in module.parameters())
        rows.append(
            UnitRow(
                number,
                unit.name,
                types=tuple(type(part).__name__ for module in modules for part in _opened(module)),
                maps=tuple(maps[number]),
                parameters=parameter_count(model, unit),
                share=sum(p.numel() for p in seen) / all_parameters,
                multiply_adds=sum(multiply_adds[part] for part in {part for m in modules for part in m.modules()}),
                frozen=number in frozen,
            )
        )
    return tuple(rows)


def unit_list(units: Sequence[Unit]) -> str:
    """Numbers and names of the units, one a line, as shown beside an error.

    >>> print(unit_list([Unit("stem", ("conv1", "bn1")), Unit("maxpool", ("maxpool",))]))
      0  stem
      1  maxpool
    """
    return "\n".join(f"{number:3}  {unit.name}" for number, unit in enumerate(units))


def parameter_count(model: nn.Module, unit: Unit) -> int:
    """Elements of all parameters of a unit; a parameter shared by two of its modules counts once."""
    parameters = {p for name in unit.modules for p in model.get_submodule(name).parameters()}
    return sum(p.numel() for p in parameters)


def _measure(
    model: nn.Module, units: Sequence[Unit], image_size: int, run: Run
) -> tuple[list[list[MapRow]], Counter[nn.Module]]:
    """Everything each unit's last module returns, in the order of its calls, and the multiply-adds of each module."""
    found: list[list[MapRow]] = [[] for _ in units]
    handles = []
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    images = torch.zeros(1, 3, image_size, image_size, device=device)
    try:
        with (
            evaluating(model),
            torch.no_grad(),
            counting_multiply_adds(model) as counts,
            tracing(model, images) as seen,
        ):
            for maps, unit in zip(found, units, strict=True):

                def record(_module: nn.Module, _inputs: Any, output: Any, maps: list[MapRow] = maps) -> None:
                    maps.extend(_map_row(tensor, seen(tensor)) for tensor in _tensors(output))

                last = model.get_submodule(unit.modules[-1])
                # After the hooks of `tracing`, which run in the order in which they were registered.
                handles += [module.register_forward_hook(record) for module in _called(last)]
            run(model, images)
    finally:
        for handle in handles:
            handle.remove()
    return found, counts


def _map_row(tensor: Tensor, seen: Seen) -> MapRow:
    shape, count = tuple(tensor.shape[1:]), len(tensor)
    if isinstance(seen, Field):
        return MapRow(shape, count, "global" if seen.whole else seen.pixels, seen.stride)
    return MapRow(shape, count, "global" if seen == "global" else None, None)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The whole model in eval inside the block; afterwards each module's own training flag as before."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in training.items():
            module.training = flag


def _called(module: nn.Module) -> Iterator[nn.Module]:
    """The modules whose `forward` stands for a module's: itself, or the members of a list, which has none."""
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        for member in module.children():
            yield from _called(member)
    else:
        yield module


def _opened(module: nn.Module) -> Iterator[nn.Module]:
    """A module, or in place of a plain list or sequence what is in it."""
    if type(module) in (nn.ModuleList, nn.ModuleDict, nn.Sequential):
        for member in module.children():
            yield from _opened(member)
    else:
        yield module


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors of a module's return value: one, or those in a sequence or a mapping."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        yield from _tensors(tuple(output.values()))
    elif isinstance(output, (tuple, list)):
        for item in output:
            yield from _tensors(item)
