"""How long a run will take, found by trying its parts, and how many epochs fit into the time there is.

Everything is tried with the loop itself, on a state that is thrown away.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import nn

from visionkit.engine.distributed import TorchProcesses
from visionkit.engine.events import Event, StepDone
from visionkit.engine.settings import TrainSettings
from visionkit.engine.train import TrainingBatches, TrainingState, train
from visionkit.metrics.task_scores import TaskScores
from visionkit.types import Batch

Clock = Callable[[], float]

# The time of a step does not depend on its length; so short a one can neither diverge nor change what is evaluated.
TRIAL_LR = 1e-3

# What evaluations may take of a run's time, and how many of them make a curve.
EVALUATIONS_SHARE = 0.1
MOST_EVALUATIONS = 50

# Where a run spreads its evaluations itself it has no fewer than so many, or one an epoch.
FEWEST_OWN = 50

_NEVER_BUT_LAST = 10**9


@dataclass(frozen=True, slots=True)
class RunCost:
    """What the parts of a run take, in seconds.

    Args:
        start: once, until the first batch is there.
        batch: to load one of full size and learn from it.
        epoch: the files at the end of each epoch.
        evaluation: one of them, with the files that only follow an evaluation.
        effort: how many epochs of full-size batches a run of so many epochs takes as long as; where images grow, fewer.
        end: once, after the last epoch.
    """

    start: float
    batch: float
    epoch: float
    evaluation: float
    effort: Callable[[int], float] = float
    end: float = 0.0

    def of_run(self, settings: TrainSettings, batches_per_epoch: int) -> float:
        """Seconds of a whole run.

        >>> RunCost(start=1, batch=0.5, epoch=0.1, evaluation=2).of_run(TrainSettings(epochs=10, evaluate_every=5), 4)
        26.0
        """
        learning = self.effort(settings.epochs) * batches_per_epoch * self.batch
        evaluating = len(settings.evaluation_epochs()) * self.evaluation
        return self.start + learning + settings.epochs * self.epoch + evaluating + self.end


def epochs_within(seconds: float, cost: RunCost, settings: TrainSettings, batches_per_epoch: int) -> int:
    """The most epochs, evaluations as `settings` spread them included, that take at most `seconds`; 0 if one does not.

    The time of a run does not grow with each epoch: 99 epochs mean 99 evaluations, and 100 mean 50. So the most that
    could fit with the fewest evaluations is found by halving, for that time does grow, and from there on down each
    number is tried.

    >>> epochs_within(26, RunCost(1, 0.5, 0.1, 2), TrainSettings(evaluate_every=5), 4)
    10
    """

    def least(epochs: int) -> float:
        evaluations = -(-epochs // settings.evaluate_every) if settings.evaluate_every else min(epochs, FEWEST_OWN)
        learning = cost.effort(epochs) * batches_per_epoch * cost.batch
        return cost.start + learning + epochs * cost.epoch + evaluations * cost.evaluation + cost.end

    too_many = 1
    while least(too_many) <= seconds:
        too_many *= 2
    # The last number for which it is at most `seconds`: where "is more" begins, less one.
    epochs = bisect_right(range(too_many), False, key=lambda number: number > 0 and least(number) > seconds) - 1
    while epochs > 0 and cost.of_run(settings.model_copy(update={"epochs": epochs}), batches_per_epoch) > seconds:
        epochs -= 1
    return epochs


def affordable_interval(seconds: float, cost: RunCost, settings: TrainSettings, batches_per_epoch: int) -> int:
    """Epochs between evaluations such that these take some tenth of the time, and are no more than fifty.

    A small training set with a large validation set would otherwise be judged for longer than it is learnt from.

    >>> affordable_interval(26, RunCost(1, 0.5, 0.1, 2), TrainSettings(), 4)  # one evaluation, after 10 epochs of 2.1 s
    10
    """
    affordable = EVALUATIONS_SHARE * seconds / max(cost.evaluation, 1e-9)
    rare = settings.model_copy(update={"evaluate_every": _NEVER_BUT_LAST})
    epochs = epochs_within(seconds, cost, rare, batches_per_epoch)
    return max(1, math.ceil(epochs / min(MOST_EVALUATIONS, max(1, math.floor(affordable)))))


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds until the first batch was there, and of one batch in the long run."""

    start: float
    batch: float


class _EnoughError(Exception):
    """Ends the trial from within the loop, where time or batches are used up."""


def time_steps(
    state: TrainingState,
    batches: TrainingBatches,
    settings: TrainSettings,
    *,
    device: torch.device,
    available: int,
    prefetched: int,
    seconds: float,
    clock: Clock = time.monotonic,
    processes: TorchProcesses | None = None,
) -> StepTimes:
    """Train for a while and see how long a batch takes: loading, forward, backward, optimizer, weight average.

    The first steps do not count: kernels are chosen and memory is found, and their batches were made in advance.

    Args:
        state: of a model that is not needed afterwards.
        available: how many batches there are, more than one.
        prefetched: batches that the loader keeps ready.
        seconds: to time; as long again at most goes before.
        clock: gives seconds.
        processes: who else learns from each batch, in the same call: they end after the same step.
    """

    def agreed(mine: bool) -> bool:
        return mine if processes is None else processes.any(mine)

    began = clock()
    arrived: list[float] = []
    counted = 0
    since: float | None = None  # the end of the warm-up

    def listen(event: Event) -> None:
        nonlocal counted, since
        if not isinstance(event, StepDone):
            return
        if since is not None:
            counted += 1
            if agreed(clock() - since >= seconds or event.batch == available):
                raise _EnoughError
        elif agreed(event.batch >= prefetched + 3 or clock() - began >= seconds or event.batch == available - 1):
            _finish_queue(device)
            since = clock()

    trial = _trial(settings, epochs=1)
    try:
        train(
            state,
            _OneLongEpoch(batches, available, lambda: arrived.append(clock())),
            trial,
            device=device,
            evaluate=_never,
            save_state=lambda state: None,
            save_epoch=_never,
            listen=listen,
            processes=processes,
        )
    except _EnoughError:
        _finish_queue(device)
    assert since is not None
    return StepTimes(start=arrived[0] - began, batch=(clock() - since) / counted)


@dataclass(frozen=True, slots=True)
class _OneLongEpoch:
    """The batches of several epochs as those of one, so that no epoch ends within a trial."""

    batches: TrainingBatches
    batches_per_epoch: int
    on_batch: Callable[[], None]

    def start(self, epoch: int, batch: int) -> Iterator[Batch]:
        for item in self.batches.start(epoch, batch):
            self.on_batch()
            yield item


def _never(*_: Any) -> NoReturn:
    raise AssertionError("a trial of steps ends before its epoch does")


@dataclass(frozen=True, slots=True)
class EpochEndTimes:
    """Seconds of an evaluation, of the files after an epoch without one, and of the files after an epoch with one."""

    evaluation: float
    files: float
    files_evaluated: float


def time_epoch_ends(
    state: TrainingState,
    batches: TrainingBatches,
    settings: TrainSettings,
    *,
    device: torch.device,
    evaluate: Callable[[nn.Module], TaskScores],
    save_state: Callable[[TrainingState], None],
    save_epoch: Callable[[TrainingState, TaskScores | None, bool], None],
    clock: Clock = time.monotonic,
    processes: TorchProcesses | None = None,
) -> EpochEndTimes:
    """Go through three epochs of one batch: the first ends without an evaluation, the second with one, which also
    loads and starts what evaluations need, and the third is the one that is timed.

    Args:
        state: of a model that is not needed afterwards.
        evaluate, save_state, save_epoch, processes: as `train` takes them.
        clock: gives seconds.
    """
    times: dict[str, list[float]] = {"evaluate": [], "save_state": [], "save_epoch": []}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            began = clock()
            result = function(*arguments)
            times[name].append(clock() - began)
            return result

        return call

    train(
        state,
        _OneLongEpoch(batches, 1, lambda: None),
        _trial(settings, epochs=3).model_copy(update={"evaluate_every": 2}),
        device=device,
        evaluate=timed("evaluate", evaluate),
        save_state=timed("save_state", save_state),
        save_epoch=timed("save_epoch", save_epoch),
        listen=lambda event: None,
        processes=processes,
    )
    state_file = times["save_state"][-1]
    return EpochEndTimes(
        evaluation=times["evaluate"][-1],
        files=times["save_epoch"][0] + state_file,
        files_evaluated=times["save_epoch"][-1] + state_file,
    )


def _trial(settings: TrainSettings, epochs: int) -> TrainSettings:
    quiet = {"lr": settings.lr * TRIAL_LR, "patience": 0, "save_minutes": 1e9}
    return settings.model_copy(update={"epochs": epochs, **quiet})


def _finish_queue(device: torch.device) -> None:
    """A GPU works through what it was told in its own time; wait for it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
