"""`--minutes`: from a time to a number of epochs, by measuring first."""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from visionkit.api.prepare import Prepared, Say, batch_plan
from visionkit.api.source_memory import seconds_to_remember
from visionkit.api.task_data import proposals_file, training_dataset
from visionkit.api.training_run import RunParts
from visionkit.api.training_samples import growth
from visionkit.choices import Choices, Origin
from visionkit.data.growth import NO_GROWTH
from visionkit.engine.distributed import TorchProcesses, by_first
from visionkit.engine.run_folder import RunFolder
from visionkit.engine.throughput import (
    RunCost,
    StepTimes,
    affordable_interval,
    epochs_within,
    time_epoch_ends,
    time_steps,
)
from visionkit.engine.train import TrainingState
from visionkit.errors import DataError, UsageError
from visionkit.nn.thaw import thaw

# Shares of the time asked for, and bounds in seconds: long enough to average over images and over the machine's moods.
STEPS_SHARE, STEPS_LEAST, STEPS_MOST = 0.006, 2.0, 10.0
EVALUATION_SHARE = 0.02

# Images that steps are timed on where images are cached: a run decodes each of its images once, not at every step.
FEW_IMAGES = 64

# Of the plan that measuring draws its batches from: more than it can use up.
TRIAL_EPOCHS = 10_000

# The DataLoader's: batches that each worker makes ahead.
PREFETCHED_BY_WORKER = 2


def settle_length(choices: Choices, say: Say) -> None:
    """Let either `minutes` or `epochs` say how long to train: the one with the later origin.

    A config file with both is one that a run with `--minutes` wrote: its epochs hold, so that it is that run again.

    Raises:
        UsageError: both were given by flags, or both by `--set`.
    """
    minutes = choices.config().minutes
    if minutes is None:
        return
    order = get_args(Origin)
    by_minutes, by_epochs = choices.origin("minutes"), choices.origin("train.epochs")
    if order.index(by_minutes) > order.index(by_epochs):
        return
    if by_minutes == by_epochs != "file":
        raise UsageError("minutes and epochs both say how long to train; give --minutes or --epochs, not both")
    choices.say({"minutes": None}, by_epochs)
    if by_epochs == "file":
        say("The config file names minutes and epochs: its epochs hold; --minutes measures anew")


@dataclass(frozen=True, slots=True)
class TimeBudget:
    """The minutes asked for, running since measuring began."""

    minutes: float
    began: float
    clock: Callable[[], float]

    @property
    def seconds_left(self) -> float:
        return 60 * self.minutes - (self.clock() - self.began)

    def sentence(self) -> str:
        """`Took 14.8 minutes, 15 were asked for`."""
        return f"Took {(self.clock() - self.began) / 60:.3g} minutes, {self.minutes:g} were asked for"


def fix_epochs(
    run: Prepared,
    choices: Choices,
    beside: Path,
    say: Say,
    clock: Callable[[], float] = time.monotonic,
    processes: TorchProcesses | None = None,
) -> tuple[Prepared, TimeBudget]:
    """Measure the prepared run and give it as many epochs as fit into the minutes its config asks for, at least one.

    The time that measuring takes is part of the minutes. What is measured is a copy of the model, trained for some
    steps and thrown away, so the run itself begins as if nothing had been measured.

    Args:
        choices: `train.epochs` is added to it, with origin `auto`; `train.evaluate_every` too, where it is 0.
        beside: measured files are written in a temporary folder there, on the disk of the run.
        processes: who else is in this call; what the first of them measures holds for all.
    """
    assert run.config.minutes is not None
    budget = TimeBudget(run.config.minutes, clock(), clock)
    devices = [run.device] if run.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        tempfile.TemporaryDirectory(dir=_existing(beside), prefix=".visionkit-") as folder,
    ):
        cost, sentence = _measure(run, RunFolder(Path(folder)), clock, processes)
    settings = run.config.train
    batches_per_epoch = batch_plan(run.config, len(run.train_data)).steps_per_epoch
    left = by_first(processes, lambda: budget.seconds_left)
    if not settings.evaluate_every:
        every = affordable_interval(left, cost, settings, batches_per_epoch)
        choices.say({"train.evaluate_every": every}, "auto")
        settings = choices.config().train
    epochs = epochs_within(left, cost, settings, batches_per_epoch)
    if epochs:
        say(
            f"{sentence}: {epochs} epoch{'s' * (epochs > 1)} in {budget.minutes:g} minute{'s' * (budget.minutes != 1)}"
            + (f", evaluated every {settings.evaluate_every} epochs" if 1 < settings.evaluate_every < epochs else "")
        )
    else:
        alone = cost.of_run(settings.model_copy(update={"epochs": 1}), batches_per_epoch)
        spent, asked = 60 * budget.minutes - left, 60 * budget.minutes
        say(
            f"{sentence}: measuring took {spent:.0f} of the {asked:g} s asked for and one epoch takes {alone:.0f} s; "
            f"training one all the same, --minutes {math.ceil(10 * (spent + alone) / 60) / 10:g} would hold it"
        )
    choices.say({"train.epochs": max(1, epochs)}, "auto")
    config = choices.config()
    state = TrainingState.begin(run.state.model, config.train, batches_per_epoch, run.fresh, run.state.thaws)
    return replace(run, config=config, state=state), budget


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.resolve().parents) if path.is_dir())


def _measure(
    run: Prepared, folder: RunFolder, clock: Callable[[], float], processes: TorchProcesses | None
) -> tuple[RunCost, str]:
    """What the parts of the run cost, and the two figures a user can judge by in words."""
    config, device = run.config, run.device
    assert config.minutes is not None
    batch = config.train.batch
    seconds = min(STEPS_MOST, max(STEPS_LEAST, STEPS_SHARE * 60 * config.minutes))
    few, decoding = _few_in_memory(run, clock)
    trial = replace(
        few, config=config.model_copy(update={"train": config.train.model_copy(update={"epochs": TRIAL_EPOCHS})})
    )
    parts = RunParts.of(trial, folder, lambda event: None, processes)
    model = copy.deepcopy(run.state.model)
    # What learns later costs its time then; better to end early than late.
    for held in run.state.thaws.held:
        thaw(model, held.frozen)

    def steps_of(size: int) -> StepTimes:
        """Of batches that all have one size."""
        return time_steps(
            TrainingState.begin(model, config.train, parts.plan.steps_per_epoch),
            replace(parts.batches, view=replace(parts.view, image_size=size, growth=NO_GROWTH)),
            config.train,
            device=device,
            available=parts.plan.steps,
            prefetched=PREFETCHED_BY_WORKER * (config.workers or 0),
            seconds=seconds,
            clock=clock,
            processes=processes,
        )

    full, small = config.imgsz, growth(config).size(config.imgsz, 0)
    own_steps = steps_of(full)
    steps = by_first(processes, lambda: own_steps)
    own_small = steps_of(small) if small < full else steps
    share = by_first(processes, lambda: min(1.0, own_small.batch / steps.batch))

    def effort(epochs: int) -> float:
        """In full-size epochs; between the two sizes that were timed, time grows with the number of pixels."""
        grown = growth(config.model_copy(update={"train": config.train.model_copy(update={"epochs": epochs})}))
        area = grown.sizes(full, np.arange(epochs)) ** 2
        return float(np.interp(area, (small**2, full**2), (share, 1.0)).sum()) if small < full else float(epochs)

    shown = round(EVALUATION_SHARE * 60 * config.minutes * batch / steps.batch)
    some = run.val_images.spread(max(batch, shown))
    try:
        evaluate = parts.evaluation(some)
    except DataError:  # as in `_few_in_memory`
        some, evaluate = run.val_images, parts.evaluation(run.val_images)
    own_ends = time_epoch_ends(
        TrainingState.begin(model, config.train, parts.plan.steps_per_epoch),
        parts.batches,
        config.train,
        device=device,
        evaluate=evaluate,
        save_state=parts.save_state,
        save_epoch=parts.save_epoch,
        clock=clock,
        processes=processes,
    )
    ends = by_first(processes, lambda: own_ends)
    evaluation = ends.evaluation * len(run.val_images.images) / len(some.images)
    # Files after an evaluation: the weights of the last epoch are in `files` already, but a better one is saved twice.
    # Workers decode beside the steps. Without them it is done between these, and by each process for itself: mosaics
    # draw from all images.
    reading = by_first(processes, lambda: 0.0 if config.workers else decoding * len(run.train_data))
    # On the files that the trial of epochs' ends wrote.
    remembering = by_first(processes, lambda: seconds_to_remember(run, folder.last, clock))
    cost = RunCost(
        steps.start + reading, steps.batch, ends.files, evaluation + ends.files_evaluated, effort, remembering
    )
    return cost, f"Measured {batch / steps.batch:.3g} images/s and {evaluation:.2g} s an evaluation"


def _few_in_memory(run: Prepared, clock: Callable[[], float]) -> tuple[Prepared, float]:
    """The run with few of its training images, all of them decoded already, and the seconds that each took; the run as
    it is and 0 where images are not cached or are few themselves, or these few have nothing to learn from."""
    if not run.train_data.is_cached or len(run.train_images.images) <= FEW_IMAGES:
        return run, 0.0
    images = run.train_images.spread(FEW_IMAGES)
    try:
        data = training_dataset(run.config, images, "auto", proposals_file(run.config, "train"))
    except DataError:  # where few of all images have an object, or a mask, it may be none of these
        return run, 0.0
    began = clock()
    for index in range(len(data)):
        data.read(index)
    return replace(run, train_images=images, train_data=data), (clock() - began) / len(data)
