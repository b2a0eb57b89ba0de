"""From a recipe or a weights file to a model: the only place where names become objects."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from visionkit.backbones.alexnet import alexnet
from visionkit.backbones.checkpoints import read_torchvision
from visionkit.backbones.convnext import convnext_tiny
from visionkit.backbones.csp_light import CspLight
from visionkit.backbones.efficientnet import efficientnet_b0
from visionkit.backbones.googlenet import GoogLeNet
from visionkit.backbones.lenet import lenet5
from visionkit.backbones.mobilenetv3 import mobilenetv3_large, mobilenetv3_small
from visionkit.backbones.names import TIMM
from visionkit.backbones.nin import nin
from visionkit.backbones.resnet import resnet18, resnet34, resnet50, resnet101, resnet152
from visionkit.backbones.se_resnet import se_resnet18, se_resnet34, se_resnet50, se_resnet101
from visionkit.backbones.timm_features import TimmFeatures
from visionkit.backbones.vgg import vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn
from visionkit.bundled.files import DEFAULT_WEIGHTS, bundled_weights
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.engine.checkpoint import load_weights, save_weights
from visionkit.errors import CheckpointError, ConfigError, UsageError
from visionkit.imaging.image_size import require_divisible
from visionkit.models.classifier import Classifier
from visionkit.models.fast_rcnn import FastRcnn
from visionkit.models.faster_rcnn import FasterRcnn
from visionkit.models.fcn import Fcn, Fcn8s, Fcn16s, Fcn32s
from visionkit.models.forms import FORM_PARTS, OWN_FORM
from visionkit.models.mask_rcnn import MaskRcnn
from visionkit.models.rcnn import Rcnn
from visionkit.models.retinanet import RetinaNet
from visionkit.models.torchvision_fcn import fcn_resnet50, from_torchvision_fcn
from visionkit.models.torchvision_models import TORCHVISION_MODELS, TRAINED_NORMS
from visionkit.models.torchvision_names import from_torchvision
from visionkit.models.yolo import Yolo
from visionkit.models.yolo_masks import YoloMasks
from visionkit.models.yolov1 import YoloV1
from visionkit.nn.activations import ACTIVATIONS
from visionkit.nn.initialise import INITIALISATIONS
from visionkit.nn.norms import NORMS
from visionkit.nn.source_statistics import CARD_KEY, SourceStatistics, source_statistics_of
from visionkit.predict.tiling import Tiling
from visionkit.published.models import PUBLISHED_MODELS
from visionkit.score_map import ScoreMap, score_map_of
from visionkit.version import __version__

FORMAT = "visionkit.model/1"

Detector = Yolo | YoloV1 | FasterRcnn | RetinaNet | MaskRcnn | FastRcnn | Rcnn
Model = Detector | Classifier | Fcn

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "csp-light": CspLight,
    "lenet5": lenet5,
    "alexnet": alexnet,
    "vgg11": vgg11,
    "vgg13": vgg13,
    "vgg16": vgg16,
    "vgg19": vgg19,
    "vgg11-bn": vgg11_bn,
    "vgg13-bn": vgg13_bn,
    "vgg16-bn": vgg16_bn,
    "vgg19-bn": vgg19_bn,
    "nin": nin,
    "googlenet": GoogLeNet,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet152": resnet152,
    "se-resnet18": se_resnet18,
    "se-resnet34": se_resnet34,
    "se-resnet50": se_resnet50,
    "se-resnet101": se_resnet101,
    "mobilenetv3-small": mobilenetv3_small,
    "mobilenetv3-large": mobilenetv3_large,
    "efficientnet-b0": efficientnet_b0,
    "convnext-tiny": convnext_tiny,
}
MODELS: dict[str, type[Model]] = {
    "yolo": Yolo,
    "yolo-masks": YoloMasks,
    "yolov1": YoloV1,
    "faster-rcnn": FasterRcnn,
    "retinanet": RetinaNet,
    "mask-rcnn": MaskRcnn,
    "fast-rcnn": FastRcnn,
    "rcnn": Rcnn,
    "classifier": Classifier,
    "fcn32s": Fcn32s,
    "fcn16s": Fcn16s,
    "fcn8s": Fcn8s,
}
FORMS: dict[str, Callable[..., Model]] = {
    **{name: partial(make, norm=TRAINED_NORMS[name]) for name, make in TORCHVISION_MODELS.items()},
    "fcn_resnet50": fcn_resnet50,
}


def build_model(recipe: Recipe, classes: ClassTable) -> Model:
    """A randomly initialised model; the recipe's seed decides its weights.

    Raises:
        ConfigError: an option that the backbone, the model or its form does not have.
        UsageError: a backbone without the levels that the model needs, or one of timm's that cannot be had.
    """
    layers = {"norm": NORMS.get(recipe.norm), "activation": ACTIVATIONS.get(recipe.activation)}
    asked = {
        "box_loss": recipe.box_loss,
        "class_loss": recipe.class_loss,
        "mask_loss": recipe.mask_loss,
        "dropout": recipe.dropout,
        "label_smoothing": recipe.label_smoothing,
        "semantic_loss": recipe.semantic_loss,
        "auxiliary": recipe.auxiliary or None,
        "fine_skip": recipe.fine_skip or None,
        "skip_width": recipe.skip_width,
        "learnt_upsampling": recipe.learnt_upsampling,
        "warp": recipe.warp,
        "single_level": recipe.single_level or None,
    }
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would also seed the generators of all GPUs, which are not forked here.
        torch.default_generator.manual_seed(recipe.train.seed)
        if recipe.form != OWN_FORM:
            make_form = FORMS[recipe.form]
            model = make_form(len(classes), **_options(make_form, f"form {recipe.form}", {**layers, **asked}))
            _initialise(model.backbone, recipe)
            return model
        make_backbone, make_model = backbone_maker(recipe.backbone), MODELS[recipe.model]
        of_backbone = _options(make_backbone, f"backbone {recipe.backbone}", layers)
        of_model = _options(make_model, f"model {recipe.model}", asked)
        backbone = make_backbone(**of_backbone)
        _initialise(backbone, recipe)
        return make_model(backbone, len(classes), **of_model)


def _initialise(backbone: nn.Module, recipe: Recipe) -> None:
    """Draw its first weights in another way than its own, where the recipe names one."""
    if recipe.init in INITIALISATIONS:
        INITIALISATIONS[recipe.init](backbone)


def backbone_maker(name: str) -> Callable[..., nn.Module]:
    """What makes a backbone, by a name of `BACKBONES` or `timm/NAME`."""
    return partial(TimmFeatures, name.removeprefix(TIMM)) if name.startswith(TIMM) else BACKBONES[name]


def _options(make: Callable[..., nn.Module], name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for as keyword arguments of `make`; None, or `own` as recipes say it, leaves out an option."""
    options = {key: value for key, value in asked.items() if value not in (None, "own")}
    for key in options:
        if key not in inspect.signature(make).parameters:
            default = Recipe.model_fields[key].default
            raise ConfigError(f"{name} has no option {key}; leave {key} at {'false' if default is False else default}")
    return options


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model out of a weights file.

    Args:
        model: in eval mode, on the CPU.
        recipe: how it was trained.
        scores: its validation scores then; empty where it never was evaluated.
        sha256: of the file.
        score_map: what its scores are worth; None where it was never calibrated.
        source_statistics: what its backbone gave on the images it learnt from; None where its norms remember that.
    """

    model: Model
    classes: ClassTable
    recipe: Recipe
    scores: Mapping[str, Any]
    path: Path
    sha256: str
    score_map: ScoreMap | None = None
    source_statistics: SourceStatistics | None = None

    @property
    def name(self) -> str:
        return self.recipe.architecture

    def image_size(self, asked: int | None) -> int:
        """The side of the square network input in pixels: the one asked for, or as trained.

        Raises:
            UsageError: the model's stride does not divide it.
        """
        return self.recipe.imgsz if asked is None else require_divisible(asked, self.model.stride)

    @property
    def tiling(self) -> Tiling | None:
        """How it learnt to see larger images; None: whole."""
        return Tiling(self.recipe.tile, self.recipe.overlap) if self.recipe.tile else None


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


def save_calibrated(path: Path, loaded: LoadedModel, score_map: ScoreMap) -> None:
    """Write a model's weights file anew, with a map of its scores in it; all else stays as it is.

    Raises:
        CheckpointError: the file the model came from is not there any more, or is none of visionkit's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _save_anew(loaded.path, path, {"calibration": score_map.to_json()})


def keep_source_statistics(path: Path, statistics: SourceStatistics) -> None:
    """Write a weights file anew, with what its backbone gave on the images it learnt from; all else stays as it is.

    Raises:
        CheckpointError: the file is not there any more, or is none of visionkit's.
    """
    _save_anew(path, path, {CARD_KEY: statistics.to_json()})


def _save_anew(source: Path, path: Path, more: Mapping[str, Any]) -> None:
    tensors, card = load_weights(source)
    save_weights(path, tensors, {**card, **more})


def load_model(weights: str | Path) -> LoadedModel:
    """The model of a file that `save_model` wrote, or the bundled one by the name `default`.

    Its tensors have the types a fresh model's have, whatever the file stores them in.

    Raises:
        CheckpointError: missing, damaged, not ours, or made by a version that this one does not know.
        UsageError: this version bundles no model.
    """
    path = Path(weights)
    if str(weights) == DEFAULT_WEIGHTS:
        bundled = bundled_weights()
        if bundled is None:
            raise UsageError("this version bundles no model; give one of yours by --weights FILE")
        path = bundled
    tensors, card = load_weights(path)
    classes, recipe = _read_card(path, card)
    model = build_model(recipe, classes)
    try:
        model.load_state_dict(tensors)
    except RuntimeError:
        raise CheckpointError(
            f"{path} does not fit its own recipe, {recipe.architecture}; give another weights file"
        ) from None
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    kept = score_map_of(card), source_statistics_of(card)
    return LoadedModel(model.eval(), classes, recipe, card.get("scores", {}), path, sha256, *kept)


def published_recipe(name: str, *, auxiliary: bool = False) -> tuple[Recipe, ClassTable]:
    """How a model that torchvision published is built, and the classes it knows; not how it was trained.

    Args: as for `load_published`.
    """
    model, backbone = FORM_PARTS[name]
    published = PUBLISHED_MODELS[name]
    said = {"model": model, "backbone": backbone, "form": name, "imgsz": published.imgsz, "auxiliary": auxiliary}
    return Recipe.model_validate(said), ClassTable.of_categories(published.categories.items())


def load_published(name: str, path: Path, *, auxiliary: bool = False) -> LoadedModel:
    """A model that torchvision published, out of its file.

    Args:
        name: of `PUBLISHED_MODELS`.
        auxiliary: whether a segmenter has its auxiliary head, to learn on.

    Raises:
        CheckpointError: the file holds something else.
    """
    recipe, classes = published_recipe(name, auxiliary=auxiliary)
    state, model = read_torchvision(path), build_model(recipe, classes)
    try:
        model.load_state_dict(
            from_torchvision(state, classes.category_ids)
            if name in TORCHVISION_MODELS
            else from_torchvision_fcn(state, auxiliary=auxiliary)
        )
    except (RuntimeError, KeyError):
        raise CheckpointError(
            f"{path} does not hold the weights of torchvision's {name}; give the file that torchvision published"
        ) from None
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return LoadedModel(model.eval(), classes, recipe, {}, path, sha256)


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
