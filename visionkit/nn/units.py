"""The numbered units of a network: the table by which users choose what to freeze."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from visionkit.types import Unit


@dataclass(frozen=True, slots=True)
class UnitRow:
    """What `visionkit layers` says of one unit.

    Args:
        number: its place counted from the input, from 0.
        name: its name.
        shapes: the shapes C, H, W of what it gives, one a map; empty where it was never called.
        parameters: how many numbers it holds to be learnt.
        frozen: True where a freeze was asked for.
    """

    number: int
    name: str
    shapes: tuple[tuple[int, ...], ...]
    parameters: int
    frozen: bool

    @property
    def output(self) -> str:
        """The shapes as text, `64x160x160`, several maps separated by commas."""
        return ", ".join("x".join(map(str, shape)) for shape in self.shapes)


def unit_rows(
    model: nn.Module, units: Sequence[Unit], image_size: int, frozen: Collection[int] = ()
) -> tuple[UnitRow, ...]:
    """The table of a network's units, its shapes measured by one run on a black image.

    The network is left as it was: no gradient, no statistic and no training flag moves.

    Args:
        model: its `forward` takes images f32 [1, 3, H, W].
        units: its units, names of modules as in `model`.
        image_size: H and W in pixels.
        frozen: numbers of the units to mark as frozen.
    """
    shapes = _output_shapes(model, units, image_size)
    return tuple(
        UnitRow(number, unit.name, shapes[number], parameter_count(model, unit), number in frozen)
        for number, unit in enumerate(units)
    )


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


def _output_shapes(model: nn.Module, units: Sequence[Unit], image_size: int) -> list[tuple[tuple[int, ...], ...]]:
    """Shapes without the batch axis of everything each unit's last module returns, in the order of its calls."""
    seen: list[list[tuple[int, ...]]] = [[] for _ in units]
    handles = []
    for shapes, unit in zip(seen, units, strict=True):

        def record(_module: nn.Module, _inputs: Any, output: Any, shapes: list[tuple[int, ...]] = shapes) -> None:
            shapes.extend(tuple(tensor.shape[1:]) for tensor in _tensors(output))

        last = model.get_submodule(unit.modules[-1])
        handles += [module.register_forward_hook(record) for module in _called(last)]
    try:
        with evaluating(model), torch.no_grad():
            device = next((p.device for p in model.parameters()), torch.device("cpu"))
            model(torch.zeros(1, 3, image_size, image_size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return [tuple(shapes) for shapes in seen]


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


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors of a module's return value: one, or those in a sequence or a mapping."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        yield from _tensors(tuple(output.values()))
    elif isinstance(output, (tuple, list)):
        for item in output:
            yield from _tensors(item)
