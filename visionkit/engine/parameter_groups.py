"""How fast each parameter learns and how it decays: rules in order, of which the first that matches decides.

Every parameter has a rule. First come those of the settings, as patterns; then the backbone's, where it has a rate or a
layer-wise decay of its own; then that of layers that start fresh beside loaded ones; and a last one for all others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from visionkit.engine.settings import TrainSettings
from visionkit.errors import UsageError
from visionkit.nn.freeze import unit_matches
from visionkit.nn.units import unit_list
from visionkit.types import Unit

BACKBONE = "backbone."
"""How the names of a backbone's units and parameters begin in every model."""

LAST = "everything else"
FRESH = "fresh layers"


@dataclass(frozen=True, slots=True)
class Rule:
    """How the parameters it covers learn.

    Args:
        name: as the table shows it.
        lr_factor: their learning rate as a share of the run's.
        weight_decay: of those that decay; norms and biases never do.
    """

    name: str
    lr_factor: float
    weight_decay: float


def parameter_rules(model: nn.Module, settings: TrainSettings, fresh: Collection[str] = ()) -> dict[str, Rule]:
    """The rule of every parameter, frozen ones included, by name; a shared one under its first.

    Args:
        model: where it publishes `units`, patterns may name these.
        fresh: names of the tensors that start random; the others were loaded.

    Raises:
        UsageError: a pattern matches nothing, or nothing that an earlier one has not taken. The error carries the list
            of units as a note.
    """
    units: Sequence[Unit] = getattr(model, "units", ())
    names = [name for name, _ in model.named_parameters()]
    unit_of = {name: _unit_number(name, units) for name in names}
    rules: dict[str, Rule] = {}
    try:
        for place, group in enumerate(settings.groups, 1):
            decay = settings.weight_decay if group.weight_decay is None else group.weight_decay
            matched = [name for name in names if _matches(name, unit_of[name], units, group.match)]
            if not matched:
                raise UsageError(
                    f"rule {place} of train.groups matches no parameter, its pattern is {group.match!r}; name units or "
                    "parameters, such as backbone.* or *.bias"
                )
            taken = [name for name in matched if name not in rules]
            if not taken:
                raise UsageError(
                    f"rule {place} of train.groups, {group.match!r}, has nothing left, since the first rule that "
                    "matches decides; put it before the more general one"
                )
            rules |= dict.fromkeys(taken, Rule(group.match, group.lr, decay))
    except UsageError as error:
        error.add_note(unit_list(units))
        raise
    depth = sum(unit.name.startswith(BACKBONE) for unit in units)
    return {name: rules.get(name) or _implicit(name, unit_of[name], depth, units, settings, fresh) for name in names}


def _implicit(
    name: str, number: int | None, depth: int, units: Sequence[Unit], settings: TrainSettings, fresh: Collection[str]
) -> Rule:
    """The rule of a parameter that no pattern matches.

    Args:
        number: of its unit.
        depth: units of the backbone.
    """
    decay = settings.weight_decay
    share = 1.0 if name in fresh else settings.loaded_rate
    in_backbone = name.startswith(BACKBONE)
    if in_backbone and settings.lr_backbone is not None:
        share = settings.lr_backbone / settings.lr
    if in_backbone and settings.layer_decay != 1 and number is not None:
        return Rule(units[number].name, share * settings.layer_decay ** (depth - number), decay)
    if in_backbone and settings.lr_backbone is not None:
        return Rule(BACKBONE.removesuffix("."), share, decay)
    if name in fresh and settings.loaded_rate != 1:
        return Rule(FRESH, share, decay)
    return Rule(LAST, share, decay)


def _unit_number(name: str, units: Sequence[Unit]) -> int | None:
    for number, unit in enumerate(units):
        if name.startswith(tuple(f"{module}." for module in unit.modules)):
            return number
    return None


def _matches(name: str, number: int | None, units: Sequence[Unit], pattern: str) -> bool:
    return fnmatchcase(name, pattern) or (number is not None and unit_matches(units[number], pattern))


def has_own_rates(settings: TrainSettings) -> bool:
    """Whether the settings tell parameters apart beyond norms and biases."""
    return bool(
        settings.groups or settings.lr_backbone is not None or settings.layer_decay != 1 or settings.loaded_rate != 1
    )


HEADINGS = ("rule", "tensors", "parameters", "frozen", "lr", "decay")


def rule_table(model: nn.Module, rules: Mapping[str, Rule], settings: TrainSettings) -> list[str]:
    """The rules in the order in which they are tried, each with what it covers of the model, as lines.

    `frozen` counts the tensors that are held still as the model stands; `lr` is the highest learning rate.
    """
    patterns = [group.match for group in settings.groups]
    derived = [rule.name for rule in rules.values() if rule.name not in (*patterns, FRESH, LAST)]
    names = dict.fromkeys([*patterns, *derived, *(rule.name for rule in rules.values() if rule.name == FRESH), LAST])
    by_name = {name: [p for n, p in model.named_parameters() if rules[n].name == name] for name in names}
    found = {rule.name: rule for rule in rules.values()}
    rows = [HEADINGS]
    for name, parameters in by_name.items():
        rule = found.get(name) or Rule(name, settings.loaded_rate, settings.weight_decay)
        rows.append(
            (
                name,
                f"{len(parameters)}",
                f"{sum(p.numel() for p in parameters):,}",
                f"{sum(not p.requires_grad for p in parameters)}",
                f"{settings.lr * rule.lr_factor:.3g}",
                f"{rule.weight_decay:g}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["Learning rates, by the first rule that matches; norms and biases never decay:"]
    for row in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join((f"{row[0]:<{widths[0]}}", *cells)))
    return lines
