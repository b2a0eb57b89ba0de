"""Gradual thawing: which frozen units an `--unfreeze` schedule lets learn again, from which epoch on, and how.

Source: Howard and Ruder 2018, Universal Language Model Fine-tuning, section 3.3, from the last layers to the first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from visionkit.errors import UsageError
from visionkit.nn.freeze import Frozen, hold_in_eval, unit_numbers
from visionkit.nn.units import unit_list
from visionkit.types import Unit

OPTION = "--unfreeze"
ALL = "all"
FORM = "UNITS@EPOCH, several separated by commas, such as backbone.layer4@5,all@20"

_ENTRY = re.compile(r"\s*([^@]+?)\s*@\s*([0-9]+)\s*(?:,(?=\s*[^\s,])|$)")
"""Up to the epoch commas belong to the units, as in `8,9@5`."""

MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class Thaw:
    """Units that learn from the beginning of an epoch on.

    Args:
        epoch: counted from 1.
        numbers: of the units, ascending.
    """

    epoch: int
    numbers: tuple[int, ...]


def plan_thaws(units: Sequence[Unit], frozen: Collection[int], schedule: Sequence[str]) -> tuple[Thaw, ...]:
    """What a schedule thaws, epoch by epoch.

    Args:
        units: the model's units, counted from the input.
        frozen: numbers of those that are frozen.
        schedule: texts of `UNITS@EPOCH` entries separated by commas; UNITS as `--freeze` takes them, or `all`. What two
            entries name thaws at the earlier epoch; what is named and not frozen stays as it is.

    Raises:
        UsageError: an entry has another form, names an epoch before the second, or thaws nothing. The error carries the
            list of units as a note.

    >>> units = [Unit("backbone.stem", ("stem",)), Unit("backbone.pool", ("pool",)), Unit("head.box", ("box",))]
    >>> plan_thaws(units, {0, 1}, ["backbone.pool@5,all@20"])
    (Thaw(epoch=5, numbers=(1,)), Thaw(epoch=20, numbers=(0,)))
    """
    try:
        return _planned(units, set(frozen), schedule)
    except UsageError as error:
        error.add_note(unit_list(units))
        raise


def _planned(units: Sequence[Unit], frozen: set[int], schedule: Sequence[str]) -> tuple[Thaw, ...]:
    entries = sorted((entry for text in schedule for entry in _entries(text)), key=lambda entry: entry[1])
    at: dict[int, int] = {}
    for spec, epoch in entries:
        entry = f"{OPTION} {spec}@{epoch}"
        if epoch < 2:
            raise UsageError(
                f"{entry} must name an epoch from 2 on, since what learns from the first is not frozen; leave it out "
                "of --freeze"
            )
        named = frozen & (frozen if spec == ALL else set(unit_numbers(spec, units, OPTION)))
        if not named:
            raise UsageError(f"{entry} names no frozen unit, it has nothing to thaw; name units that --freeze holds")
        if named <= at.keys():
            raise UsageError(f"{entry} comes too late, its units learn before; leave it out")
        at.update((number, epoch) for number in named if number not in at)
    return tuple(
        Thaw(epoch, tuple(sorted(number for number, begins in at.items() if begins == epoch)))
        for epoch in sorted(set(at.values()))
    )


def _entries(text: str) -> Iterator[tuple[str, int]]:
    """Units and epoch of each entry of a schedule."""
    place = 0
    while True:
        found = _ENTRY.match(text, place)
        if found is None:
            raise UsageError(f"{OPTION} takes {FORM}; got {text!r}")
        yield found[1], int(found[2])
        place = found.end()
        if place == len(text):
            return


def thaw_line(thaw: Thaw, units: Sequence[Unit]) -> str:
    """`Thaws at the beginning of epoch 5: 2 units, backbone.layer4.0, backbone.layer4.1`."""
    names = [units[number].name for number in thaw.numbers]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    count = f"{len(names)} unit{'s' * (len(names) != 1)}"
    return f"Thaws at the beginning of epoch {thaw.epoch}: {count}, {', '.join(names[:MOST_NAMED])}{more}"


def thaw(model: nn.Module, held: Frozen, still: Sequence[Frozen] = ()) -> tuple[str, ...]:
    """Take the hold off what `freeze` holds: what learnt before gets gradients again, and `train()` is obeyed.

    Args:
        model: the model that was frozen, or a copy of it.
        held: some of what is frozen in it, as `hold_of` said before it was frozen.
        still: what stays frozen; a module or a parameter that is in both does too.

    Returns:
        Names of the parameters that learn from now on, a shared one under each of its names.
    """
    kept_modules = {model.get_submodule(name) for other in still for name in other.modules}
    kept_parameters = {model.get_parameter(name) for other in still for name in other.parameters}
    for name in held.modules:
        module = model.get_submodule(name)
        if module not in kept_modules:
            _let_go(module)
    learning = tuple(name for name in held.learnable if model.get_parameter(name) not in kept_parameters)
    for name in learning:
        model.get_parameter(name).requires_grad_(True)
    return learning


def _let_go(module: nn.Module) -> None:
    # By the hook itself: handles belong to the model that was frozen, and a copy has none.
    for key, hook in list(module._forward_pre_hooks.items()):
        if hook is hold_in_eval:
            del module._forward_pre_hooks[key]
