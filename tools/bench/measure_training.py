"""visionkit's contestant for `training`: images a second of the whole loop, and of its bare network in the same run.

The loop is the engine's own: loading by worker processes, forward, loss, backward, optimizer, weight average. Bare is
forward, loss and backward over and over on one batch, half of it timed before the loop and half after.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from task import Task

from visionkit.cli.process import tune_process

tune_process()  # as the command line does, before torch is imported

import torch

from visionkit.api.prepare import Prepared, prepare
from visionkit.api.time_budget import PREFETCHED_BY_WORKER
from visionkit.api.training_run import RunParts
from visionkit.choices import Choices, parse_assignments
from visionkit.data.growth import NO_GROWTH
from visionkit.engine.device import precision
from visionkit.engine.run_folder import RunFolder
from visionkit.engine.throughput import time_steps
from visionkit.engine.train import TrainingBatches, TrainingState
from visionkit.types import Batch

WARM_UP = 5

# Of the plan that batches are drawn from: more than are timed.
MANY_EPOCHS = 10_000


class Watched:
    """Batches on their way into the loop, and how long it waited for each."""

    def __init__(self, batches: TrainingBatches) -> None:
        self.batches = batches
        self.batches_per_epoch = batches.batches_per_epoch
        self.waits: list[float] = []

    def start(self, epoch: int, batch: int) -> Iterator[Batch]:
        source = iter(self.batches.start(epoch, batch))
        while True:
            began = time.perf_counter()
            item = next(source)
            self.waits.append(time.perf_counter() - began)
            yield item


def measure(task: Task, settings: dict[str, Any]) -> dict[str, float]:
    """Images a second of the loop and of the bare network, their ratio, and the loop's share of time without data."""
    choices = Choices()
    choices.say({"data": task.data, "weights": "scratch", "imgsz": task.imgsz, "threads": task.threads}, "flag")
    choices.say({"train.batch": task.batch, "train.seed": task.seed, "train.epochs": MANY_EPOCHS, **settings}, "flag")
    run = prepare(choices, lambda line: None)
    # Nothing is saved, so the folder need not be there.
    parts = RunParts.of(run, RunFolder(Path("nowhere")), lambda event: None)
    # Of full size in every batch, or the figure would be of other image sizes.
    augment = replace(parts.view.settings, multi_scale=0.0)
    view = replace(parts.view, settings=augment, growth=NO_GROWTH)
    batches = Watched(replace(parts.batches, view=view))
    prefetched = PREFETCHED_BY_WORKER * (run.config.workers or 0)
    images = task.batch
    batch = next(iter(batches.batches.start(0, 0))).to(run.device)
    before = bare_step(run, batch, task.steps // 2 + 1)
    times = time_steps(
        TrainingState.begin(copy.deepcopy(run.state.model), run.config.train, parts.plan.steps_per_epoch),
        batches,
        run.config.train,
        device=run.device,
        # Three steps go before those that count.
        available=prefetched + 3 + task.steps,
        prefetched=prefetched,
        seconds=float("inf"),
    )
    after = bare_step(run, batch, task.steps // 2 + 1)
    bare = (before + after) / 2
    waited = sum(batches.waits[-task.steps :]) / (times.batch * task.steps)
    return {
        "images_per_second": images / times.batch,
        "bare_images_per_second": images / bare,
        "share_of_bare": bare / times.batch,
        "share_waiting_for_data": waited,
    }


def bare_step(run: Prepared, batch: Batch, steps: int) -> float:
    """The median seconds of forward, loss and backward, of a model that is told as much as in training."""
    model = copy.deepcopy(run.state.model).train()
    seconds = []
    for _ in range(WARM_UP + steps):
        model.zero_grad(set_to_none=True)
        finish(run.device)
        began = time.perf_counter()
        with precision(run.device, run.config.train.amp):
            outputs = model(batch.images, targets=batch.targets, proposals=batch.proposals)
        model.loss(outputs, batch.targets).total.backward()  # type: ignore[operator]
        finish(run.device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[WARM_UP:])


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of visionkit")
    print(json.dumps(measure(Task.from_environment(), parse_assignments(parser.parse_args().set))))


if __name__ == "__main__":
    main()
