"""Names to objects, files to models, and what a model takes over from another."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import safetensors.torch
import torch
from torch import nn

from visionkit.backbones.names import BackboneName
from visionkit.build import BACKBONES, MODELS, build_model, load_model, save_model
from visionkit.classes import ClassTable
from visionkit.config import ModelName, Recipe
from visionkit.engine.checkpoint import load_weights, save_weights
from visionkit.engine.settings import TrainSettings
from visionkit.errors import CheckpointError

CLASSES = ClassTable((3, 17), ("car", "cat"))
OTHER_CLASSES = ClassTable((1, 2, 3), ("bean", "pea", "lentil"))
RECIPE = Recipe(imgsz=64)


def recipe(seed: int = 0, **settings: Any) -> Recipe:
    return Recipe(train=TrainSettings(seed=seed), **settings)


def trained(classes: ClassTable = CLASSES) -> nn.Module:
    """A model that differs from a fresh one in every tensor, running statistics included."""
    model = build_model(recipe(seed=1), classes)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.01 * torch.rand(tensor.shape, generator=generator))
    return model.eval()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "best.safetensors"
    save_model(path, trained(), CLASSES, RECIPE, {"AP": 0.5, "epoch": 3})
    return path


# build_model ----------------------------------------------------------------------------------------------------------


def test_every_name_of_the_recipe_is_an_object_here() -> None:
    assert set(BACKBONES) == set(get_args(BackboneName))
    assert set(MODELS) == set(get_args(ModelName))


# All of them, and with a loss: tests/backbones/test_every_backbone.py.
@pytest.mark.parametrize("backbone", ["csp-light", "resnet18", "mobilenetv3-small"])
def test_a_backbone_gives_a_model_for_the_classes(backbone: str) -> None:
    model = build_model(recipe(backbone=backbone), OTHER_CLASSES).eval()
    assert model(torch.zeros(1, 3, 64, 64)).class_logits.shape == (1, 84, 3)


@pytest.mark.parametrize("name", get_args(ModelName))
def test_every_model_is_saved_and_loaded(name: ModelName, tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    model = build_model(recipe(model=name), CLASSES).eval()
    save_model(path, model, CLASSES, recipe(model=name), {})
    loaded = load_model(path)
    assert loaded.name == f"{name}/csp-light"
    assert all(torch.equal(tensor, loaded.model.state_dict()[key]) for key, tensor in model.state_dict().items())


def test_the_seed_decides_the_weights() -> None:
    first, second, other = (build_model(recipe(seed), CLASSES).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_weights_do_not_depend_on_what_was_drawn_before() -> None:
    torch.manual_seed(1)
    first = build_model(recipe(), CLASSES).state_dict()
    torch.rand(17)
    second = build_model(recipe(), CLASSES).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_building_leaves_the_global_generator_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state()
    build_model(recipe(), CLASSES)
    assert torch.equal(torch.get_rng_state(), before)
    assert not seeded  # nor those of the GPUs


# save_model, load_model -----------------------------------------------------------------------------------------------


def test_a_loaded_model_says_what_the_saved_one_said(file: Path) -> None:
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    loaded = load_model(file)
    assert not loaded.model.training
    assert (loaded.classes, loaded.recipe, loaded.name) == (CLASSES, RECIPE, "yolo/csp-light")
    assert loaded.scores == {"AP": 0.5, "epoch": 3}
    expected, outputs = trained()(images), loaded.model(images)
    assert torch.equal(outputs.class_logits, expected.class_logits)
    assert torch.equal(outputs.side_logits, expected.side_logits)


def test_saving_what_was_loaded_gives_the_same_bytes(file: Path, tmp_path: Path) -> None:
    loaded = load_model(file)
    save_model(tmp_path / "again.safetensors", loaded.model, loaded.classes, loaded.recipe, loaded.scores)
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_the_sha256_is_that_of_the_file(file: Path) -> None:
    assert load_model(file).sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_holds_no_path_and_no_time(file: Path) -> None:
    card = load_weights(file)[1]
    assert set(card) == {"format", "classes", "recipe", "scores", "versions"}
    assert set(card["recipe"]) == set(Recipe.model_fields)
    assert str(file.parent) not in json.dumps(card)


def test_other_tools_read_the_file(file: Path) -> None:
    tensors = safetensors.torch.load_file(file)
    assert set(tensors) == set(trained().state_dict())


def rewrite(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The same tensors under a changed card, sealed anew."""
    tensors, card = load_weights(file)
    change(card)
    save_weights(file, tensors, card)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda card: card.update(format="visionkit.model/2"),
            "has format 'visionkit.model/2', this version reads 'visionkit.model/1'; update visionkit",
        ),
        (lambda card: card.pop("format"), "has format None, this version reads 'visionkit.model/1'; update visionkit"),
        (
            lambda card: card["recipe"].update(warp=9),
            "has a recipe this version cannot read (warp); update visionkit",
        ),
        (
            lambda card: card["recipe"]["train"].update(lr="fast"),
            "has a recipe this version cannot read (train.lr); update visionkit",
        ),
        (
            lambda card: card.pop("classes"),
            "has a recipe this version cannot read (KeyError: 'classes'); update visionkit",
        ),
        (
            lambda card: card.update(classes=5),
            "has a recipe this version cannot read (TypeError: 'int' object is not iterable); update visionkit",
        ),
        (
            lambda card: card["recipe"].update(backbone="resnet18"),
            "does not fit its own recipe, yolo/resnet18; give another weights file",
        ),
        (
            lambda card: card["classes"].append({"id": 99, "name": "extra"}),
            "does not fit its own recipe, yolo/csp-light; give another weights file",
        ),
    ],
)
def test_a_file_this_version_cannot_use(file: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    rewrite(file, change)
    with pytest.raises(CheckpointError) as error:
        load_model(file)
    assert str(error.value) == f"{file} {words}"
