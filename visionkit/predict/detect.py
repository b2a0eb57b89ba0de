"""Images in, results out: read, letterbox, run a backend, go back to original pixels. Memory stays flat."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.errors import DataError, UsageError, VisionkitError
from visionkit.imaging.letterbox import Frame, letterbox
from visionkit.predict.backend import Backend, Calibrated, Raw, RawClasses, RawMap, frame_multiple
from visionkit.predict.maps import NO_CLASS, Labels, class_pixels, labels_in_pixels
from visionkit.predict.masks import pasted_masks
from visionkit.predict.merging import Found, Window, found_in
from visionkit.predict.reading import DEFAULT_READING, Reading, read_source
from visionkit.predict.sources import Source
from visionkit.predict.tiling import Tiling, look_tiled
from visionkit.result import Result

if TYPE_CHECKING:
    from visionkit.predict.video_source import Moment


LARGEST_COUNT = 1_000_000
"""Of detections an image, or images at once: no picture needs so many, and what is larger by far fits no integer."""


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image on its way through prediction.

    Args:
        path: where it came from, as the user named it, and of a frame its place, as `Moment.path`; empty for an array.
        pixels: u8 [H, W, 3] RGB, upright.
        read_ms: milliseconds spent on reading it.
        number: its place among all images and frames of the sources, counted from 1 and including those that cannot be
            read.
        moment: its place in a video; None of an image.
    """

    path: str
    pixels: NDArray[np.uint8]
    read_ms: float = 0.0
    number: int = 1
    moment: Moment | None = None


def read_images(
    sources: Iterable[Source],
    *,
    on_skip: Callable[[Path | str, DataError], None],
    reading: Reading = DEFAULT_READING,
) -> Generator[LoadedImage, None, None]:
    """Read sources one image or frame at a time. What cannot be read is handed to `on_skip`, the path of a file or the
    name of another source, with the reason, and left out; of a video or stream the rest still comes where it can.

    Close it where it is not read to its end and holds a camera or a connection.
    """
    number = 0
    for source in sources:
        name = source if isinstance(source, Path) else str(source)
        with closing(read_source(source, reading, on_broken=partial(on_skip, name))) as pictures:
            while True:
                start = perf_counter()
                try:
                    picture = next(pictures, None)
                except DataError as error:
                    number += 1
                    on_skip(name, error)
                    break
                if picture is None:
                    break
                number += 1
                moment, pixels = picture
                path = str(name) if moment is None else moment.path
                yield LoadedImage(path, pixels, _milliseconds_since(start), number, moment)


def detect_loaded(
    backend: Backend,
    images: Iterable[LoadedImage],
    *,
    score: float = 0.25,
    iou: float | None = None,
    max_det: int = 300,
    classes: Sequence[str] | None = None,
    batch: int = 1,
    tiling: Tiling | None = None,
) -> Iterator[tuple[LoadedImage, Result]]:
    """What a model says of images, each with its pixels for whoever draws on them. Holds one batch at a time.

    Boxes come back in pixels of the original image, clipped to it; one that lies wholly in the padding is no box of
    the image and goes.

    Args:
        score: the least score a detection may have, in [0, 1]; of a classifier any class but the best.
        iou: NMS threshold in [0, 1]; the model's own where None.
        max_det: the most detections an image may have, of all classes together.
        classes: names of the classes to report; None reports all. `max_det` counts before this choice.
        batch: images, or tiles of an image, the backend is handed at once.
        tiling: how images larger than a tile are cut; None sees each image whole.

    Raises:
        UsageError: a threshold outside [0, 1], `max_det` or `batch` below 1, a class the model does not know. Raised
            at the call, before an image is read. And at the first image that is cut, if the model is a classifier.
        VisionkitError: the model says scores that are no numbers.
    """
    _check_fraction("score", score)
    if iou is not None:
        _check_fraction("iou", iou)
    _check_count("max_det", max_det)
    _check_count("batch", batch)
    wanted = None if classes is None else _labels_of(classes, backend.classes)
    model = _Asked(backend, score, iou, max_det, wanted)

    def is_cut(image: LoadedImage) -> bool:
        return tiling is not None and tiling.grid(*image.pixels.shape[:2]) is not None

    def run() -> Iterator[tuple[LoadedImage, Result]]:
        remaining = iter(images)
        while group := list(islice(remaining, batch)):
            for cut, some in groupby(group, is_cut):
                if cut and tiling is not None:
                    yield from ((image, _detect_tiled(model, image, tiling, batch)) for image in some)
                else:
                    yield from _detect_batch(model, list(some))

    return run()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A backend, and what it is asked for; `wanted` are the labels to report, all where None."""

    backend: Backend
    score: float
    iou: float | None
    max_det: int
    wanted: NDArray[np.int64] | None

    def letterboxed(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Frame]:
        return letterbox(pixels, self.backend.image_size, multiple=frame_multiple(self.backend))

    def run(self, images: Sequence[NDArray[np.uint8]]) -> list[Raw]:
        """What is said of letterboxed images, those of one size at once. Raises as `_check_scores`."""
        together: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, image in enumerate(images):
            together[image.shape].append(number)
        found: dict[int, Raw] = {}
        for numbers in together.values():
            batch = np.stack([images[number] for number in numbers])
            said = self.backend.run(batch, score=self.score, iou=self.iou, max_det=self.max_det)
            _check_scores(said)
            found.update(zip(numbers, said, strict=True))
        return [found[number] for number in range(len(images))]

    def result(self, image: LoadedImage, fields: dict[str, Any], milliseconds: dict[str, float]) -> Result:
        score_map = self.backend.score_map if isinstance(self.backend, Calibrated) else None
        if score_map is not None and fields["task"] == "detect":
            fields = {**fields, "confidences": score_map(fields["scores"]).astype(np.float32)}
        return Result(
            path=image.path,
            width=image.pixels.shape[1],
            height=image.pixels.shape[0],
            classes=self.backend.classes,
            model_name=self.backend.name,
            model_sha256=self.backend.sha256,
            milliseconds=milliseconds,
            **fields,
        )


def _detect_batch(model: _Asked, group: Sequence[LoadedImage]) -> Iterator[tuple[LoadedImage, Result]]:
    squares, frames, preprocess_ms = [], [], []
    for image in group:
        start = perf_counter()
        square, frame = model.letterboxed(image.pixels)
        squares.append(square)
        frames.append(frame)
        preprocess_ms.append(_milliseconds_since(start))
    start = perf_counter()
    found = model.run(squares)
    model_ms = _milliseconds_since(start) / len(group)
    for image, frame, raw, before_ms in zip(group, frames, found, preprocess_ms, strict=True):
        start = perf_counter()
        fields = _fields(_in_original_pixels(raw, frame), image, model.wanted)
        milliseconds = {
            "read": image.read_ms,
            "preprocess": before_ms,
            "model": model_ms,
            "postprocess": _milliseconds_since(start),
        }
        yield image, model.result(image, fields, milliseconds)


def _detect_tiled(model: _Asked, image: LoadedImage, tiling: Tiling, batch: int) -> Result:
    """What the model says of a large image tile by tile, so many tiles at once."""
    milliseconds = {"read": image.read_ms, "preprocess": 0.0, "model": 0.0, "postprocess": 0.0}

    def look(windows: Sequence[Window]) -> Iterator[tuple[Frame, Raw]]:
        for first in range(0, len(windows), batch):
            start = perf_counter()
            some = windows[first : first + batch]
            pairs = [model.letterboxed(image.pixels[top:bottom, left:right]) for left, top, right, bottom in some]
            milliseconds["preprocess"] += _milliseconds_since(start)
            start = perf_counter()
            found = model.run([square for square, _ in pairs])
            milliseconds["model"] += _milliseconds_since(start)
            yield from zip((frame for _, frame in pairs), found, strict=True)

    grid = tiling.grid(*image.pixels.shape[:2])
    assert grid is not None
    start = perf_counter()
    fields = _fields(look_tiled(look, grid, model.max_det), image, model.wanted)
    looking = milliseconds["preprocess"] + milliseconds["model"]
    milliseconds["postprocess"] = _milliseconds_since(start) - looking
    return model.result(image, fields, milliseconds)


def _in_original_pixels(raw: Raw, frame: Frame) -> Found | RawClasses | Labels:
    """What is said of a whole image, in its pixels."""
    if isinstance(raw, RawMap):
        return labels_in_pixels(raw.scores, frame)
    if isinstance(raw, RawClasses):
        return raw
    return found_in(raw, frame, (0, 0, frame.width, frame.height), (frame.width, frame.height))


def _fields(found: Found | RawClasses | Labels, image: LoadedImage, wanted: NDArray[np.int64] | None) -> dict[str, Any]:
    """The fields of a Result that say what was found."""
    if isinstance(found, np.ndarray):
        return _areas(found, wanted)
    if isinstance(found, RawClasses):
        keep = np.full(len(found.labels), True) if wanted is None else np.isin(found.labels, wanted)
        nowhere = np.zeros((0, 4), np.float32)
        return {"task": "classify", "boxes": nowhere, "scores": found.scores[keep], "labels": found.labels[keep]}
    if wanted is not None:
        found = found.take(np.isin(found.labels, wanted))
    fields = {"task": "detect", "boxes": found.boxes, "scores": found.scores, "labels": found.labels}
    if found.masks is None:
        return fields
    # A mask belongs to the whole box, also to what of it lies beyond the image.
    height, width = image.pixels.shape[:2]
    masks = pasted_masks(found.masks, found.plane, height, width, windows=found.windows)
    return {**fields, "masks": tuple(masks)}


def _check_scores(said: Sequence[Raw]) -> None:
    """Raises VisionkitError where a score is no number: in a map all such pixels would be of the first class."""
    for raw in said:
        # A map's plane by plane: as one it would take a quarter of its memory again.
        parts = raw.scores if isinstance(raw, RawMap) else (raw.scores,)
        if not all(np.isfinite(part).all() for part in parts):
            raise VisionkitError("the model says scores that are no numbers, its weights are broken; name another file")


def _areas(semantic: Labels, wanted: NDArray[np.int64] | None) -> dict[str, Any]:
    """A map's classes, the largest first, each with its share of all pixels."""
    if wanted is not None:
        semantic = np.where(np.isin(np.arange(256), wanted), np.arange(256), NO_CLASS).astype(np.uint8)[semantic]
    counts = class_pixels(semantic)[:NO_CLASS]
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


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} must be at least 1, got {value}; choose a larger value")
    if value > LARGEST_COUNT:
        raise UsageError(f"{name} must be at most {LARGEST_COUNT:,}, got {value}; choose a smaller value")


def _milliseconds_since(start: float) -> float:
    return (perf_counter() - start) * 1000
