"""Everything that goes by name is there under the names it has in the field, and is reached from the command line."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from command_line import CommandLine
from torch import nn

from visionkit.api.run_choices import run_choices
from visionkit.api.starting_weights import adopted_settings
from visionkit.build import build_model
from visionkit.choices import Choices
from visionkit.classes import ClassTable
from visionkit.config import Config, Recipe
from visionkit.engine.optim import build_optimizer
from visionkit.engine.schedule import SCHEDULES
from visionkit.engine.steps import learning_rate
from visionkit.nn.activations import ACTIVATIONS
from visionkit.nn.norms import NORMS

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": torch.optim.SGD,
    "nesterov": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adadelta": torch.optim.Adadelta,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
NORM_NAMES = ("batch", "frozen-batch", "group", "layer", "instance", "switchable")
ACTIVATION_NAMES = (
    *("relu", "relu6", "leaky-relu", "prelu", "rrelu", "elu", "gelu", "maxout", "sigmoid", "hard-sigmoid", "tanh"),
    *("swish", "hard-swish"),
)
CLASSES = ClassTable((1, 2), ("car", "cat"))


def said(*assignments: str, **flags: Any) -> Config:
    """The settings of `visionkit finetune` with these flags, and `--set` of these assignments."""
    return run_choices(None, (), None, assignments, flags).config()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_by_flag(name: str) -> None:
    settings = said(optimizer=name).train
    optimizer = build_optimizer(nn.Linear(2, 1), settings)
    assert type(optimizer) is OPTIMIZERS[name]
    if isinstance(optimizer, torch.optim.SGD):
        assert {group["nesterov"] for group in optimizer.param_groups} == {name != "momentum"}
    assert {group["lr"] for group in optimizer.param_groups} == {settings.lr}


def test_plain_descent_is_sgd_without_momentum() -> None:
    optimizer = build_optimizer(nn.Linear(2, 1), said("train.momentum=0", optimizer="sgd").train)
    assert {(group["momentum"], group["nesterov"]) for group in optimizer.param_groups} == {(0, False)}


@pytest.mark.parametrize("name", ["constant", "step", "cosine", "one-cycle"])
def test_schedules_by_set(name: str) -> None:
    settings = said(f"train.schedule={name}", "train.warmup_epochs=1", epochs=10, lr=0.5).train
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates == [0.5 * SCHEDULES[name](s, total=100, warmup=10, final=settings.final_lr) for s in range(100)]
    if name != "one-cycle":  # whose warm-up is its own
        assert rates[:3] == pytest.approx([0.05, 0.1, 0.15])


def test_penalties_and_clipping_by_set() -> None:
    settings = said("train.l1=1e-5", "train.l2=1e-4", "train.clip_value=0.5", "train.clip_norm=2").train
    assert (settings.l1, settings.l2, settings.clip_value, settings.clip_norm) == (1e-5, 1e-4, 0.5, 2)


@pytest.mark.parametrize("name", NORM_NAMES)
def test_norms_by_set(name: str) -> None:
    stem = build_model(said(f"norm={name}").recipe(), CLASSES).backbone.stem
    assert type(stem.norm) is type(NORMS[name](16))


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_activations_by_set(name: str) -> None:
    stem = build_model(said(f"activation={name}").recipe(), CLASSES).backbone.stem
    assert type(stem.act) is type(ACTIVATIONS[name](16))


@pytest.mark.parametrize(
    ("asked", "adopted"),
    [
        ({}, {"norm": "group", "activation": "prelu"}),
        ({"model": "yolo"}, {"norm": "group", "activation": "prelu"}),  # a classifier's backbone in a detector
        ({"norm": "batch"}, {"activation": "prelu"}),  # what was said stays, and does not fit
        ({"backbone": "resnet18"}, {}),  # nothing of it is taken over
    ],
)
def test_weights_decide_the_parts_of_their_backbone(asked: dict[str, str], adopted: dict[str, str]) -> None:
    choices = Choices()
    choices.say(asked, "set")
    source: Any = SimpleNamespace(recipe=Recipe(model="classifier", norm="group", activation="prelu"))
    found = adopted_settings(choices, source)
    assert {name: found[name] for name in ("norm", "activation") if name in found} == adopted


def test_a_command_that_names_several(command_line: CommandLine, tiny_data: Any, tmp_path: Any) -> None:
    done = command_line(
        "finetune", "--data", tiny_data, "--weights", "scratch", "--imgsz", 64, "--epochs", 2, "--threads", 1,
        "--optimizer", "adadelta", "--set", "train.schedule=one-cycle", "--set", "train.l1=1e-5",
        "--set", "train.clip_value=1", "--set", "norm=switchable", "--set", "activation=maxout", "--set", "init=xavier",
        "--set", "box_loss=giou", "--set", "class_loss=quality-focal", "--dry-run", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert ", adadelta, lr 1, " in done.stderr
