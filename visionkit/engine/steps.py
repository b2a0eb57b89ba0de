"""The steps of an epoch: forward, backward, optimizer, weight average, in the order things happen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from visionkit.engine.broken_steps import DivergedError, Statistics, all_finite
from visionkit.engine.device import precision
from visionkit.engine.distributed import TorchProcesses, sum_gradients
from visionkit.engine.events import Listener, StepDone, StepSkipped
from visionkit.engine.interruption import InterruptedRunError, StopRequest
from visionkit.engine.optim import set_learning_rate, shape_gradients
from visionkit.engine.schedule import SCHEDULES
from visionkit.engine.settings import TrainSettings
from visionkit.errors import ConfigError, VisionkitError
from visionkit.models.assembly import unknown_loss
from visionkit.types import Batch, Losses

if TYPE_CHECKING:
    from visionkit.engine.train import TrainingState


@dataclass(frozen=True, slots=True)
class Loop:
    """What all steps of a run have in common.

    Args:
        save_state: as `train` takes it.
        stop: whether the run has been asked to end.
        processes: who else learns from each batch; None where nobody does.
    """

    settings: TrainSettings
    batches_per_epoch: int
    device: torch.device
    save_state: Callable[[TrainingState], None]
    listen: Listener
    stop: StopRequest
    processes: TorchProcesses | None


def train_epoch(state: TrainingState, source: Iterator[Batch], loop: Loop) -> int:
    """The rest of the current epoch; returns the number of images that this process learnt from.

    A step whose loss or gradient is not finite is skipped: its batches are through, all else is as before it.

    Raises:
        DivergedError: `max_skipped` steps in a row were.
        InterruptedRunError: the run was asked to end.
        ConfigError: `loss_weights` names a loss that the model does not have.
    """
    settings, processes = loop.settings, loop.processes
    state.model.train()
    statistics = Statistics(state.model)
    images = 0
    saved_at = time.monotonic()
    total_steps = settings.total_steps(loop.batches_per_epoch)
    while state.batch < loop.batches_per_epoch:
        lr = learning_rate(state.step, total_steps, settings)
        set_learning_rate(state.optimizer, lr)
        state.optimizer.zero_grad(set_to_none=True)
        statistics.keep()
        window = min(settings.accumulate, loop.batches_per_epoch - state.batch)
        values: list[dict[str, float]] = []
        asked = False
        for _ in range(window):
            batch = _fetched(state, source, loop, between_steps=not values).to(loop.device)
            torch.manual_seed(_step_seed(settings.seed, state.epoch, state.batch, processes))
            with precision(loop.device, settings.amp):
                outputs = state.model(batch.images, targets=batch.targets, proposals=batch.proposals)
            losses = _weighed(state.model.loss(outputs, batch.targets), settings.loss_weights)  # type: ignore[operator]
            (losses.total / window).backward()

            found, asked = _values(losses.parts, loop)
            values.append(found)
            state.batch += 1
            images += len(batch.images)
            loop.listen(
                StepDone(
                    state.epoch + 1,
                    settings.epochs,
                    state.batch,
                    loop.batches_per_epoch,
                    found,
                    lr,
                    len(batch.images),
                )
            )
        if processes is not None:
            sum_gradients([p for group in state.optimizer.param_groups for p in group["params"]], processes)
            statistics.average(processes)
        norm = shape_gradients(state.optimizer, settings)
        if all_finite(values, norm):
            state.optimizer.step()
            state.step += 1
            state.average.update(state.step, lr / settings.lr)
            state.count_losses(values)
        else:
            statistics.restore()
            what: Literal["loss", "gradient"] = "gradient" if all_finite(values, 0.0) else "loss"
            _skip(state, values, what, batch, lr, loop)

        if processes is not None and asked:
            loop.save_state(state)
            raise InterruptedRunError
        if state.batch < loop.batches_per_epoch and time.monotonic() - saved_at >= 60 * settings.save_minutes:
            loop.save_state(state)
            saved_at = time.monotonic()
    return images


@contextmanager
def pausing(state: TrainingState, loop: Loop) -> Iterator[None]:
    """A stretch between two steps, in which nothing of the state changes: a run that is asked to end, before it or
    meanwhile, saves its state and does.

    Several processes end together or wait for each other for ever: they agree on it after their next step.

    Raises:
        InterruptedRunError: it was asked to end.
    """
    try:
        with _ended_with_others(loop), loop.stop.at_rest() if loop.processes is None else nullcontext():
            yield
    except InterruptedRunError:
        loop.save_state(state)
        raise


@contextmanager
def _ended_with_others(loop: Loop) -> Iterator[None]:
    """The signal that asked this process to end may have ended those that prepare its images too, whose death is an
    error; and that error may come in place of the `InterruptedRunError` that the signal raised.

    Raises:
        InterruptedRunError: in place of it.
    """
    try:
        yield
    except (RuntimeError, VisionkitError):
        if loop.stop.asked:
            raise InterruptedRunError from None
        raise


def _fetched(state: TrainingState, source: Iterator[Batch], loop: Loop, *, between_steps: bool) -> Batch:
    """The next batch."""
    # Half of a step cannot be saved: there its state stays the one saved last.
    with pausing(state, loop) if between_steps else _ended_with_others(loop):
        return next(source)


def learning_rate(step: int, total_steps: int, settings: TrainSettings) -> float:
    """The highest learning rate of a step, counted from 0."""
    steps_per_epoch = total_steps / settings.epochs
    warmup = round(min(settings.warmup_epochs, settings.epochs / 5) * steps_per_epoch)
    warmup = min(warmup, settings.warmup_steps)
    schedule = SCHEDULES[settings.schedule]
    return settings.lr * schedule(step, total=total_steps, warmup=warmup, final=settings.final_lr)


def _weighed(losses: Losses, weights: Mapping[str, float]) -> Losses:
    """The losses with some of them multiplied, by name.

    Raises:
        ConfigError: one that is not there.
    """
    if not weights:
        return losses
    if problem := unknown_loss(weights, tuple(losses.parts)):
        raise ConfigError(problem)
    return Losses({name: weights.get(name, 1.0) * loss for name, loss in losses.parts.items()})


def _step_seed(seed: int, epoch: int, batch: int, processes: TorchProcesses | None) -> int:
    # The first process draws what one alone would.
    place = [seed, epoch, batch, *([processes.rank] if processes is not None and processes.rank else [])]
    return int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1)


def _values(parts: Mapping[str, Tensor], loop: Loop) -> tuple[dict[str, float], bool]:
    """Loss values of the whole batch in one transfer, however many there are; and whether any of the processes that
    learn from it has been asked to end."""
    stacked = torch.stack([part.detach() for part in parts.values()])
    if loop.processes is None:
        return dict(zip(parts, stacked.tolist(), strict=True)), loop.stop.asked
    mine = stacked.new_tensor([float(loop.stop.asked)])
    *values, asked = loop.processes.sum(torch.cat((stacked, mine))).tolist()
    return dict(zip(parts, values, strict=True)), asked > 0


def _skip(
    state: TrainingState,
    values: list[dict[str, float]],
    what: Literal["loss", "gradient"],
    batch: Batch,
    lr: float,
    loop: Loop,
) -> None:
    state.count_skipped(values)
    loop.listen(StepSkipped(state.epoch + 1, state.batch, what, state.skipped_in_a_row))
    if state.skipped_in_a_row >= loop.settings.max_skipped:
        raise DivergedError(
            f"the {what} is no longer finite at epoch {state.epoch + 1}, batch {state.batch} (learning rate {lr:.3g}), "
            f"steps skipped in a row: {state.skipped_in_a_row}; the last saved state is intact, start anew with a "
            f"lower --lr",
            batch,
        )
