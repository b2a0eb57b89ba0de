"""Which weights a run starts from, and what they decide where nobody said otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from visionkit.api.weights import find_model
from visionkit.backbone_transfer import BackboneWeights, imagenet_weights
from visionkit.build import LoadedModel, load_model
from visionkit.bundled.files import DEFAULT_WEIGHTS, bundled_weights
from visionkit.choices import Choices
from visionkit.config import Config
from visionkit.engine.events import DownloadProgress, Listener
from visionkit.published.download import published_file
from visionkit.published.weights import IMAGENET_WEIGHTS
from visionkit.transfer import HEAD_PARTS

Say = Callable[[str], None]


def starting_weights(choices: Choices, say: Say, listen: Listener) -> LoadedModel | BackboneWeights | None:
    """The model whose weights training starts from, or published ones of its backbone, or None for random ones.

    The bundled model is the start wherever nothing else is said, of another kind of model its backbone; but where it
    does not exist, or another backbone is asked for, the start is random, and `choices` say so, so that the run's
    config file means this run for good.
    """
    config = choices.config()
    if config.weights == "scratch":
        return None
    if config.weights == IMAGENET_WEIGHTS:
        return _imagenet(config, say, listen)
    if config.weights != DEFAULT_WEIGHTS:
        return find_model(
            config.weights,
            model=None if choices.origin("model") == "default" else config.model,
            backbone=None if choices.origin("backbone") == "default" else config.backbone,
            auxiliary=config.auxiliary,
            offline=config.offline,
            listen=listen,
            say=say,
        )
    if bundled_weights() is None:
        why = "this version bundles no model"
    else:
        bundled = load_model(DEFAULT_WEIGHTS)
        own = bundled.recipe.backbone
        if choices.origin("weights") != "default" or choices.origin("backbone") == "default" or config.backbone == own:
            return bundled
        why = f"the bundled model is {bundled.name}, without {config.backbone}"
    say(f"Weights: random, because {why}; start from one of yours by --weights FILE")
    choices.say({"weights": "scratch"}, "auto")
    return None


def _imagenet(config: Config, say: Say, listen: Listener) -> BackboneWeights:
    published = imagenet_weights(config.backbone)
    path = published_file(
        f"weights {IMAGENET_WEIGHTS} for {config.backbone}",
        published,
        offline=config.offline,
        say=say,
        progress=lambda done, total: listen(DownloadProgress(done, total)),
    )
    return BackboneWeights(config.backbone, path, published.sha256)


def adopted_settings(choices: Choices, source: LoadedModel) -> dict[str, Any]:
    """What weights decide where the user said nothing: their architecture, of the same backbone its norms and
    activations, and, for the same model, image size and what else decides its tensors."""
    recipe, config = source.recipe, choices.config()
    own: dict[str, Any] = {"model": recipe.model, "backbone": recipe.backbone}
    same_backbone = choices.origin("backbone") == "default" or config.backbone == recipe.backbone
    if same_backbone:
        parts = {"norm": recipe.norm, "activation": recipe.activation}
        own |= {key: value for key, value in parts.items() if value != "own"}
    if choices.origin("model") == "default" or config.model == recipe.model:
        own["imgsz"] = recipe.imgsz
        if same_backbone:
            own |= {"form": recipe.form, "single_level": recipe.single_level}
            of_head = {key: getattr(recipe, key) for key in (*HEAD_PARTS, "learnt_upsampling")}
            own |= {key: value for key, value in of_head.items() if value not in (False, "own")}
    return {key: value for key, value in own.items() if choices.origin(key) == "default"}
