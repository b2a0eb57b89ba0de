"""From a recipe or a weights file to a model: the only place where names become objects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from visionkit.backbones.csp_light import CspLight
from visionkit.backbones.resnet import resnet18, resnet34, resnet50
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.engine.checkpoint import load_weights, save_weights
from visionkit.errors import CheckpointError, UsageError
from visionkit.models.yolo import Yolo
from visionkit.models.yolov1 import YoloV1
from visionkit.version import __version__

FORMAT = "visionkit.model/1"

Detector = Yolo | YoloV1

BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "csp-light": CspLight,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
}
MODELS: dict[str, Callable[[nn.Module, int], Detector]] = {"yolo": Yolo, "yolov1": YoloV1}

# What depends on the number and order of classes: fresh wherever the class table differs.
CLASS_PREDICTORS = "head.class_predictors."


def build_model(recipe: Recipe, classes: ClassTable) -> Detector:
    """A randomly initialised model; the recipe's seed decides its weights."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would also seed the generators of all GPUs, which are not forked here.
        torch.default_generator.manual_seed(recipe.train.seed)
        return MODELS[recipe.model](BACKBONES[recipe.backbone](), len(classes))


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model out of a weights file.

    Args:
        model: in eval mode, on the CPU.
        recipe: how it was trained.
        scores: its validation scores then; empty where it never was evaluated.
        sha256: of the file.
    """

    model: Detector
    classes: ClassTable
    recipe: Recipe
    scores: Mapping[str, Any]
    path: Path
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.recipe.model}/{self.recipe.backbone}"

    def image_size(self, asked: int | None) -> int:
        """The side of the square network input in pixels: the one asked for, or as trained.

        Raises:
            UsageError: the model's stride does not divide it.
        """
        if asked is None:
            return self.recipe.imgsz
        stride = self.model.stride
        if asked < 1 or asked % stride:
            fitting = max(1, -(-asked // stride)) * stride
            raise UsageError(f"image size must be divisible by {stride}, got {asked}; use {fitting}")
        return asked


def save_model(path: Path, model: nn.Module, classes: ClassTable, recipe: Recipe, scores: Mapping[str, Any]) -> None:
    """Write weights with all that is needed to use them: class table, recipe, versions, scores. No times, no paths."""
    card = {
        "format": FORMAT,
        "classes": classes.to_json(),
        "recipe": recipe.model_dump(mode="json"),
        "scores": dict(scores),
        "versions": {"visionkit": __version__, "torch": torch.__version__},
    }
    save_weights(path, model.state_dict(), card)


def load_model(path: Path) -> LoadedModel:
    """The model of a file that `save_model` wrote.

    Raises:
        CheckpointError: missing, damaged, not ours, or made by a version that this one does not know.
    """
    tensors, card = load_weights(path)
    classes, recipe = _read_card(path, card)
    model = build_model(recipe, classes)
    try:
        model.load_state_dict(tensors)
    except RuntimeError:
        raise CheckpointError(
            f"{path} does not fit its own recipe, {recipe.model}/{recipe.backbone}; give another weights file"
        ) from None
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return LoadedModel(model.eval(), classes, recipe, card.get("scores", {}), path, sha256)


def _read_card(path: Path, card: Mapping[str, Any]) -> tuple[ClassTable, Recipe]:
    if card.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {card.get('format')!r}, this version reads {FORMAT!r}; update visionkit"
        )
    try:
        return ClassTable.from_json(card["classes"]), Recipe.model_validate(card["recipe"])
    except ValidationError as error:
        reason = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise CheckpointError(f"{path} has a recipe this version cannot read ({reason}); update visionkit")


@dataclass(frozen=True, slots=True)
class Transfer:
    """What starting from a weights file gave a model: tensor names by what became of them."""

    source: Path
    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]

    def sentence(self) -> str:
        """`Weights from FILE: 250 tensors loaded, 6 of the class predictors start fresh (other classes)`."""
        fresh = f", {len(self.reinitialised)} of the class predictors start fresh (other classes)"
        return f"Weights from {self.source}: {len(self.loaded)} tensors loaded{fresh if self.reinitialised else ''}"


def transfer_weights(model: nn.Module, classes: ClassTable, source: LoadedModel) -> Transfer:
    """Load a trained model's tensors; where the classes differ, the class predictors keep their fresh start.

    Raises:
        CheckpointError: any other tensor is missing or of another shape.
    """
    same_classes = source.classes.names == classes.names
    own = model.state_dict()
    given = source.model.state_dict()
    fresh = [name for name in own if name.startswith(CLASS_PREDICTORS) and not same_classes]
    loaded = {name: tensor for name, tensor in given.items() if name not in fresh}
    unfit = [
        name for name in own if name not in fresh and (name not in loaded or loaded[name].shape != own[name].shape)
    ]
    if unfit:
        raise CheckpointError(
            f"{source.path} does not fit this model: {len(unfit)} tensors are missing or of another shape, such as "
            f"{unfit[0]}; use the model and backbone it was trained with, {source.name}"
        )
    model.load_state_dict({**own, **loaded})
    return Transfer(source.path, tuple(loaded), tuple(fresh))
