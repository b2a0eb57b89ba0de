"""What `--strategy` decides of a run: its weights, which units are held still, how fast loaded layers learn.

`head`: the new last layers alone learn. `freeze`: the first units are held still, the backbone unless `--freeze` says.
`full`: everything learns, at a smaller rate where it was loaded. `scratch`: everything learns from random weights.
`auto`: one of these, by what `visionkit advise` measures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

import torch

from visionkit.api.measured_advice import measured_advice
from visionkit.backbone_transfer import BackboneWeights
from visionkit.build import LoadedModel, Model
from visionkit.choices import Choices
from visionkit.engine.distributed import TorchProcesses, by_first
from visionkit.engine.events import Listener
from visionkit.errors import UsageError
from visionkit.formats.records import AnnotatedImages
from visionkit.nn.freeze import select_units, unit_numbers
from visionkit.nn.units import unit_list
from visionkit.types import Unit

BACKBONE = "backbone"

LOADED_RATE = 0.5
"""Of `full`: what loaded layers learn at, as a share of the learning rate. A tenth, as in Girshick et al. 2014, Rich
Feature Hierarchies, section 2.3, is for weights that know more than these and for longer training: with three minutes
it lost to random weights on blood-cells; docs/strategy.md has the figures."""

RULES = {
    "auto": "decides by itself what is held still",
    "head": "holds all but the last layers still",
    "full": "holds nothing still",
    "scratch": "holds nothing still",
}


def settle_weights(choices: Choices) -> None:
    """Check a strategy against the weights and what else is said, and let `scratch` choose random ones.

    Raises:
        UsageError: they contradict each other.
    """
    config = choices.config()
    strategy = config.strategy
    if strategy == "auto" and config.freeze:
        _contradiction(strategy, config.freeze, ())
    if strategy == "scratch":
        if choices.origin("weights") != "default" and config.weights != "scratch":
            raise UsageError(
                f"--strategy scratch starts from random weights, but --weights {config.weights} names some; leave one "
                "of them out"
            )
        choices.say({"weights": "scratch"}, "auto")


def settle_by_advice(
    choices: Choices,
    images: AnnotatedImages,
    source: LoadedModel | BackboneWeights | None,
    device: torch.device,
    say: Callable[[str], None],
    listen: Listener,
    processes: TorchProcesses | None = None,
) -> LoadedModel | BackboneWeights | None:
    """Put what advice says in place of `auto`.

    Args:
        images: the train split, as its task sees it.
        processes: who else learns from each batch; the first measures for all, since all must hold the same still.

    Returns:
        The weights to start from: the same, or none, where the advice is to do without.
    """
    advice = by_first(processes, lambda: measured_advice(choices.config(), images, source, device, listen))
    for line in advice.lines():
        say(line)
    plan = advice.best
    named = choices.origin("weights") != "default"
    if plan.strategy == "scratch" and advice.second and (named or choices.config().keep_classes):
        plan = advice.second
        why = "Weights were named" if named else "Classes of the weights are kept"
        say(f"{why}, so they are used: {plan.words()}")
    said: dict[str, Any] = {"strategy": plan.strategy}
    if plan.freeze:
        said["freeze"] = [plan.freeze]
    if plan.strategy == "scratch":
        said["weights"] = "scratch"
    choices.say(said, "auto")
    return None if plan.strategy == "scratch" else source


def settle_freeze(choices: Choices, model: Model, fresh: Collection[str]) -> None:
    """Add what the strategy holds still and how fast loaded layers learn, where nothing else was said.

    Args:
        model: with its weights.
        fresh: names of its tensors that start random.

    Raises:
        UsageError: `--freeze` says otherwise, or the strategy wants trained weights and these are random. The error
            carries the list of units as a note.
    """
    config, units = choices.config(), model.units
    strategy = config.strategy
    if strategy == "none":
        return
    backbone = [number for number, unit in enumerate(units) if _holds_any(unit, fresh) and _of_backbone(unit)]
    if strategy in ("head", "freeze", "full") and backbone and not config.force:
        raise UsageError(
            f"--strategy {strategy} builds on trained weights, and these are random; give some by --weights FILE, or "
            "use --strategy scratch"
        )
    asked = select_units(units, config.freeze)
    wanted = _wanted(strategy, model, fresh)
    if strategy == "freeze" and config.freeze:
        if not asked:
            raise UsageError(
                f"--strategy freeze holds units still, but --freeze {' '.join(config.freeze)} holds none; leave one of "
                "them out"
            )
    elif config.freeze and asked != wanted:
        _contradiction(strategy, config.freeze, units)
    elif wanted and not config.freeze:
        choices.say({"freeze": [compact(wanted, units)]}, "auto")
    # A config file names every value, also those that no one chose.
    chosen = choices.origin("train.loaded_rate") in ("set", "flag")
    if strategy == "full" and config.train.loaded_rate == 1 and not chosen:
        choices.say({"train.loaded_rate": LOADED_RATE}, "auto")


def _wanted(strategy: str, model: Model, fresh: Collection[str]) -> tuple[int, ...]:
    """The units that a strategy holds still where nobody says otherwise."""
    units = model.units
    if strategy == "freeze":
        return tuple(number for number, unit in enumerate(units) if _of_backbone(unit))
    if strategy == "head":
        last = last_units(units, fresh, model.class_rows)
        return tuple(number for number in range(len(units)) if number not in last)
    return ()


def last_units(units: Sequence[Unit], fresh: Collection[str], class_rows: Mapping[str, Any]) -> frozenset[int]:
    """The units behind the backbone that start fresh; where none does, those with rows for each class.

    Args:
        fresh: names of the tensors that start random.
        class_rows: by name, the tensors with rows for each class.
    """
    behind = [(number, unit) for number, unit in enumerate(units) if not _of_backbone(unit)]
    for names in (fresh, class_rows):
        found = frozenset(number for number, unit in behind if _holds_any(unit, names))
        if found:
            return found
    return frozenset(number for number, _ in behind)


def compact(numbers: Sequence[int], units: Sequence[Unit]) -> str:
    """The shortest spec that means these units, ascending: `backbone`, or ranges such as `0-9,12-12`.

    >>> units = [Unit("backbone.stem", ("stem",)), Unit("backbone.pool", ("pool",)), Unit("head.box", ("box",))]
    >>> compact([0, 1], units), compact([0, 2], units)
    ('backbone', '0-0,2-2')
    """
    if all(_of_backbone(units[number]) for number in numbers) and set(unit_numbers(BACKBONE, units)) == set(numbers):
        return BACKBONE
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    # A bare number would be a count.
    return ",".join(f"{first}-{last}" for first, last in runs)


def _of_backbone(unit: Unit) -> bool:
    return unit.name.startswith(f"{BACKBONE}.")


def _holds_any(unit: Unit, names: Collection[str]) -> bool:
    inside = tuple(f"{module}." for module in unit.modules)
    return any(name.startswith(inside) for name in names)


def _contradiction(strategy: str, freeze: Sequence[str], units: Sequence[Unit]) -> NoReturn:
    said = " ".join(freeze)
    error = UsageError(
        f"--strategy {strategy} {RULES[strategy]}, but --freeze {said} says otherwise; leave one of them out"
    )
    if units:
        error.add_note(unit_list(units))
    raise error
