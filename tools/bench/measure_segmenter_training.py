"""visionkit's contestant for `segmenters`: its training loop beside torchvision's, in turns step by step.

Both learn from the same letterboxed images and maps, in memory from the start. Ours is the engine's own loop (forward,
loss, backward, optimizer, weight average; bf16 where the hardware has it). torchvision's is that of its reference
script: its model with its auxiliary head, fp32, cross-entropy and half of the auxiliary one, SGD with momentum.
"""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from statistics import median
from typing import NoReturn

# It tunes the process before it imports torch.
from measure_detector_training import LEARNING_RATE, MANY_BATCHES, WARM_UP, EnoughError, Turns
from task import Task

# isort: split
import torch
import torchvision
from torch.nn import functional as F

from visionkit.api.datasets import find_dataset
from visionkit.api.evaluate import split_loader
from visionkit.api.task_data import task_dataset, task_images, task_layout
from visionkit.build import build_model
from visionkit.config import Recipe
from visionkit.engine.settings import TrainSettings
from visionkit.engine.train import TrainingState, train
from visionkit.formats.layout import read_split
from visionkit.nn.normalize import Normalize
from visionkit.types import Batch

PEER = "fcn_resnet50"

# The same network, auxiliary head included, learns by the same optimizer; the light one as its recipe says.
SAME = Recipe(
    model="fcn8s",
    backbone="resnet50",
    form=PEER,
    auxiliary=True,
    train=TrainSettings(optimizer="momentum", lr=LEARNING_RATE),
)
RECIPES = {"same": SAME, "light": Recipe(model="fcn8s")}


class Peer:
    """torchvision's model and loop."""

    def __init__(self, batch: Batch, classes: int) -> None:
        self.model = getattr(torchvision.models.segmentation, PEER)(
            weights=None, weights_backbone=None, num_classes=classes, aux_loss=True
        ).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4)
        self.images = Normalize()(batch.images.contiguous())
        self.truth = torch.stack([target.semantic for target in batch.targets if target.semantic is not None]).long()

    def step(self) -> None:
        self.optimizer.zero_grad()
        said = self.model(self.images)
        losses = {name: F.cross_entropy(logits, self.truth, ignore_index=255) for name, logits in said.items()}
        (losses["out"] + 0.5 * losses["aux"]).backward()
        self.optimizer.step()


def measure(task: Task, name: str) -> dict[str, float]:
    """Milliseconds of a step of each, and how many steps of ours fit into one of theirs: medians over the steps."""
    if task.threads:
        torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    recipe = RECIPES[name]
    layout = task_layout("segment", find_dataset(task.data, lambda line: None), task.seed)
    truth = task_images("segment", read_split(layout, "train"))
    device = torch.device("cpu")
    batch = next(iter(split_loader(task_dataset(recipe, truth), task.imgsz, task.batch, 0, device)))
    model = build_model(recipe, truth.classes).to(memory_format=torch.channels_last)
    turns = Turns(batch, Peer(batch, len(truth.classes)), WARM_UP + task.steps)
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


def _never(*_: object) -> NoReturn:
    raise AssertionError("the loop ends before its epoch does")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=RECIPES, help="torchvision's own, or our light one")
    print(json.dumps(measure(Task.from_environment(), parser.parse_args().network)))


if __name__ == "__main__":
    main()
