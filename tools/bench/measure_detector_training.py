"""visionkit's contestant for `detectors`: its training loop beside torchvision's, in turns step by step in one process.

Both learn from the same letterboxed images and boxes, in memory from the start. Ours is the engine's own loop (forward,
loss, backward, optimizer, weight average; bf16 where the hardware has it). torchvision's is that of its reference
scripts: its model as it comes, fp32, SGD with momentum.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NoReturn

from task import Task

from visionkit.cli.process import tune_process

tune_process()  # as the command line does, before torch is imported

import torch
import torchvision

from visionkit.api.datasets import find_dataset
from visionkit.api.evaluate import split_loader
from visionkit.api.task_data import task_dataset
from visionkit.build import build_model
from visionkit.config import Recipe
from visionkit.engine.settings import TrainSettings
from visionkit.engine.train import TrainingState, train
from visionkit.formats.layout import read_split
from visionkit.types import Batch

PEER = "fasterrcnn_mobilenet_v3_large_320_fpn"
WARM_UP = 2
MANY_BATCHES = 10_000
LEARNING_RATE = 1e-3

# The same network learns by the same optimizer; the light one as its recipe says.
SAME = Recipe(
    model="faster-rcnn",
    backbone="mobilenetv3-large",
    form=PEER,
    norm="batch",
    train=TrainSettings(optimizer="momentum", lr=LEARNING_RATE),
)
RECIPES = {"same": SAME, "light": Recipe(model="faster-rcnn")}


class EnoughError(Exception):
    """Ends the loop from within."""


@dataclass
class Turns:
    """The same batch over and over, each time after a step of the peer's; and the seconds that both took."""

    batch: Batch
    peer: Peer
    steps: int
    batches_per_epoch: int = MANY_BATCHES
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def start(self, epoch: int, batch: int) -> Iterator[Batch]:
        while len(self.ours) < self.steps:
            # Our loop sums in a fixed order, which costs time; the peer's does not.
            torch.use_deterministic_algorithms(False)
            began = time.perf_counter()
            self.peer.step()
            self.theirs.append(time.perf_counter() - began)
            torch.use_deterministic_algorithms(True)
            began = time.perf_counter()
            yield self.batch
            self.ours.append(time.perf_counter() - began)  # when the loop asks for the next, this step is done
        raise EnoughError


class Peer:
    """torchvision's model and loop."""

    def __init__(self, batch: Batch, classes: int, size: int) -> None:
        self.model = getattr(torchvision.models.detection, PEER)(
            weights=None, weights_backbone=None, num_classes=classes + 1, min_size=size, max_size=size
        ).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
        self.images = [image / 255 for image in batch.images.contiguous()]
        self.truth = [{"boxes": t.boxes[~t.ignore], "labels": t.labels[~t.ignore] + 1} for t in batch.targets]

    def step(self) -> None:
        self.optimizer.zero_grad()
        sum(self.model(self.images, self.truth).values()).backward()
        self.optimizer.step()


def measure(task: Task, name: str) -> dict[str, float]:
    """Milliseconds of a step of each, and how many steps of ours fit into one of theirs: medians over the steps."""
    if task.threads:
        torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    recipe = RECIPES[name]
    truth = read_split(find_dataset(task.data, lambda line: None), "train")
    device = torch.device("cpu")
    batch = next(iter(split_loader(task_dataset(recipe, truth), task.imgsz, task.batch, 0, device)))
    model = build_model(recipe, truth.classes).to(memory_format=torch.channels_last)
    turns = Turns(batch, Peer(batch, len(truth.classes), task.imgsz), WARM_UP + task.steps)
    with suppress(EnoughError):
        train(
            TrainingState.begin(model, recipe.train, MANY_BATCHES),
            turns,
            recipe.train,
            device=device,
            evaluate=_never,
            save_state=lambda state: None,
            save_epoch=_never,
            listen=lambda event: None,
        )
    ratios = [theirs / ours for theirs, ours in zip(turns.theirs, turns.ours, strict=True)]
    return {
        "milliseconds": 1000 * median(turns.ours[WARM_UP:]),
        "torchvision_milliseconds": 1000 * median(turns.theirs[WARM_UP:]),
        "times_as_fast": median(ratios[WARM_UP:]),
    }


def _never(*_: Any) -> NoReturn:
    raise AssertionError("the loop ends before its epoch does")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=RECIPES, help="torchvision's own, or our light one")
    print(json.dumps(measure(Task.from_environment(), parser.parse_args().network)))


if __name__ == "__main__":
    main()
