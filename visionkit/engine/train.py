"""The training loop, in the order things happen.

A run is a pure function of data, settings and seed: everything random is keyed by where the run is (seed, epoch, sample
or batch), nothing is drawn from a running generator, and the state at any optimizer step is enough to go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from visionkit.engine.broken_steps import require_finite_weights
from visionkit.engine.distributed import TorchProcesses, take_over
from visionkit.engine.ema import WeightAverage
from visionkit.engine.events import EpochDone, Listener, Stopped
from visionkit.engine.interruption import StopRequest
from visionkit.engine.optim import Optimizer, build_optimizer
from visionkit.engine.parameter_groups import Rule, parameter_rules
from visionkit.engine.settings import TrainSettings
from visionkit.engine.steps import Loop, learning_rate, pausing, train_epoch
from visionkit.engine.thawing import Thaws
from visionkit.metrics.task_scores import SCORE_NAMES, TaskScores
from visionkit.models.assembly import model_task
from visionkit.ops.global_count import learning_together
from visionkit.types import Batch


class TrainingBatches(Protocol):
    """The batches of a run: `start(epoch, batch)` goes on from there, over all remaining epochs (both from 0)."""

    @property
    def batches_per_epoch(self) -> int: ...

    def start(self, epoch: int, batch: int) -> Iterable[Batch]: ...


_COUNTERS = ("epoch", "batch", "step", "losses", "history")


@dataclass
class TrainingState:
    """Everything that changes while a run goes on.

    Args:
        epoch, batch: the next batch to learn from, both from 0.
        step: optimizer steps taken.
        losses: sums over the batches of the current epoch whose step was taken, by name.
        counted: how many batches these are.
        skipped: steps of the current epoch that were not taken, because loss or gradient was not finite.
        skipped_in_a_row: the last of them, since one was taken.
        history: one row an epoch, as the metrics file shows them.
        rules: how each parameter learns, by name.
        thaws: what is frozen at first and learns later.
    """

    model: nn.Module
    average: WeightAverage
    optimizer: Optimizer
    epoch: int = 0
    batch: int = 0
    step: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    counted: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    rules: Mapping[str, Rule] = field(default_factory=dict)
    thaws: Thaws = field(default_factory=Thaws)

    @classmethod
    def begin(
        cls,
        model: nn.Module,
        settings: TrainSettings,
        batches_per_epoch: int,
        fresh: Collection[str] = (),
        thaws: Thaws | None = None,
    ) -> TrainingState:
        """The state before step 1 of a model that is already on its device and frozen where it should be.

        Args:
            fresh: names of the tensors that start random.
        """
        rules = parameter_rules(model, settings, fresh)
        optimizer = build_optimizer(model, settings, rules)
        average = WeightAverage(model, settings.ema_horizon)
        return cls(model, average, optimizer, rules=rules, thaws=thaws or Thaws())

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "thawed": self.thaws.done,
            **{name: getattr(self, name) for name in (*_COUNTERS, "counted", "skipped", "skipped_in_a_row")},
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go back to what `to_dict` said."""
        self.model.load_state_dict(saved["model"])
        self.average.model.load_state_dict(saved["average"])
        self.thaws.replay(saved.get("thawed", 0), self.model, self.optimizer, self.rules)
        self.optimizer.load_state_dict(saved["optimizer"])
        for name in _COUNTERS:
            setattr(self, name, saved[name])
        # A state from before steps could be skipped.
        self.counted = saved.get("counted", self.batch)
        self.skipped, self.skipped_in_a_row = saved.get("skipped", 0), saved.get("skipped_in_a_row", 0)

    def count_losses(self, batches: Sequence[Mapping[str, float]]) -> None:
        """Add the loss values of the batches of a step that was taken."""
        for values in batches:
            for name, value in values.items():
                self.losses[name] = self.losses.get(name, 0.0) + value
        self.counted += len(batches)
        self.skipped_in_a_row = 0

    def count_skipped(self, batches: Sequence[Mapping[str, float]]) -> None:
        """Count a step that was not taken; of its batches nothing but the names of their losses is kept."""
        for name in batches[0]:
            self.losses.setdefault(name, 0.0)
        self.skipped += 1
        self.skipped_in_a_row += 1

    def end_epoch(self) -> None:
        """Go on to the first batch of the next one."""
        self.epoch, self.batch, self.losses, self.counted, self.skipped = self.epoch + 1, 0, {}, 0, 0

    @property
    def all_skipped(self) -> int:
        """Steps of the whole run that were not taken."""
        return self.skipped + sum(int(row.get("skipped", 0)) for row in self.history)

    def thaw(self, listen: Listener) -> None:
        """At the beginning of the current epoch: let learn what thaws in it."""
        for thawed in self.thaws.begin_epoch(
            self.epoch + 1, self.model, self.average.model, self.optimizer, self.rules
        ):
            listen(thawed)

    @property
    def score_names(self) -> tuple[str, ...]:
        """The scores that the history keeps, by the model's task; the first is the metric to be maximised."""
        return SCORE_NAMES[model_task(self.model)]

    @property
    def metric(self) -> str:
        return self.score_names[0]

    @property
    def best(self) -> dict[str, Any] | None:
        """The history row of the evaluated epoch with the highest metric, the earliest of equals."""
        evaluated = [row for row in self.history if row[self.metric] is not None]
        return max(evaluated, key=lambda row: row[self.metric]) if evaluated else None


def train(
    state: TrainingState,
    batches: TrainingBatches,
    settings: TrainSettings,
    *,
    device: torch.device,
    evaluate: Callable[[nn.Module], TaskScores],
    save_state: Callable[[TrainingState], None],
    save_epoch: Callable[[TrainingState, TaskScores | None, bool], None],
    listen: Listener,
    stop: StopRequest | None = None,
    processes: TorchProcesses | None = None,
) -> None:
    """Train from wherever `state` is to the last epoch, or until `patience` runs out.

    Args:
        evaluate: scores a model on the validation split.
        save_state: called before step 1, within long epochs, after every epoch, and where the run is asked to end.
        save_epoch: called after every epoch with its scores and whether they are the best; before `save_state`, so that
            whatever it writes is written again, the same, by a run that is killed in between.
        stop: asks the run to end.
        processes: who else learns from each batch, in the same call with its own part of them; evaluation and saving
            are then shared, or left to one of them, by who is handed in here.

    Raises:
        DivergedError: loss, gradient or weights are no longer finite.
        InterruptedRunError: `stop` asked for it, and the state is saved.
    """
    evaluation_epochs = settings.evaluation_epochs()

    def save_finite(state: TrainingState) -> None:
        require_finite_weights(state.model, state.epoch + 1)
        save_state(state)

    loop = Loop(settings, batches.batches_per_epoch, device, save_finite, listen, stop or StopRequest(), processes)
    with _reproducible(device), learning_together(processes), loop.stop.heard_by_run():
        if processes is not None:
            take_over((state.model, state.average.model), processes)
        save_state(state)
        started = time.monotonic()
        source = iter(batches.start(state.epoch, state.batch))
        while not is_finished(state, settings):
            began = time.monotonic()
            state.thaw(listen)
            images = train_epoch(state, source, loop)
            seconds = time.monotonic() - began

            require_finite_weights(state.model, state.epoch + 1)
            number = state.epoch + 1
            scores = None
            if number in evaluation_epochs:
                with pausing(state, loop):
                    scores = evaluate(state.average.model)
            row = _history_row(state, scores, settings, batches.batches_per_epoch)
            state.history.append(row)
            is_best = state.best is row
            mean_losses = {name: row[f"loss/{name}"] for name in state.losses if row[f"loss/{name}"] is not None}
            state.end_epoch()
            save_epoch(state, scores, is_best)
            save_state(state)
            speed = images * (1 if processes is None else processes.world_size) / max(seconds, 1e-9)
            elapsed = time.monotonic() - started
            listen(EpochDone(number, settings.epochs, mean_losses, row["lr"], speed, elapsed, scores, is_best))
        if state.best and state.epoch < settings.epochs:
            listen(Stopped(state.epoch, state.best["epoch"], state.metric))


def is_finished(state: TrainingState, settings: TrainSettings) -> bool:
    """Whether nothing is left to do: all epochs are through, or `patience` ran out."""
    return state.epoch >= settings.epochs or _out_of_patience(state, settings.patience)


def _history_row(
    state: TrainingState, scores: TaskScores | None, settings: TrainSettings, batches_per_epoch: int
) -> dict[str, Any]:
    """One row of the metrics file. No times: a resumed run writes the same bytes."""
    total_steps = settings.total_steps(batches_per_epoch)
    counted = state.counted
    return {
        "epoch": state.epoch + 1,
        "step": state.step,
        "lr": learning_rate(max(0, state.step - 1), total_steps, settings),
        **{f"loss/{name}": total / counted if counted else None for name, total in state.losses.items()},
        **{name: getattr(scores, name) if scores else None for name in state.score_names},
        **({"skipped": state.skipped} if state.skipped else {}),
    }


def _out_of_patience(state: TrainingState, patience: int) -> bool:
    """Whether `patience` evaluations in a row were no better than the best."""
    if not patience or state.best is None:
        return False
    metric, best_epoch = state.metric, state.best["epoch"]
    since = [row for row in state.history if row[metric] is not None and row["epoch"] > best_epoch]
    return len(since) >= patience and state.history[-1][metric] is not None


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """On a CPU, sums in a fixed order. Elsewhere several layers have no such kernel, and no bytes are promised."""
    before = torch.get_deterministic_debug_mode()
    fill_before = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    try:
        if device.type == "cpu":
            # Not `use_deterministic_algorithms`, which says so to torch's compiler too, and imports that.
            torch.set_deterministic_debug_mode("error")
            # Filling fresh memory costs time and nothing here reads memory it has not written.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.utils.deterministic.fill_uninitialized_memory = fill_before  # type: ignore[attr-defined]
