"""Which strategy to fine-tune with, measured on the user's own images; on request, tried."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionkit.advice.decision import Advice, Plan
from visionkit.api.finetune import finetune
from visionkit.api.measured_advice import measured_advice
from visionkit.api.prepare import open_run
from visionkit.api.strategy import LOADED_RATE
from visionkit.api.task_data import require_fitting_data
from visionkit.choices import Choices
from visionkit.config import Config
from visionkit.counted import counted
from visionkit.engine.events import Listener
from visionkit.engine.numbered_folder import numbered_folder
from visionkit.engine.run_folder import RunFolder
from visionkit.errors import UsageError

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """A short run of a plan, and its best score: AP, or the metric of its task; None where there is none."""

    plan: Plan
    score: float | None
    metric: str
    epochs: int
    folder: Path

    def to_json(self) -> dict[str, Any]:
        return {
            **self.plan.to_json(),
            self.metric: self.score,
            "epochs": self.epochs,
            "folder": str(self.folder),
        }


@dataclass(frozen=True, slots=True)
class Advised:
    """The advice, the command that follows it, and what trials of it came to.

    Args:
        command: words of the shell.
        rates: highest learning rates of what starts fresh and of what was loaded.
        trials: of the two best plans, the one that did better first; empty where none were asked for.
    """

    advice: Advice
    command: tuple[str, ...]
    rates: dict[str, float]
    trials: tuple[Trial, ...] = ()

    def lines(self) -> list[str]:
        """The same in words."""
        fresh, loaded = self.rates["fresh"], self.rates["loaded"]
        lines = [*self.advice.lines(), f"  rates         fresh layers {fresh:g}, loaded layers {loaded:g}"]
        for trial in self.trials:
            score = "n/a" if trial.score is None else f"{trial.score:.4f}"
            after = f"{trial.metric} {score} after {counted(trial.epochs, 'epoch')}"
            lines.append(f"  trial         {trial.plan.words()}: {after}")
        return [*lines, f"  command       {shlex.join(self.command)}"]

    def to_json(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            **self.advice.to_json(),
            "rates": self.rates,
            "command": list(self.command),
            "trials": [trial.to_json() for trial in self.trials],
        }


def advise(
    data: str | Path | None = None,
    *,
    verify: float | None = None,
    out: str | Path | None = None,
    say: Say = lambda line: None,
    on_skip: Callable[[str], None] = lambda line: None,
    listen: Listener = lambda event: None,
    **flags: Any,
) -> Advised:
    """Measure size, similarity and separability of a dataset for weights, and name the strategy that suits.

    Args:
        data: dataset folder or YAML file; see `finetune`.
        verify: minutes for each of two short runs, of the two best plans; None runs none. The advice is then the one
            that did better; of one seed and a short time, so a small difference means little.
        out: folder of these runs; by default a new one under runs/advise.
        say: told, line by line, what a user should read on the way.
        on_skip: told, a line each, the items that `skip_bad` leaves out of the data.
        listen: told how far looking and trials are.
        flags: model, backbone, weights, imgsz, batch, lr, optimizer, seed, device, threads, workers, skip_bad, offline:
            as for `finetune`.

    Raises:
        UsageError, ConfigError, DataError, CheckpointError: something given is wrong, as data of another kind than the
            model learns.
        VisionkitError: a trial failed on its way.
    """
    unknown = [name for name in flags if name not in (*_FLAGS, *_TRAIN_FLAGS)]
    if unknown:
        known = ", ".join(sorted((*_FLAGS, *_TRAIN_FLAGS)))
        raise UsageError(f"advise has no option {unknown[0]!r}; the options are {known}")
    if verify is not None and not 0 < verify < float("inf"):
        raise UsageError(f"verify must be minutes above 0, got {verify:g}; for example 2")
    given = {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}
    given = {name: value for name, value in given.items() if value is not None}
    choices = Choices()
    choices.say({f"train.{name}" if name in _TRAIN_FLAGS else name: value for name, value in given.items()}, "flag")
    if data is not None:
        choices.say({"data": str(data)}, "flag")
    opened = open_run(choices, say, listen=listen)
    require_fitting_data(opened.config, opened.train_images)  # else what is advised is refused
    for line in opened.train_images.left_out:
        on_skip(line)
    advice = measured_advice(opened.config, opened.train_images, opened.source, opened.device, listen)
    trials: tuple[Trial, ...] = ()
    if verify is not None:
        name = opened.layout.root.resolve().name
        folder = Path(out) if out is not None else numbered_folder(Path("runs") / "advise", name)
        plans = [plan for plan in (advice.best, advice.second) if plan]
        for plan in plans:
            RunFolder.check_free(folder / plan.strategy)
        tried = [_trial(plan, data, given, verify, folder, say, listen) for plan in plans]
        trials = tuple(sorted(tried, key=lambda trial: -1.0 if trial.score is None else trial.score, reverse=True))
    best = trials[0].plan if trials else advice.best
    return Advised(advice, _command(best, data, given), _rates(best, opened.config), trials)


_FLAGS = ("model", "backbone", "weights", "imgsz", "device", "threads", "workers", "skip_bad", "offline")
# Flags whose setting lies in the group `train`.
_TRAIN_FLAGS = ("batch", "lr", "optimizer", "seed")


def _trial(
    plan: Plan,
    data: str | Path | None,
    given: dict[str, Any],
    minutes: float,
    folder: Path,
    say: Say,
    listen: Listener,
) -> Trial:
    say(f"Trying {plan.words()} for {minutes:g} minutes")
    flags = {name: value for name, value in given.items() if not (plan.strategy == "scratch" and name == "weights")}
    result = finetune(
        data,
        strategy=plan.strategy,
        freeze=[plan.freeze] if plan.freeze else (),
        minutes=minutes,
        out=folder / plan.strategy,
        say=say,
        listen=listen,
        **flags,
    )
    assert result is not None
    metric, score = next(iter(result.scores.items()))
    return Trial(plan, score, metric, result.epochs, result.folder)


def _rates(plan: Plan, config: Config) -> dict[str, float]:
    lr = config.train.lr
    return {"fresh": lr, "loaded": lr * LOADED_RATE if plan.strategy == "full" else lr}


def _command(plan: Plan, data: str | Path | None, given: dict[str, Any]) -> tuple[str, ...]:
    """The call of `finetune` that follows a plan."""
    words = ["visionkit", "finetune"]
    if data is not None:
        words += ["--data", str(data)]
    for name, value in given.items():
        if plan.strategy == "scratch" and name == "weights":
            continue
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [] if value is False else [flag, str(value)]
    words += ["--strategy", plan.strategy]
    return tuple(words + (["--freeze", plan.freeze] if plan.freeze else []))
