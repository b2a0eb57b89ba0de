"""Files of results: what all formats and pictures share. Nothing that exists is overwritten, and an interrupted run
keeps what it has, because every file is whole after every image.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import get_ident
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.errors import UsageError, VisionkitError
from visionkit.imaging.header import JPEG_SUFFIXES
from visionkit.result import Result

Pixels = NDArray[np.uint8]
"""[H, W, 3], RGB, upright."""

JPEG_QUALITY = 92

LONGEST_STEM = 200
"""Bytes of a name that are kept: file systems take 255, and a number, a frame's number and a suffix follow. Addresses
have longer ones."""


class AddResult(Protocol):
    """Writes what a model says of one image; what the `with` block of each format gives.

    Args:
        result: of the image.
        number: the image's place among the sources, counted from 1 and including those that could not be read.
        name: of the image's own files in the folder, without a suffix; no other image has it.
        pixels: of the image, for formats that hold pictures.
    """

    def __call__(self, result: Result, *, number: int, name: str, pixels: Pixels) -> None: ...


class GrowingFile:
    """A new text file that is whole after every addition, even where the process is killed the moment after.

    Each addition is one write to the system, which takes back the end mark, adds the text and sets the mark again; one
    that fails, as on a full disk, is undone.

    Args:
        path: of the file, in a folder that is made where it is missing.
        start: the text it begins with.
        end: the text that closes it, such as the bracket of a JSON array.

    Raises:
        UsageError: the file exists.
        VisionkitError: it cannot be written.
    """

    def __init__(self, path: Path, *, start: str = "", end: str = "") -> None:
        self.path = path
        self._start, self._end = start, _encoded(end)

    def __enter__(self) -> GrowingFile:
        with named_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._file = self.path.open("xb", buffering=0)
            except FileExistsError:
                raise UsageError(exists_words(self.path)) from None
        self._length = 0
        self.add(self._start)
        return self

    def add(self, text: str) -> None:
        data = _encoded(text)
        with named_errors(self.path):
            try:
                self._write(data + self._end)
            except OSError:
                self._file.truncate(self._length)
                self._write(self._end)
                raise
        self._length += len(data)

    def _write(self, data: bytes) -> None:
        self._file.seek(self._length)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with named_errors(self.path), self._file:
            os.fsync(self._file.fileno())


class OutputNames:
    """Hands out file names for pictures in a folder: each stem once, none that is there already.

    JPEG sources keep their name as far as it is not too long, others become PNG; a stem that is taken gets a number:
    `a.jpg`, `a-2.jpg`. As stems differ, the files that other formats put beside the pictures (`a.txt`, `a-2.txt`) never
    meet either; nor do those of a video's frames (`frame_stem`) and those of pictures that are named like its frames.

    Args:
        folder: that the pictures go to.
        reserved: stems that are never handed out.
    """

    def __init__(self, folder: Path, reserved: Collection[str] = ()) -> None:
        self.folder = folder
        self._taken = {stem.casefold() for stem in reserved}
        self._next: dict[str, int] = {}
        self._videos: set[str] = set()
        self._like_frames_of: set[str] = set()

    def take(self, source: str | Path, *, has_frames: bool = False) -> Path:
        """A free path for the picture made from a source.

        Args:
            has_frames: whether it is a video, whose frames have files of their own.
        """
        source = Path(source)
        stem = _shortened(source.stem) or "image"
        suffix = source.suffix if source.suffix.lower() in JPEG_SUFFIXES else ".png"
        # Some file systems take `A.jpg` and `a.jpg` for one file.
        first = self._next.get(stem.casefold(), 1)
        for number in count(first):
            free = stem if number == 1 else f"{stem}-{number}"
            plain, video = free.casefold(), _video_of(free.casefold())
            meets = plain in self._taken or video in self._videos or (has_frames and plain in self._like_frames_of)
            if not meets and not (self.folder / (free + suffix)).exists():
                break
        self._taken.add(plain)
        self._like_frames_of.add(video)
        if has_frames:
            self._videos.add(plain)
        self._next[stem.casefold()] = number + 1
        return self.folder / (free + suffix)


def frame_stem(stem: str, frame: int) -> str:
    """What a frame's own files are named after.

    Args:
        stem: of its video's file.
        frame: its number from 0.

    >>> frame_stem("clip", 12)
    'clip-000012'
    """
    return f"{stem}-{frame:06d}"


def _video_of(stem: str) -> str:
    """The stem of the video that a stem would be a frame's of; empty where it could be none's."""
    video, _, number = stem.rpartition("-")
    return video if len(number) >= len("000000") and number.isdecimal() else ""


def _shortened(stem: str) -> str:
    """A stem without what of it is too much for a file system."""
    data = stem.encode("utf-8", "surrogateescape")
    return stem if len(data) <= LONGEST_STEM else data[:LONGEST_STEM].decode("utf-8", "ignore")


def save_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """Save an RGB picture u8 [H, W, 3]; by a suffix of JPEG's as JPEG of quality 92, anything else as PNG.

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
    write_new(path, encoded.tobytes())


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not be there yet, whole or not at all, even where the process is killed meanwhile.

    Raises:
        UsageError: the file exists.
        VisionkitError: it cannot be written.
    """
    # Not named after the file, whose name may be as long as names can be.
    part = path.with_name(f".{os.getpid()}-{get_ident()}.part")
    with named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            raise UsageError(exists_words(path))
        try:
            part.write_bytes(data)
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def shortest(value: np.float32) -> float:
    """The double with the fewest digits that rounds to this 32-bit float: 0.1 and not 0.10000000149011612.

    Half the file, the same order and ties of scores, the same AP.
    """
    return float(str(np.float32(value)))


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turns what the file system says into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise VisionkitError(
            f"{path} cannot be written ({error.strerror}), results are saved there; free space or choose another folder"
        ) from error


def _encoded(text: str) -> bytes:
    # How Python names a file whose name is not UTF-8 has no UTF-8 either.
    return text.encode("utf-8", "backslashreplace")


def exists_words(path: Path) -> str:
    return f"{path} exists, nothing is overwritten; choose another name or move it away"
