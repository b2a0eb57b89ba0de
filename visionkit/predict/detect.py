"""Images in, results out: read, letterbox, run a backend, go back to original pixels. Memory stays flat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.errors import DataError, UsageError
from visionkit.imaging.letterbox import Frame, letterbox
from visionkit.imaging.reader import read_image
from visionkit.predict.backend import Backend, Raw, RawClasses, RawMap
from visionkit.predict.masks import pasted_masks
from visionkit.result import Result


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image on its way through prediction.

    Args:
        path: where it came from, as the user named it; empty for an array.
        pixels: u8 [H, W, 3] RGB, upright.
        read_ms: milliseconds spent on reading it.
        number: its place among the sources, counted from 1 and including those that cannot be read.
    """

    path: str
    pixels: NDArray[np.uint8]
    read_ms: float = 0.0
    number: int = 1


def detect_images(
    backend: Backend,
    paths: Iterable[Path],
    *,
    on_skip: Callable[[Path, DataError], None],
    score: float = 0.25,
    iou: float | None = None,
    max_det: int = 300,
    classes: Sequence[str] | None = None,
    batch: int = 1,
) -> Iterator[Result]:
    """What a model says of image files, one Result an image that can be read, in order.

    Args:
        on_skip: told the path and the reason of each image that cannot be read; the run goes on without it.
        others: as for `detect_loaded`.

    Raises:
        UsageError: at the call, not at the first image; see `detect_loaded`.
    """
    images = read_images(paths, on_skip=on_skip)
    pairs = detect_loaded(backend, images, score=score, iou=iou, max_det=max_det, classes=classes, batch=batch)
    return (result for _, result in pairs)


def read_images(paths: Iterable[Path], *, on_skip: Callable[[Path, DataError], None]) -> Iterator[LoadedImage]:
    """Read image files one by one; one that cannot be read is handed to `on_skip` with the reason, and left out."""
    for number, path in enumerate(paths, start=1):
        start = perf_counter()
        try:
            pixels = read_image(path)
        except DataError as error:
            on_skip(path, error)
            continue
        yield LoadedImage(str(path), pixels, _milliseconds_since(start), number)


def detect_loaded(
    backend: Backend,
    images: Iterable[LoadedImage],
    *,
    score: float = 0.25,
    iou: float | None = None,
    max_det: int = 300,
    classes: Sequence[str] | None = None,
    batch: int = 1,
) -> Iterator[tuple[LoadedImage, Result]]:
    """What a model says of images, each with its pixels for whoever draws on them. Holds one batch at a time.

    Boxes come back in pixels of the original image, clipped to it; one that lies wholly in the padding is no box of
    the image and goes.

    Args:
        score: the least score a detection may have, in [0, 1]; of a classifier any class but the best.
        iou: NMS threshold in [0, 1]; the model's own where None.
        max_det: the most detections an image may have, of all classes together.
        classes: names of the classes to report; None reports all. `max_det` counts before this choice.
        batch: images the backend is handed at once.

    Raises:
        UsageError: a threshold outside [0, 1], `max_det` or `batch` below 1, a class the model does not know. Raised
            at the call, before an image is read.
    """
    _check_fraction("score", score)
    if iou is not None:
        _check_fraction("iou", iou)
    _check_positive("max_det", max_det)
    _check_positive("batch", batch)
    wanted = None if classes is None else _labels_of(classes, backend.classes)

    def run() -> Iterator[tuple[LoadedImage, Result]]:
        remaining = iter(images)
        while group := list(islice(remaining, batch)):
            yield from _detect_batch(backend, group, score, iou, max_det, wanted)

    return run()


def _detect_batch(
    backend: Backend,
    group: Sequence[LoadedImage],
    score: float,
    iou: float | None,
    max_det: int,
    wanted: NDArray[np.int64] | None,
) -> Iterator[tuple[LoadedImage, Result]]:
    squares, frames, preprocess_ms = [], [], []
    for image in group:
        start = perf_counter()
        square, frame = letterbox(image.pixels, backend.image_size)
        squares.append(square)
        frames.append(frame)
        preprocess_ms.append(_milliseconds_since(start))
    start = perf_counter()
    found = backend.run(np.stack(squares), score=score, iou=iou, max_det=max_det)
    model_ms = _milliseconds_since(start) / len(group)
    for image, frame, raw, before_ms in zip(group, frames, found, preprocess_ms, strict=True):
        start = perf_counter()
        found_here = _in_original_pixels(raw, frame, wanted)
        milliseconds = {
            "read": image.read_ms,
            "preprocess": before_ms,
            "model": model_ms,
            "postprocess": _milliseconds_since(start),
        }
        yield (
            image,
            Result(
                path=image.path,
                width=frame.width,
                height=frame.height,
                classes=backend.classes,
                model_name=backend.name,
                model_sha256=backend.sha256,
                milliseconds=milliseconds,
                **found_here,
            ),
        )


def _in_original_pixels(raw: Raw, frame: Frame, wanted: NDArray[np.int64] | None) -> dict[str, Any]:
    """The fields of a Result that say what was found."""
    if isinstance(raw, RawMap):
        return _areas(frame.map_to_original(raw.labels), wanted)
    if isinstance(raw, RawClasses):
        keep = np.full(len(raw.labels), True) if wanted is None else np.isin(raw.labels, wanted)
        nowhere = np.zeros((0, 4), np.float32)
        return {"task": "classify", "boxes": nowhere, "scores": raw.scores[keep], "labels": raw.labels[keep]}
    boxes = frame.to_original(raw.boxes)
    keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if wanted is not None:
        keep &= np.isin(raw.labels, wanted)
    found = {"task": "detect", "boxes": boxes[keep], "scores": raw.scores[keep], "labels": raw.labels[keep]}
    if raw.masks is None:
        return found
    # A mask belongs to the whole box, also to what of it lies beyond the image.
    whole = frame.to_plane(raw.boxes[keep])
    return {**found, "masks": tuple(pasted_masks(raw.masks[keep], whole, frame.height, frame.width))}


def _areas(semantic: NDArray[np.uint8], wanted: NDArray[np.int64] | None) -> dict[str, Any]:
    """A map's classes, the largest first, each with its share of all pixels."""
    if wanted is not None:
        semantic = np.where(np.isin(semantic, wanted), semantic, np.uint8(255))
    counts = np.bincount(semantic.ravel(), minlength=256)[:255]
    labels = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    shares = (counts[labels] / semantic.size).astype(np.float32)
    return {
        "task": "segment",
        "boxes": np.zeros((0, 4), np.float32),
        "scores": shares,
        "labels": labels.astype(np.int64),
        "semantic": semantic,
    }


def _labels_of(names: Sequence[str], table: ClassTable) -> NDArray[np.int64]:
    unknown = [name for name in names if name not in table.names]
    if unknown or not names:
        fact = f"the model knows no class {', '.join(map(repr, unknown))}" if unknown else "no class is chosen"
        raise UsageError(f"{fact}, classes are chosen by the model's names; choose from {', '.join(table.names)}")
    return np.array([table.names.index(name) for name in names], np.int64)


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{name} must be between 0 and 1, got {value}; choose a value such as 0.5")


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} must be at least 1, got {value}; choose a larger value")


def _milliseconds_since(start: float) -> float:
    return (perf_counter() - start) * 1000
