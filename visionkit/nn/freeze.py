"""Freezing: which units a `--freeze` spec means, how they are held still, and the proof that they were.

Frozen means: no gradient, normalisation statistics and dropout held in eval, and bytes that do not change.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from visionkit.errors import UsageError, VisionkitError
from visionkit.nn.fingerprint import tensors_sha256
from visionkit.nn.norms import FrozenBatchNorm2d, InstanceNorm2d, LayerNorm2d, SwitchableNorm2d
from visionkit.nn.units import unit_list
from visionkit.types import Unit

HEADS = ("head", "mask")
"""What `all-but-head` leaves to learn: a model of masks has a head of its own for them."""

FORMS = "a count (10), a range (0-9), a list (0,1,2), a name or glob (backbone), all-but-head or none"
NORM_LAYERS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    FrozenBatchNorm2d,
    LayerNorm2d,
    InstanceNorm2d,
    SwitchableNorm2d,
)


# Which units a spec means ---------------------------------------------------------------------------------------------


def select_units(units: Sequence[Unit], specs: Sequence[str]) -> tuple[int, ...]:
    """The numbers of the units that any of the specs means, ascending.

    Args:
        units: the model's units, counted from the input.
        specs: each `10` (the first ten), `0-9`, `0,1,2`, a name or a dotted beginning of one (`backbone.layer3` means
            `backbone.layer3.0` and `backbone.layer3.1`), a glob over these, `all-but-head` or `none`.

    Raises:
        UsageError: a spec matches nothing, names a number that no unit has, or all units together leave nothing to
            train. The error carries the list of units as a note (`__notes__`).

    >>> units = [Unit("backbone.stem", ("stem",)), Unit("backbone.pool", ("pool",)), Unit("head.box", ("box",))]
    >>> select_units(units, ["backbone"]), select_units(units, ["1"]), select_units(units, ["1,2"])
    ((0, 1), (0,), (1, 2))
    """
    try:
        chosen = {number for spec in specs for number in unit_numbers(spec, units)}
        if units and len(chosen) == len(units):
            raise UsageError(
                f"--freeze {' '.join(specs)} covers all {len(units)} units and leaves nothing to train; "
                f"leave out at least one, as all-but-head does"
            )
    except UsageError as error:
        error.add_note(unit_list(units))
        raise
    return tuple(sorted(chosen))


def unit_numbers(spec: str, units: Sequence[Unit], option: str = "--freeze") -> Collection[int]:
    """Unit numbers of one spec of an option, which the errors name.

    Raises:
        UsageError: as `select_units`, without the note.
    """
    spec = spec.strip()
    if spec == "none":
        return ()
    if spec == "all-but-head":
        return [number for number, unit in enumerate(units) if not _of_head(unit)]
    if re.fullmatch(r"[0-9]+", spec):
        return _first(int(spec), units, option)
    return {number for entry in spec.split(",") for number in _entry(entry.strip(), spec, units, option)}


def _of_head(unit: Unit) -> bool:
    return any(unit_matches(unit, head) for head in HEADS)


def _first(count: int, units: Sequence[Unit], option: str) -> Collection[int]:
    if count >= len(units):
        raise UsageError(
            f"{option} {count} must be below the number of units, {len(units)}, or nothing is left to train; "
            f"use {len(units) - 1} or less"
        )
    return range(count)


def _entry(entry: str, spec: str, units: Sequence[Unit], option: str) -> Collection[int]:
    """Unit numbers of one entry of a comma-separated spec: a number, a range, a name or a glob."""
    if not entry:
        raise UsageError(f"{option} '{spec}' has an empty entry; give {FORMS}")
    if re.match(r"-\s*[0-9]", entry):
        raise UsageError(f"{option} {entry} is negative, but units are counted from 0 at the input; give {FORMS}")
    numbers = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", entry)
    if not numbers:
        return _named(entry, units, option)
    first, last = int(numbers[1]), int(numbers[2] or numbers[1])
    if first > last:
        raise UsageError(f"{option} {entry} runs backwards, but a range is FIRST-LAST; use {last}-{first}")
    if last >= len(units):
        raise UsageError(f"{option} {entry} names unit {last}, which does not exist; use numbers 0 to {len(units) - 1}")
    return range(first, last + 1)


def _named(pattern: str, units: Sequence[Unit], option: str) -> Collection[int]:
    found = [number for number, unit in enumerate(units) if unit_matches(unit, pattern)]
    if not found:
        raise UsageError(f"{option} {pattern} matches no unit; {_remedy(pattern, units)}")
    return found


def unit_matches(unit: Unit, pattern: str) -> bool:
    """Whether a name, a dotted beginning of one or a glob over these means a unit."""
    return any(fnmatchcase(beginning, pattern) for beginning in _beginnings(unit.name))


def _beginnings(name: str) -> list[str]:
    """`a.b.c` -> `a`, `a.b`, `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def _remedy(pattern: str, units: Sequence[Unit]) -> str:
    """What to write instead of a name that matches nothing."""
    for unit in units:
        if any(pattern == module or pattern.startswith(f"{module}.") for module in unit.modules):
            return f"units freeze whole, use {unit.name}"
    known = [beginning for unit in units for beginning in _beginnings(unit.name)]
    # 0.5, not the usual 0.6: a name without its `backbone.` should still find it.
    close = difflib.get_close_matches(pattern, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"give {FORMS}"


# Holding them still ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frozen:
    """What is frozen in a model, by the names it has there.

    Args:
        units: names of the frozen units.
        unit_count: all units of the model.
        parameters: names of frozen parameters, a shared one under each of its names.
        buffers: names of buffers in frozen modules (running statistics), likewise.
        modules: names of the modules held in eval.
        norm_layers: how many of these normalise.
        frozen_elements, all_elements: parameters counted in numbers, shared ones once.
        learnable: names of the frozen parameters that learnt before.
        handles: what takes the hold off again; they belong to the model that was frozen, not to its copies.
    """

    units: tuple[str, ...]
    unit_count: int
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    modules: tuple[str, ...]
    norm_layers: int
    frozen_elements: int
    all_elements: int
    learnable: tuple[str, ...] = ()
    handles: tuple[RemovableHandle, ...] = field(default=(), repr=False, compare=False)

    def sentence(self) -> str:
        """`Frozen 10 of 14 units, 11.18 M of 12.90 M parameters (86.7 %), 20 norm layers held`."""
        share = 100 * self.frozen_elements / max(1, self.all_elements)
        norm_layers = f"{self.norm_layers} norm layer{'' if self.norm_layers == 1 else 's'}"
        return (
            f"Frozen {len(self.units)} of {self.unit_count} units, {_amount(self.frozen_elements)} of "
            f"{_amount(self.all_elements)} parameters ({share:.1f} %), {norm_layers} held"
        )


def _amount(elements: int) -> str:
    """Millions with two decimals, or all digits where these would say nothing."""
    return f"{elements / 1e6:.2f} M" if elements >= 10_000 else f"{elements:,}"


def freeze(model: nn.Module, units: Sequence[Unit], numbers: Collection[int]) -> Frozen:
    """Freeze units in place: their parameters get no gradient, and their modules stay in eval.

    The hold is a hook that acts before each forward, so nothing that says `model.train()` in between undoes it. It
    survives deepcopy, pickling, loading of weights and wrapping for distributed training. Freeze before the optimizer
    is made and before DistributedDataParallel wraps the model, but after `convert_sync_batchnorm`: it replaces norms,
    and one that is itself a unit's module would lose its hook.

    Args:
        model: the network whose modules `units` name.
        units: all its units.
        numbers: which of them to freeze, as `select_units` gives them.

    Raises:
        UsageError: no parameter that trains would be left; nothing is changed then.
    """
    modules, parameters, _ = _within(model, units, numbers)
    if not any(p.requires_grad and p not in parameters for p in model.parameters()):
        error = UsageError(f"freezing {len(numbers)} of {len(units)} units leaves no parameter to train; freeze fewer")
        error.add_note(unit_list(units))
        raise error
    frozen = hold_of(model, units, numbers)
    for parameter in parameters:
        parameter.requires_grad_(False)
        # A gradient left from an earlier step would still be applied by an optimizer that knows the parameter.
        parameter.grad = None
    for module in modules:
        module.training = False
    return replace(frozen, handles=tuple(module.register_forward_pre_hook(hold_in_eval) for module in modules))


def hold_of(model: nn.Module, units: Sequence[Unit], numbers: Collection[int]) -> Frozen:
    """What freezing these units would hold, by the names it has in the model; nothing is changed."""
    modules, parameters, buffers = _within(model, units, numbers)
    named = [(name, p) for name, p in model.named_parameters(remove_duplicate=False) if p in parameters]
    return Frozen(
        units=tuple(units[number].name for number in sorted(numbers)),
        unit_count=len(units),
        parameters=tuple(name for name, _ in named),
        buffers=tuple(n for n, b in model.named_buffers(remove_duplicate=False) if b in buffers),
        modules=tuple(n for n, m in model.named_modules(remove_duplicate=False) if m in modules),
        norm_layers=sum(isinstance(module, NORM_LAYERS) for module in modules),
        frozen_elements=sum(p.numel() for p in parameters),
        all_elements=sum(p.numel() for p in model.parameters()),
        learnable=tuple(name for name, p in named if p.requires_grad),
    )


def _within(
    model: nn.Module, units: Sequence[Unit], numbers: Collection[int]
) -> tuple[set[nn.Module], set[nn.Parameter], set[Tensor]]:
    """The modules, parameters and buffers of units. Identity decides, not names: a tensor shared with another unit is
    among them under each of its names."""
    roots = [model.get_submodule(name) for number in numbers for name in units[number].modules]
    return (
        {module for root in roots for module in root.modules()},
        {parameter for root in roots for parameter in root.parameters()},
        {buffer for root in roots for buffer in root.buffers()},
    )


def hold_in_eval(module: nn.Module, _inputs: Any) -> None:
    """Forward pre-hook: a frozen module, and all it contains, runs in eval whatever `train()` said before.

    A function of the module level, not a closure, so that copies and pickles of the model carry it along.
    """
    if module.training:
        module.eval()


def is_held(module: nn.Module) -> bool:
    """Whether a module is frozen: `freeze` holds it, and no thaw has let it go."""
    return hold_in_eval in module._forward_pre_hooks.values()


# Proving they were still ----------------------------------------------------------------------------------------------


def frozen_sha256(model: nn.Module, frozen: Frozen) -> str:
    """SHA-256 over name, type, shape and bytes of each frozen parameter and buffer, ordered by name.

    Args:
        model: the model that was frozen or a copy of it, without a wrapper that changes names.
    """
    tensors: dict[str, Tensor] = {name: model.get_parameter(name) for name in frozen.parameters}
    tensors.update((name, model.get_buffer(name)) for name in frozen.buffers)
    return tensors_sha256(tensors)


def prove_frozen(before: str, after: str) -> None:
    """Compare two `frozen_sha256`.

    Raises:
        VisionkitError: they differ.
    """
    if before != after:
        raise VisionkitError(
            f"frozen units must keep their bytes, but they changed (SHA-256 before {before}, after {after}); "
            f"do not use these weights, and report the command that made them"
        )
