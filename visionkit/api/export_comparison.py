"""The pictures that an export is compared with its model on, and that INT8 is measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from visionkit.api.datasets import find_dataset, say_split
from visionkit.api.evaluate import known_classes, split_loader
from visionkit.api.task_data import task_dataset, task_images, task_layout
from visionkit.build import LoadedModel
from visionkit.data.sample import render_sample
from visionkit.data.views import Samples
from visionkit.exporting.scoring import Scoring, scoring_of
from visionkit.formats.layout import read_split
from visionkit.imaging.letterbox import Frame, letterbox
from visionkit.imaging.reader import read_image
from visionkit.predict.sources import find_images

BATCH = 4
"""Images that are compared at once, and measured on for INT8."""

MOST_COMPARED = 256
"""Images without truth that are compared: the first of them."""

MOST_MEASURED = 128
"""Images that INT8 is measured on, evenly spread: what stands together in a file is often alike."""

SAMPLE_IMAGES = 16


@dataclass(frozen=True, slots=True)
class Squares:
    """A batch to compare on.

    Args:
        pixels: u8 [B, S, S, 3], letterboxed.
        frames: where the images lie in them.
        ids, labels: of the images of a split; labels where pictures have a class.
    """

    pixels: NDArray[np.uint8]
    frames: Sequence[Frame]
    ids: Sequence[int] = ()
    labels: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a model and its export are compared on.

    Args:
        on: in words, for the certificate.
        real: whether the pictures are real.
        count: images.
        batches: gives the images.
        sides: what gathers the scores of the model and of the export, where there is truth.
        measured: gives images to measure on for INT8, u8 [B, S, S, 3].
        measured_on: these in words.
    """

    on: str
    real: bool
    count: int
    batches: Callable[[], Iterator[Squares]]
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
        return _on_files(loaded, paths[1::2] or paths, paths[::2], f"images of {Path(images).name}", real=True)
    sample = render_sample(scratch / "sample", images={"val": SAMPLE_IMAGES})
    say("No --data or --images given: comparing on pictures that visionkit renders, which are not real")
    paths = sorted((sample / "images").iterdir())
    return _on_files(loaded, paths, (), "pictures that visionkit renders, not real ones", real=False)


def _on_files(
    loaded: LoadedModel, compared: Sequence[Path], measured: Sequence[Path], on: str, *, real: bool
) -> Comparison:
    compared = compared[:MOST_COMPARED]
    measured = measured[:: max(1, -(-len(measured) // MOST_MEASURED))]
    side = loaded.recipe.imgsz

    def batches(of: Sequence[Path]) -> Iterator[Squares]:
        for first in range(0, len(of), BATCH):
            pairs = [letterbox(read_image(path), side) for path in of[first : first + BATCH]]
            yield Squares(np.stack([square for square, _ in pairs]), [frame for _, frame in pairs])

    return Comparison(
        on=on,
        real=real,
        count=len(compared),
        batches=lambda: batches(compared),
        sides=None,
        measured=lambda: (squares.pixels for squares in batches(measured)),
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

    def squares(of: Samples) -> Iterator[Squares]:
        for batch in split_loader(of, loaded.recipe.imgsz, BATCH, 0, torch.device("cpu")):
            pixels = np.ascontiguousarray(batch.images.permute(0, 2, 3, 1).numpy())
            labels = [int(target.labels) for target in batch.targets] if task == "classify" else ()
            yield Squares(pixels, batch.frames, batch.image_ids, labels)

    def measured() -> Iterator[NDArray[np.uint8]]:
        train = task_images(task, read_split(layout, "train")).spread(MOST_MEASURED)
        return (batch.pixels for batch in squares(task_dataset(loaded.recipe, train)))

    ours, theirs = (scoring_of(task, truth, match, masks=masks) for _ in range(2))
    return Comparison(
        on=f"the val split of {layout.root.name}",
        real=True,
        count=len(samples),
        batches=lambda: squares(samples),
        sides=(ours, theirs),
        measured=measured,
        measured_on=f"up to {MOST_MEASURED} images of the train split of {layout.root.name}",
    )
