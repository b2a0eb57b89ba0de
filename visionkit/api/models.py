"""The zoo: which models, backbones and weights there are, and which go together.

Read off the dicts of `visionkit.build` and the documentation of what they name, so that no second list can go stale.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from visionkit.build import BACKBONES, MODELS, load_model
from visionkit.bundled.files import DEFAULT_WEIGHTS, bundled_model_card, bundled_weights
from visionkit.errors import UsageError
from visionkit.models.forms import FORM_PARTS
from visionkit.published.cache import cache_folder
from visionkit.published.models import COCO_LICENCE, PUBLISHED_MODELS, TORCHVISION
from visionkit.published.weights import IMAGENET, IMAGENET_WEIGHTS, TORCHVISION_LICENCE, PublishedFile

CODE_LICENCE = "Apache-2.0"
COCO_CLASSES = 80


@dataclass(frozen=True, slots=True)
class Backbone:
    """What `--backbone` takes.

    Args:
        name: as `--backbone` takes it.
        summary: what it is, in a sentence.
        parameters: how many numbers it has to be learnt.
        licence: of its code.
    """

    name: str
    summary: str
    parameters: int
    licence: str = CODE_LICENCE


@dataclass(frozen=True, slots=True)
class Model:
    """What `--model` takes.

    Args:
        name: as `--model` takes it.
        summary: what it is, in a sentence.
        parameters: how many numbers it has to be learnt for 80 classes, by the name of each backbone it goes with.
        refused: by the name of each backbone it does not go with, why.
        licence: of its code.
    """

    name: str
    summary: str
    parameters: Mapping[str, int]
    refused: Mapping[str, str]
    licence: str = CODE_LICENCE


@dataclass(frozen=True, slots=True)
class Published:
    """The file that a name of weights means for one backbone or as a whole model, on its publisher's server.

    Args:
        url: of it.
        sha256: its digits as far as they are known: 64 or 8.
        size: bytes; as published, rounded where the exact size is not known.
        scores: what its publisher measured, in 0..1; `top1` is the accuracy on ImageNet-1K's validation images, `AP`
            and `mask_AP` are COCO's on val2017, `mIoU` is that over the classes of Pascal VOC there.
        cached: whether it is here already.
        model: `--model` of a whole one, else empty.
        name: its publisher's for a whole one, else empty.
    """

    backbone: str
    url: str
    sha256: str
    size: int
    scores: Mapping[str, float]
    cached: bool
    model: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Weights:
    """What `--weights` takes by name; beside these it takes any file that `finetune` wrote.

    Args:
        name: as `--weights` takes it.
        summary: what it is, in a sentence.
        licence: under which it may be used; empty where nothing was learnt from anybody's data.
        model: `MODEL/BACKBONE`; empty where it is for all.
        classes: names of what it finds.
        scores: the numbers `evaluate` gave it in training; empty where it has none.
        scores_from: where these come from.
        published: the files it means, one a backbone; empty where nothing is downloaded.
    """

    name: str
    summary: str
    licence: str = ""
    model: str = ""
    classes: tuple[str, ...] = ()
    scores: Mapping[str, Any] | None = None
    scores_from: str = ""
    published: tuple[Published, ...] = ()


@dataclass(frozen=True, slots=True)
class Zoo:
    """All that can be chosen by name."""

    models: tuple[Model, ...]
    backbones: tuple[Backbone, ...]
    weights: tuple[Weights, ...]


def zoo() -> Zoo:
    """Every model, backbone and set of weights of this version. Nothing is downloaded.

    Raises:
        CheckpointError: the bundled model is damaged.
    """
    with torch.device("meta"):  # shapes without numbers: nothing is allocated or drawn
        backbones = {name: make() for name, make in BACKBONES.items()}
        together = {name: _sizes(make, backbones) for name, make in MODELS.items()}
    return Zoo(
        models=tuple(Model(name, _first_sentence(inspect.getmodule(MODELS[name])), *together[name]) for name in MODELS),
        backbones=tuple(
            Backbone(name, _first_sentence(make), _parameters(backbones[name])) for name, make in BACKBONES.items()
        ),
        weights=(*_bundled(), _imagenet(), _published_models(), Weights("scratch", "random, as the seed decides")),
    )


def _sizes(make: Callable[..., nn.Module], backbones: Mapping[str, nn.Module]) -> tuple[dict[str, int], dict[str, str]]:
    """Parameters of a model on each backbone that it can be built on; and of the others, what it says against them."""
    sizes, refused = {}, {}
    for name, backbone in backbones.items():
        try:
            sizes[name] = _parameters(make(backbone, COCO_CLASSES))
        except UsageError as error:  # how a model says that a backbone lacks the levels it needs
            refused[name] = str(error).partition(";")[0]
    return sizes, refused


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _first_sentence(thing: Any) -> str:
    """Of the documentation, up to its first full stop (not an ellipsis) or line end."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    line = (inspect.getdoc(thing) or "").partition("\n")[0]
    return re.split(r"(?<!\.)\.(?:\s|$)", line, maxsplit=1)[0]


def _bundled() -> tuple[Weights, ...]:
    path = bundled_weights()
    if path is None:
        return ()
    loaded = load_model(path)
    return (
        Weights(
            DEFAULT_WEIGHTS,
            f"the bundled model, {path.stem}",
            licence=_licence(bundled_model_card() or ""),
            model=loaded.name,
            classes=loaded.classes.names,
            scores=loaded.scores,
            scores_from="the validation split of its training data; its model card says more" if loaded.scores else "",
        ),
    )


def _imagenet() -> Weights:
    return Weights(
        IMAGENET_WEIGHTS,
        "of the backbone only, downloaded once from torchvision's server, for the backbones below",
        TORCHVISION_LICENCE,
        scores_from="torchvision's documentation; nothing of it was measured here",
        published=tuple(
            Published(backbone, file.url, file.sha256, file.size, file.scores, _cached(file))
            for backbone, file in IMAGENET.items()
        ),
    )


def _published_models() -> Weights:
    rows = []
    for name, published in PUBLISHED_MODELS.items():
        (model, backbone), file = FORM_PARTS[name], published.file
        rows.append(
            Published(backbone, file.url, file.sha256, file.size, file.scores, _cached(file), model=model, name=name)
        )
    return Weights(
        f"{TORCHVISION}NAME",
        "whole models, downloaded once from torchvision's server; coco means the first below that fits the model and "
        "the backbone, the first of all where neither is named",
        COCO_LICENCE,
        scores_from="torchvision's documentation; nothing of it was measured here",
        published=tuple(rows),
    )


def _cached(file: PublishedFile) -> bool:
    return (cache_folder() / "weights" / file.name).exists()


def _licence(model_card: str) -> str:
    """What the line `Licence: ...` of a model card says, whatever marks of Markdown are around it."""
    found = re.search(r"^\W*licen[cs]e\W*:\W*(.+?)\W*$", model_card, re.IGNORECASE | re.MULTILINE)
    return found[1] if found else "as its model card says"
