"""What a run holds still, from when on it thaws, and at which rates everything learns: done and said before step 1."""

from __future__ import annotations

from collections.abc import Callable, Collection

from visionkit.build import Model
from visionkit.config import Config
from visionkit.counted import counted
from visionkit.engine.parameter_groups import has_own_rates, rule_table
from visionkit.engine.thawing import Held, Thaws
from visionkit.engine.train import TrainingState
from visionkit.errors import UsageError
from visionkit.nn.freeze import freeze, hold_of, select_units
from visionkit.nn.thaw import plan_thaws, thaw_line

Say = Callable[[str], None]


def hold_still(model: Model, config: Config, fresh: Collection[str], say: Say, done: int = 0) -> Thaws:
    """Freeze what the settings name, and plan when it thaws.

    Args:
        fresh: names of the tensors that start random.
        done: how many thaws a run that goes on has behind it; what they let go is not said to be frozen.

    Raises:
        UsageError: units or epochs that are not there, or random weights would be held.
    """
    units = model.units
    numbers = select_units(units, config.freeze)
    thaws = plan_thaws(units, numbers, config.unfreeze)
    if not numbers:
        return Thaws()
    modules = tuple(f"{module}." for number in numbers for module in units[number].modules)
    if any(name.startswith(modules) for name in fresh) and not config.force:
        raise UsageError(
            "freezing randomly initialised weights would keep noise in the network; "
            "give trained weights by --weights FILE, or --force"
        )
    # Before they are frozen: what is held knows what learnt.
    held = tuple(Held(thaw.epoch, hold_of(model, units, thaw.numbers)) for thaw in thaws)
    thawing = {number for thaw in thaws for number in thaw.numbers}
    staying = [number for number in numbers if number not in thawing]
    rest = hold_of(model, units, staying) if staying else None
    freeze(model, units, numbers)
    learning = {number for thaw in thaws[:done] for number in thaw.numbers}
    say(hold_of(model, units, [number for number in numbers if number not in learning]).sentence())
    for thaw in thaws[done:]:
        say(thaw_line(thaw, units))
    return Thaws(held, rest)


def require_thaws_within(thaws: Thaws, epochs: int) -> None:
    """Raises UsageError where something would thaw after the last epoch."""
    last = max((held.epoch for held in thaws.held), default=0)
    if last > epochs:
        raise UsageError(
            f"--unfreeze thaws at epoch {last}, but the run has {counted(epochs, 'epoch')}; name an earlier "
            "one, or train longer"
        )


def say_rates(state: TrainingState, config: Config, say: Say) -> None:
    """The table of learning rates, where a strategy or the settings tell parameters apart."""
    if config.strategy != "none" or has_own_rates(config.train):
        for line in rule_table(state.model, state.rules, config.train):
            say(line)
