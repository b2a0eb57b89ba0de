"""A contact sheet of augmented samples: what training would show the network, for eyes to judge before it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from typing import Any

from visionkit.api.datasets import find_dataset, say_split
from visionkit.api.prepare import Say
from visionkit.api.task_data import (
    DATASETS,
    FRAMINGS,
    require_fitting_augment,
    task_images,
    task_layout,
    task_of,
)
from visionkit.api.training_samples import augment_settings, sample_sheet
from visionkit.choices import Choices, read_augment
from visionkit.data.augment import AugmentSettings
from visionkit.data.augment_values import values_of
from visionkit.data.loader import BatchPlan
from visionkit.data.views import TrainingView
from visionkit.errors import DataError, UsageError
from visionkit.formats.layout import read_split
from visionkit.formats.records import AnnotatedImages
from visionkit.predict.writers import save_picture

MOST_TILES = 400
MOST_PIXELS = 2**28
"""Of a sheet: 16 tiles of 4096 px. Tiles and sheet are in memory at once, six bytes a pixel."""


@dataclass(frozen=True, slots=True)
class AugmentPreview:
    """A written contact sheet.

    Args:
        picture: the file.
        samples, objects: shown on it.
        settings: as training would have them.
        left_out: items of the data that `skip_bad` left out.
        has_maps: whether the samples have semantic maps, and so no objects.
    """

    picture: Path
    samples: int
    objects: int
    split: str
    image_size: int
    epoch: int
    seed: int
    settings: AugmentSettings
    left_out: int = 0
    has_maps: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "picture": str(self.picture),
            "samples": self.samples,
            "objects": self.objects,
            "split": self.split,
            "imgsz": self.image_size,
            "epoch": self.epoch,
            "seed": self.seed,
            "augment": values_of(self.settings),
            "left_out": self.left_out,
        }


def augment_preview(
    data: str | Path | None = None,
    *,
    model: str | None = None,
    augment: str | Path | Mapping[str, Any] | AugmentSettings | None = None,
    imgsz: int | None = None,
    split: str = "train",
    count: int = 16,
    epoch: int = 1,
    seed: int = 0,
    out: str | Path | None = None,
    skip_bad: bool = False,
    on_skip: Callable[[str], None] = lambda line: None,
    say: Say = lambda line: None,
) -> AugmentPreview:
    """Write a picture of the samples that training would draw first in an epoch, with the boxes, or the maps, that it
    would learn from.

    A run with the same seed, image size and augmentation sees these very samples, in this order, where it shows images
    in their full size (`grow_until`, `multi_scale`), whole (`tile`), and still makes mosaics (`mosaic_until`); as many
    as its epoch has.

    Args:
        data: as for `finetune`.
        model: whose training is shown; by default that of a segmenter where the data are masks, of a classifier where
            they are a folder per class, else of a detector.
        augment: none, light, heavy, a YAML file of settings, or settings; by default as `finetune` has it.
        imgsz: side of the square network input in pixels; by default as `finetune` has it.
        split: whose images.
        count: samples shown, from 1 to 400.
        epoch: from 1.
        seed: of the run, at least 0.
        out: the picture, a new file; by default a numbered one under runs/augment-preview.
        skip_bad: leave items in error out of the data instead of refusing it.
        on_skip: told those items, a line each.
        say: told, line by line, what a user should read.

    Raises:
        UsageError, ConfigError, DataError: something given is wrong; nothing was written.
        VisionkitError: the picture cannot be written.
    """
    for name, value, least in (("count", count, 1), ("epoch", epoch, 1)):
        if value < least:
            raise UsageError(f"{name} must be at least {least}, got {value}; use {least}")
    path = None if out is None else Path(out)
    if path is not None and path.exists():
        raise UsageError(f"{path} exists and nothing is overwritten; give another --out")
    choices = Choices()
    choices.say({"train.seed": seed, "train.epochs": epoch, "mosaic_until": 1}, "flag")
    if augment is not None:
        choices.say(read_augment(augment), "flag")
    for key, asked in (("imgsz", imgsz), ("model", model)):
        if asked is not None:
            choices.say({key: asked}, "flag")
    config = choices.config()
    _require_one_picture(count, config.imgsz)

    layout = find_dataset(data, say, seed)
    if model is not None:
        layout = task_layout(task_of(config), layout, seed)
    if split not in layout.splits:
        raise DataError(f"{layout.root} has no split {split!r}; it has {', '.join(layout.splits)}")
    images = read_split(layout, split, skip_bad=skip_bad)
    choices.say({"model": model or _usual_model(images)}, "flag")
    config = choices.config()
    require_fitting_augment(config)
    task = task_of(config)
    images = task_images(task, images)
    say_split(split, images, say)
    for line in images.left_out:
        on_skip(line)
    # What a model is fed by besides, such as proposals, is not shown.
    dataset = DATASETS[task](config, images, "off")
    view = TrainingView(dataset, augment_settings(config), config.imgsz, seed, framing=FRAMINGS[task])
    plan = BatchPlan(len(dataset), count, epoch, seed)
    samples = [view[epoch - 1, draw][0] for draw in plan.order(epoch - 1)[:count].tolist()]
    sheet = sample_sheet(samples, images.classes)
    if path is not None:
        save_picture(path, sheet)
    else:
        path = _save_numbered(Path("runs") / "augment-preview", layout.root.resolve().name, sheet)
    return AugmentPreview(
        picture=path,
        samples=count,
        objects=sum(len(sample.boxes) for sample in samples),
        split=split,
        image_size=config.imgsz,
        epoch=epoch,
        seed=seed,
        settings=view.settings,
        left_out=len(images.left_out),
        has_maps=task == "segment",
    )


def _require_one_picture(count: int, size: int) -> None:
    """Raises UsageError where so many samples of `size` pixels a side are too much for a sheet."""
    if count > MOST_TILES:
        raise UsageError(f"count must be at most {MOST_TILES} for one picture, got {count}; use {MOST_TILES}")
    if count > (most := MOST_PIXELS // size**2):
        raise UsageError(f"count must be at most {most} at {size} px, got {count}; use {most} or a smaller imgsz")


def _usual_model(images: AnnotatedImages) -> str:
    """A model that learns from such data."""
    if any(image.mask is not None for image in images.images):
        return "fcn8s"
    return "classifier" if images.whole_images else "yolo"


def _save_numbered(folder: Path, name: str, sheet: Any) -> Path:
    """Write the picture as the first of `NAME-1.png`, `NAME-2.png`, ... that is not there yet."""
    path = next(p for p in (folder / f"{name}-{number}.png" for number in numbers(1)) if not p.exists())
    save_picture(path, sheet)
    return path
