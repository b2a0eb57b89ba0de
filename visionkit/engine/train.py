"""The training loop, in the order things happen.

A run is a pure function of data, settings and seed: everything random is keyed by where the run is (seed, epoch, sample
or batch), nothing is drawn from a running generator, and the state at any optimizer step is enough to go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.engine.device import precision
from visionkit.engine.ema import WeightAverage
from visionkit.engine.events import EpochDone, Listener, StepDone, Stopped
from visionkit.engine.optim import build_optimizer, set_learning_rate, shape_gradients
from visionkit.engine.schedule import SCHEDULES
from visionkit.engine.settings import TrainSettings
from visionkit.errors import VisionkitError
from visionkit.metrics.task_scores import SCORE_NAMES, TaskScores
from visionkit.types import Batch


class TrainingBatches(Protocol):
    """The batches of a run: `start(epoch, batch)` goes on from there, over all remaining epochs (both from 0)."""

    @property
    def batches_per_epoch(self) -> int: ...

    def start(self, epoch: int, batch: int) -> Iterable[Batch]: ...


@dataclass
class TrainingState:
    """Everything that changes while a run goes on.

    Args:
        epoch, batch: the next batch to learn from, both from 0.
        step: optimizer steps taken.
        losses: sums over the batches of the current epoch, by name.
        history: one row an epoch, as the metrics file shows them.
    """

    model: nn.Module
    average: WeightAverage
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    batch: int = 0
    step: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def begin(cls, model: nn.Module, settings: TrainSettings, batches_per_epoch: int) -> TrainingState:
        """The state before step 1 of a model that is already on its device and frozen where it should be."""
        return cls(model, WeightAverage(model, settings.ema_horizon), build_optimizer(model, settings))

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in ("epoch", "batch", "step", "losses", "history")},
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go back to what `to_dict` said."""
        self.model.load_state_dict(saved["model"])
        self.average.model.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for name in ("epoch", "batch", "step", "losses", "history"):
            setattr(self, name, saved[name])

    @property
    def score_names(self) -> tuple[str, ...]:
        """The scores that the history keeps, by the model's task; the first is the metric to be maximised."""
        return SCORE_NAMES[getattr(self.model, "task", "detect")]

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
) -> None:
    """Train from wherever `state` is to the last epoch, or until `patience` runs out.

    Args:
        evaluate: scores a model on the validation split.
        save_state: called before step 1, within long epochs, and after every epoch.
        save_epoch: called after every epoch with its scores and whether they are the best; before `save_state`, so that
            whatever it writes is written again, the same, by a run that is killed in between.

    Raises:
        VisionkitError: the loss is no longer finite.
    """
    evaluation_epochs = settings.evaluation_epochs()
    with _reproducible(device):
        save_state(state)
        started = time.monotonic()
        source = iter(batches.start(state.epoch, state.batch))
        while state.epoch < settings.epochs and not _out_of_patience(state, settings.patience):
            began = time.monotonic()
            images = _train_epoch(state, source, batches.batches_per_epoch, settings, device, save_state, listen)
            seconds = time.monotonic() - began

            number = state.epoch + 1
            scores = evaluate(state.average.model) if number in evaluation_epochs else None
            row = _history_row(state, scores, settings, batches.batches_per_epoch)
            state.history.append(row)
            is_best = state.best is row
            mean_losses = {name: row[f"loss/{name}"] for name in state.losses}
            state.epoch, state.batch, state.losses = number, 0, {}
            save_epoch(state, scores, is_best)
            save_state(state)
            speed = images / max(seconds, 1e-9)
            elapsed = time.monotonic() - started
            listen(EpochDone(number, settings.epochs, mean_losses, row["lr"], speed, elapsed, scores, is_best))
        if state.best and state.epoch < settings.epochs:
            listen(Stopped(state.epoch, state.best["epoch"], state.metric))


def _train_epoch(
    state: TrainingState,
    source: Iterator[Batch],
    batches_per_epoch: int,
    settings: TrainSettings,
    device: torch.device,
    save_state: Callable[[TrainingState], None],
    listen: Listener,
) -> int:
    """The rest of the current epoch; returns the number of images learnt from."""
    state.model.train()
    images = 0
    saved_at = time.monotonic()
    total_steps = settings.total_steps(batches_per_epoch)
    while state.batch < batches_per_epoch:
        lr = _learning_rate(state.step, total_steps, settings)
        set_learning_rate(state.optimizer, lr)
        state.optimizer.zero_grad(set_to_none=True)
        window = min(settings.accumulate, batches_per_epoch - state.batch)
        for _ in range(window):
            batch = next(source).to(device)
            torch.manual_seed(_step_seed(settings.seed, state.epoch, state.batch))
            # A model that draws regions to learn from has to know the truth.
            truth = {"targets": batch.targets} if getattr(state.model, "draws_regions", False) else {}
            given = {} if batch.proposals is None else {"proposals": batch.proposals}
            with precision(device, settings.amp):
                outputs = state.model(batch.images, **truth, **given)
            losses = state.model.loss(outputs, batch.targets)  # type: ignore[operator]
            (losses.total / window).backward()

            values = _values(losses.parts)
            for name, value in values.items():
                state.losses[name] = state.losses.get(name, 0.0) + value
            state.batch += 1
            images += len(batch.images)
            _require_finite(values, state, lr)
            listen(
                StepDone(
                    state.epoch + 1, settings.epochs, state.batch, batches_per_epoch, values, lr, len(batch.images)
                )
            )
        shape_gradients(state.optimizer, settings)
        state.optimizer.step()
        state.step += 1
        state.average.update(state.step)

        if state.batch < batches_per_epoch and time.monotonic() - saved_at >= 60 * settings.save_minutes:
            save_state(state)
            saved_at = time.monotonic()
    return images


def _learning_rate(step: int, total_steps: int, settings: TrainSettings) -> float:
    steps_per_epoch = total_steps / settings.epochs
    warmup = round(min(settings.warmup_epochs, settings.epochs / 5) * steps_per_epoch)
    warmup = min(warmup, settings.warmup_steps)
    schedule = SCHEDULES[settings.schedule]
    return settings.lr * schedule(step, total=total_steps, warmup=warmup, final=settings.final_lr)


def _step_seed(seed: int, epoch: int, batch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, batch]).generate_state(1, np.uint64)[0] >> 1)


def _values(parts: Mapping[str, Tensor]) -> dict[str, float]:
    """Loss values in one transfer, however many there are."""
    return dict(zip(parts, torch.stack([part.detach() for part in parts.values()]).tolist(), strict=True))


def _require_finite(values: Mapping[str, float], state: TrainingState, lr: float) -> None:
    if not np.isfinite(list(values.values())).all():
        raise VisionkitError(
            f"the loss is no longer finite at epoch {state.epoch + 1}, batch {state.batch} (learning rate {lr:.3g}); "
            f"the last saved state is intact, start anew with a lower --lr"
        )


def _history_row(
    state: TrainingState, scores: TaskScores | None, settings: TrainSettings, batches_per_epoch: int
) -> dict[str, Any]:
    """One row of the metrics file. No times: a resumed run writes the same bytes."""
    total_steps = settings.total_steps(batches_per_epoch)
    return {
        "epoch": state.epoch + 1,
        "step": state.step,
        "lr": _learning_rate(state.step - 1, total_steps, settings),
        **{f"loss/{name}": total / batches_per_epoch for name, total in state.losses.items()},
        **{name: getattr(scores, name) if scores else None for name in state.score_names},
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
    before = torch.are_deterministic_algorithms_enabled()
    fill_before = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    try:
        if device.type == "cpu":
            torch.use_deterministic_algorithms(True)
            # Filling fresh memory costs time and nothing here reads memory it has not written.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = fill_before  # type: ignore[attr-defined]
