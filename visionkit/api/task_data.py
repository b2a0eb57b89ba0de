"""What a model's task makes of annotated images: the dataset it learns from, and how that is shown and varied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from visionkit.api.training_tiles import in_tiles, training_tiling
from visionkit.build import MODELS
from visionkit.config import Config, Recipe
from visionkit.data.augment import AugmentSettings
from visionkit.data.cache import CacheName
from visionkit.data.crops import CropDataset
from visionkit.data.dataset import DetectionDataset
from visionkit.data.framing import random_framing, random_resized_crop
from visionkit.data.semantic import SemanticDataset
from visionkit.data.tiles import TiledDataset
from visionkit.data.views import Framing
from visionkit.errors import ConfigError, DataError, UsageError
from visionkit.formats.dataset_layout import DatasetLayout
from visionkit.formats.held_out import with_val
from visionkit.formats.proposals import read_proposals, split_file
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.semantic_map import require_judged_pixels, with_background
from visionkit.models.rcnn import Rcnn
from visionkit.types import Task

TaskDataset = DetectionDataset | CropDataset | SemanticDataset | TiledDataset


def task_of(recipe: Recipe) -> Task:
    """The task of a recipe's model."""
    return MODELS[recipe.model].task


def says_masks(recipe: Recipe) -> bool:
    """Whether a recipe's model learns the masks of objects and says them."""
    return MODELS[recipe.model].says_masks


def training_dataset(
    recipe: Recipe, images: AnnotatedImages, cache: CacheName = "off", proposals: Path | None = None
) -> TaskDataset:
    """What a recipe's model learns a split from: as `task_dataset`, with the masks of objects where it learns them, and
    large images in tiles where the recipe says so.

    Raises:
        DataError: likewise; or masks are learnt and there are none, or none that says anything.
        ConfigError: masks are learnt and the augmentation would lose them, or tiles are asked for that it cannot learn.
        UsageError: as `DetectionDataset`, or a tile is too small.
    """
    training_tiling(recipe)
    require_fitting_augment(recipe)
    require_fitting_data(recipe, images)
    require_judged_pixels(images)
    if says_masks(recipe):
        return in_tiles(recipe, DetectionDataset(images, cache, masks=True))
    data = task_dataset(recipe, images, cache, proposals)
    return in_tiles(recipe, data) if isinstance(data, DetectionDataset | SemanticDataset) else data


def require_fitting_augment(recipe: Recipe) -> None:
    """Raises ConfigError where the augmentation would lose what a recipe's model learns from."""
    pasting = isinstance(recipe.augment, AugmentSettings) and recipe.augment.copy_paste
    if pasting and says_masks(recipe):
        raise ConfigError(f"augment.copy_paste goes by boxes, model {recipe.model} learns masks; leave it at 0")
    if pasting and wants_proposals(recipe):
        raise ConfigError(f"augment.copy_paste puts objects where model {recipe.model} has no proposals; leave it at 0")


def wants_proposals(recipe: Recipe) -> bool:
    """Whether a recipe's model is fed by proposals from a file."""
    return MODELS[recipe.model].wants_proposals


def is_fitted(recipe: Recipe) -> bool:
    """Whether a recipe's model is fitted in one pass over the images, in place of learning epoch by epoch."""
    return MODELS[recipe.model] is Rcnn


def proposals_file(config: Config, split: str) -> Path | None:
    """The proposals of a split, where a configuration names a folder of them.

    Raises:
        DataError: the folder has none for the split.
    """
    return split_file(Path(config.proposals), split) if config.proposals else None


def given_proposals(place: str | Path | None, split: str) -> Path | None:
    """The file of proposals that a user names, or that of the split where it is a folder with a file for each.

    Raises:
        DataError: the folder has none for the split.
    """
    if place is None or not Path(place).is_dir():
        return None if place is None else Path(place)
    return split_file(Path(place), split)


def task_dataset(
    recipe: Recipe, images: AnnotatedImages, cache: CacheName = "off", proposals: Path | None = None
) -> TaskDataset:
    """What reads a split for a recipe's model.

    Args:
        proposals: the file of them, for a model that is fed by them or, as rcnn, else searches for them.

    Raises:
        DataError: the split has no image, or not what the task needs.
        UsageError: as `DetectionDataset`.
    """
    if proposals is None:
        if wants_proposals(recipe):
            raise UsageError(
                f"model {recipe.model} needs proposals of each image; finetune takes a folder of them by --set "
                "proposals=FOLDER, evaluate the same or a file by --proposals; or use faster-rcnn, which makes its own"
            )
        return DATASETS[task_of(recipe)](recipe, images, cache)
    if not (wants_proposals(recipe) or is_fitted(recipe)):
        raise UsageError(f"model {recipe.model} makes what it needs itself and takes no proposals; leave them out")
    return DetectionDataset(images, cache, proposals=read_proposals(proposals, images))


def require_fitting_data(recipe: Recipe, images: AnnotatedImages) -> None:
    """Raises DataError where a split has something else than a recipe's model learns."""
    task = task_of(recipe)
    if task == "classify":
        return
    if images.whole_images:
        lacks = "boxes" if task == "detect" else "masks"
        raise DataError(
            f"{images.source} has a folder per class and no {lacks}, which model {recipe.model} learns; use --model "
            "classifier, or other data"
        )
    if task == "detect" and any(image.mask is not None for image in images.images):
        has = "masks of whole pictures and none of objects" if says_masks(recipe) else "masks and no boxes"
        raise DataError(
            f"{images.source} has {has}, which model {recipe.model} learns; use --model fcn8s, or other data"
        )


def _boxes(recipe: Recipe, images: AnnotatedImages, cache: CacheName) -> DetectionDataset:
    require_fitting_data(recipe, images)
    return DetectionDataset(images, cache)


def _maps(recipe: Recipe, images: AnnotatedImages, cache: CacheName) -> SemanticDataset:
    require_fitting_data(recipe, images)
    return SemanticDataset(images, cache)


def _crops(recipe: Recipe, images: AnnotatedImages, cache: CacheName) -> CropDataset:
    return CropDataset(images, cache, margin=recipe.crop_margin)


DATASETS: dict[Task, Callable[[Recipe, AnnotatedImages, CacheName], TaskDataset]] = {
    "detect": _boxes,
    "classify": _crops,
    "segment": _maps,
}

FRAMINGS: dict[Task, Framing] = {
    "detect": random_framing,
    "classify": random_resized_crop,
    "segment": random_framing,
}


def task_layout(task: Task, layout: DatasetLayout, seed: int) -> DatasetLayout:
    """The layout that a task reads: of a folder with objects and masks too, those of its masks for a segmenter.

    Args:
        seed: of the run, which decides what is held out where masks have no val split.
    """
    return with_val(layout.masks, seed) if task == "segment" and layout.masks is not None else layout


def task_images(task: Task, images: AnnotatedImages) -> AnnotatedImages:
    """A split as a task sees it: for a segmenter every pixel has a class.

    Raises:
        DataError: there is nothing to make it of.
    """
    return with_background(images) if task == "segment" else images


_UNUSED: dict[Task, dict[str, float]] = {
    # A picture of one class is not put together of several.
    "classify": {"mosaic": 0.0, "mixup": 0.0, "copy_paste": 0.0},
    # A pixel has one label, and copy-paste goes by boxes.
    "segment": {"mixup": 0.0, "copy_paste": 0.0},
}


def task_augment(task: Task, settings: AugmentSettings) -> AugmentSettings:
    """The settings without what a task has no use for."""
    return replace(settings, **_UNUSED.get(task, {}))  # type: ignore[arg-type]
