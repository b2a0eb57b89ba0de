"""Results as files: JSON lines, COCO results, annotated pictures. Nothing that exists is overwritten.

An interrupted run keeps what it has: JSON lines and pictures are written as they come, and a COCO results file, whose
JSON array is only whole at its end, grows beside its name as `*.partial` and is closed and renamed on the way out,
also when that way is an exception or Ctrl-C.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.errors import UsageError, VisionkitError
from visionkit.result import Result

JPEG_SUFFIXES = (".jpg", ".jpeg")
JPEG_QUALITY = 92


def write_json_line(stream: IO[str], result: Result) -> None:
    """Write a result as one line of JSON, schema `visionkit.result/1`, and flush: whoever reads along sees it at once.

    The line is pure ASCII (other characters escaped), so it survives any terminal, pipe and odd file name.
    """
    stream.write(json.dumps(result.to_json(), allow_nan=False) + "\n")
    stream.flush()


def coco_rows(result: Result, image_id: int) -> list[dict[str, Any]]:
    """The rows of a COCO results file, with the dataset's category ids and boxes as x, y, width, height in pixels.

    Numbers have the fewest digits that give back the same 32-bit float: half the file, the same order and ties of
    scores, the same AP. Each row also names its file (`file_name`, which COCO's tools pass over).
    """
    widths_heights = result.boxes[:, 2:] - result.boxes[:, :2]
    return [
        {
            "image_id": image_id,
            "category_id": result.classes.category_ids[label],
            "bbox": [_shortest(v) for v in box],
            "score": _shortest(score),
            "file_name": result.path,
        }
        for box, score, label in zip(
            np.hstack([result.boxes[:, :2], widths_heights]), result.scores, result.labels, strict=True
        )
    ]


def _shortest(value: np.float32) -> float:
    """The double with the fewest digits that rounds to this 32-bit float: 0.1 and not 0.10000000149011612."""
    return float(str(np.float32(value)))


class CocoResultsFile:
    """A COCO results file of images that belong to no dataset, written as results come; use it in a `with` block.

    Image ids count the results from 1, in order; `file_name` in each row says which image that is.

    Raises:
        UsageError: the file exists.
        VisionkitError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(path.name + ".partial")
        self._images = 0
        self._rows = 0

    def __enter__(self) -> CocoResultsFile:
        if self.path.exists():
            raise UsageError(_exists(self.path))
        with _named_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream: IO[str] = self._partial.open("w", encoding="ascii")
        return self

    def add(self, result: Result) -> None:
        """Append the rows of one image."""
        self._images += 1
        with _named_errors(self.path):
            for row in coco_rows(result, self._images):
                self._stream.write((",\n" if self._rows else "[\n") + json.dumps(row, allow_nan=False))
                self._rows += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _named_errors(self.path):
            with self._stream as stream:
                stream.write("\n]\n" if self._rows else "[]\n")
                stream.flush()
                os.fsync(stream.fileno())
            self._partial.replace(self.path)


class OutputNames:
    """Hands out file names for pictures in a folder: each once, none that is there already.

    JPEG sources keep their name, others become PNG; a name that is taken gets a number: `a.jpg`, `a-2.jpg`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: set[str] = set()

    def take(self, source: str | Path) -> Path:
        """A free path for the picture made from a source."""
        source = Path(source)
        stem = source.stem or "image"
        suffix = source.suffix if source.suffix.lower() in JPEG_SUFFIXES else ".png"
        for name in chain([stem + suffix], (f"{stem}-{number}{suffix}" for number in count(2))):
            # Some file systems take `A.jpg` and `a.jpg` for one file.
            if name.casefold() not in self._taken and not (self.folder / name).exists():
                self._taken.add(name.casefold())
                break
        return self.folder / name


def save_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """Save an RGB picture u8 [H, W, 3]; `.jpg` and `.jpeg` as JPEG of quality 92, anything else as PNG.

    Raises:
        UsageError: the file exists.
        VisionkitError: it cannot be written.
    """
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if path.suffix.lower() in JPEG_SUFFIXES:
        # Full colour resolution: thin coloured lines and small text smear without it.
        sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, *sampling])
    else:
        _, encoded = cv2.imencode(".png", bgr)
    with _named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(path, encoded.tobytes())


def _write_new(path: Path, data: bytes) -> None:
    try:
        file = path.open("xb")
    except FileExistsError:
        raise UsageError(_exists(path)) from None
    try:
        with file:
            file.write(data)
    except BaseException:
        path.unlink(missing_ok=True)  # half a picture is worse than none
        raise


def _exists(path: Path) -> str:
    return f"{path} exists, nothing is overwritten; choose another name or move it away"


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turns what the file system says into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise VisionkitError(
            f"{path} cannot be written ({error.strerror}), results are saved there; free space or choose another folder"
        ) from error
