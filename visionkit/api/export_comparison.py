"""The pictures that an export is compared with its model on, and that INT8 is measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionkit.api.datasets import find_dataset, say_split
from visionkit.api.evaluate import known_classes
from visionkit.api.task_data import task_dataset, task_images, task_layout
from visionkit.build import LoadedModel
from visionkit.data.sample import render_sample
from visionkit.data.views import Samples
from visionkit.exporting.scoring import Scoring, scoring_of
from visionkit.formats.layout import read_split
from visionkit.imaging.letterbox import letterbox
from visionkit.imaging.reader import read_image
from visionkit.models.assembly import frame_multiple_of
from visionkit.predict.sources import find_images
from visionkit.predict.tiling import Tiling
from visionkit.types import Sample

BATCH = 4
"""Images, or tiles of one, that are compared at once, and measured on for INT8."""

MOST_COMPARED = 256
"""Images without truth that are compared: the first of them."""

MOST_MEASURED = 128
"""Images that INT8 is measured on, evenly spread: what stands together in a file is often alike."""

SAMPLE_IMAGES = 16


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to compare on.

    Args:
        pixels: u8 [H, W, 3] RGB, upright.
        id: of its image in a split.
        label: its class, where pictures have one.
    """

    pixels: NDArray[np.uint8]
    id: int = 0
    label: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a model and its export are compared on.

    Args:
        on: in words, for the certificate.
        real: whether the pictures are real.
        count: pictures.
        pictures: gives them.
        sides: what gathers the scores of the model and of the export, where there is truth.
        measured: gives images to measure on for INT8, u8 [B, H, W, 3], letterboxed as the model sees them.
        measured_on: these in words.
    """

    on: str
    real: bool
    count: int
    pictures: Callable[[], Iterator[Picture]]
    sides: tuple[Scoring, Scoring] | None
    measured: Callable[[], Iterator[NDArray[np.uint8]]]
    measured_on: str


def comparison(
    loaded: LoadedModel,
    data: str | Path | None,
    images: str | Path | None,
    scratch: Path,
    say: Callable[[str], None],
) -> Comparison:
    """The val split of a dataset; else images; else pictures that are rendered into the folder `scratch`.

    Of a dataset INT8 is measured on the train split; of images on every other one, which are not compared on then.

    Raises:
        UsageError, DataError: there is no such thing, it is broken, or the model does not know each class of the data.
    """
    if data is not None:
        return _on_data(loaded, data, say)
    if images is not None:
        paths = find_images([str(images)])
        return _on_files(
            loaded, paths[1::2] or paths, paths[::2], f"images of {Path(images).resolve().name}", real=True
        )
    sample = render_sample(scratch / "sample", images={"val": SAMPLE_IMAGES})
    say("No --data or --images given: comparing on pictures that visionkit renders, which are not real")
    paths = sorted((sample / "images").iterdir())
    return _on_files(loaded, paths, (), "pictures that visionkit renders, not real ones", real=False)


def _on_files(
    loaded: LoadedModel, compared: Sequence[Path], measured: Sequence[Path], on: str, *, real: bool
) -> Comparison:
    compared = compared[:MOST_COMPARED]
    measured = measured[:: max(1, -(-len(measured) // MOST_MEASURED))]

    return Comparison(
        on=on + _in_tiles(loaded.tiling),
        real=real,
        count=len(compared),
        pictures=lambda: (Picture(read_image(path)) for path in compared),
        sides=None,
        measured=lambda: _looks((read_image(path) for path in measured), loaded),
        measured_on=f"{len(measured)} {'other ' if compared != measured else ''}{on}",
    )


def _on_data(loaded: LoadedModel, data: str | Path, say: Callable[[str], None]) -> Comparison:
    seed, task = loaded.recipe.train.seed, loaded.model.task
    layout = task_layout(task, find_dataset(data, say, seed), seed)
    truth = task_images(task, read_split(layout, "val"))
    say_split("val", truth, say)
    match = known_classes(loaded, truth, say)
    samples = task_dataset(loaded.recipe, truth)
    masks = task == "detect" and loaded.model.says_masks

    def pictures() -> Iterator[Picture]:
        for sample in _read(samples):
            yield Picture(sample.image, sample.image_id, int(sample.labels[0]) if task == "classify" else 0)

    def measured() -> Iterator[NDArray[np.uint8]]:
        train = task_images(task, read_split(layout, "train")).spread(MOST_MEASURED)
        return _looks((sample.image for sample in _read(task_dataset(loaded.recipe, train))), loaded)

    ours, theirs = (scoring_of(task, truth, match, masks=masks) for _ in range(2))
    return Comparison(
        on=f"the val split of {layout.root.resolve().name}{_in_tiles(loaded.tiling)}",
        real=True,
        count=len(samples),
        pictures=pictures,
        sides=(ours, theirs),
        measured=measured,
        measured_on=f"up to {MOST_MEASURED} images of the train split of {layout.root.resolve().name}",
    )


def _read(samples: Samples) -> Iterator[Sample]:
    return (samples.read(index) for index in range(len(samples)))


def _in_tiles(tiling: Tiling | None) -> str:
    return "" if tiling is None else f", the larger ones in tiles of {tiling.size} px, as trained"


def _looks(images: Iterator[NDArray[np.uint8]], loaded: LoadedModel) -> Iterator[NDArray[np.uint8]]:
    """Letterboxed images u8 [B, H, W, 3] as the model sees them, neighbours of one shape together. Of an image in tiles
    one look, not all of them, or a few large images would be all that is measured on. Which one goes round from image
    to image."""
    size, multiple = loaded.recipe.imgsz, frame_multiple_of(loaded.model)

    def seen(number: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        grid = None if loaded.tiling is None else loaded.tiling.grid(*image.shape[:2])
        if grid is None:
            return image
        windows = grid.views if loaded.model.task == "detect" else grid.windows
        left, top, right, bottom = windows[number % len(windows)]
        return image[top:bottom, left:right]

    looks = (letterbox(seen(number, image), size, multiple=multiple)[0] for number, image in enumerate(images))
    for _, alike in groupby(looks, key=lambda look: look.shape):
        while batch := list(islice(alike, BATCH)):
            yield np.stack(batch)
