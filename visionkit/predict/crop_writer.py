"""Detections cut out of their images: a picture each, in a folder per class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionkit.imaging.header import JPEG_SUFFIXES
from visionkit.predict.class_names import folder_names
from visionkit.predict.writers import AddResult, Pixels, save_picture
from visionkit.result import Result

FOLDER = "crops"

_LONGEST = 200
"""Bytes of an image's name that are kept; file systems take 255, and a number and a suffix follow."""


def cut_out(pixels: Pixels, box: NDArray[np.float32]) -> Pixels:
    """The pixels that a box x1 y1 x2 y2 touches, [h, w, 3], a view; none where it lies off the image."""
    height, width = pixels.shape[:2]
    reached = np.concatenate((np.floor(box[:2]), np.ceil(box[2:])))
    left, top, right, bottom = np.clip(reached, 0, (width, height, width, height)).astype(int).tolist()
    return pixels[top:bottom, left:right]


@contextmanager
def crop_writer(folder: Path) -> Iterator[AddResult]:
    """`crops/CLASS/NAME-PLACE.jpg` a detection, named as its picture, with its place among the image's detections,
    counted from 1, the best first; PNG where the image is no JPEG.

    Nothing is drawn on them. The folder of a class has its name, without what file systems do not take. Each file is
    written once, whole; where nothing was found there is none. Raises as `save_picture`.
    """
    folders: list[str] = []

    def add(result: Result, *, number: int, name: str, pixels: Pixels) -> None:
        folders[:] = folders or folder_names(result.classes.names)
        suffix = Path(result.path).suffix
        suffix = suffix if suffix.lower() in JPEG_SUFFIXES else ".png"
        # The number keeps apart what is the same as far as it is kept.
        stem = name if len(name.encode("utf-8", "surrogateescape")) <= _LONGEST else f"{name[: _LONGEST // 5]}~{number}"
        for place, (box, label) in enumerate(zip(result.boxes, result.labels.tolist(), strict=True), 1):
            crop = cut_out(pixels, box)
            if crop.size:
                save_picture(folder / FOLDER / folders[label] / f"{stem}-{place}{suffix}", crop)

    yield add
