"""An image or a video that comes as a row of bytes, from standard input or from a server."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import DataError
from visionkit.imaging.reader import decode_image
from visionkit.predict.video_container import START_BYTES, container_of
from visionkit.predict.video_source import Pictures, read_video

MAX_IMAGE_BYTES = 100_000_000
MAX_VIDEO_BYTES = 2_000_000_000

_PIECE = 1 << 18

Read = Callable[[int], bytes]
"""Gives at most so many bytes, at least one, and none at the end."""


def read_standard_input(*, name: str, every: int = 1) -> Pictures:
    """The picture, or the frames of the video, whose bytes come from standard input.

    Raises:
        DataError: as `received` and `read_video`.
    """
    with tempfile.TemporaryDirectory(prefix="visionkit-") as scratch:
        try:
            got = received(sys.stdin.buffer.read, Path(scratch), name=name)
        except OSError as error:
            raise DataError(f"{name} cannot be read ({error.strerror}); pipe a file in, as by < image.jpg") from error
        yield from pictures_of(got, name=name, every=every)


def received(read: Read, scratch: Path, *, name: str) -> NDArray[np.uint8] | Path:
    """All the bytes: a picture u8 [H, W, 3], RGB, upright, or a video, kept in a file because many have their index at
    the end.

    Args:
        scratch: folder of that file.
        name: what errors call it.

    Raises:
        DataError: neither image nor video, more than `MAX_IMAGE_BYTES` or `MAX_VIDEO_BYTES`, no room for the file, or
            as `decode_image`.
    """
    start = _at_least(read, START_BYTES)
    if container_of(start) is None:
        return decode_image(b"".join(_all(start, read, MAX_IMAGE_BYTES, name)), name)
    path = scratch / "video"
    with path.open("xb", buffering=0) as file:
        for piece in _all(start, read, MAX_VIDEO_BYTES, name):
            try:
                file.write(piece)
            except OSError as error:
                raise DataError(
                    f"{name} is a video and cannot be kept while it is read ({error.strerror}); make room in "
                    f"{tempfile.gettempdir()}, or name another folder in TMPDIR"
                ) from error
    return path


def pictures_of(got: NDArray[np.uint8] | Path, *, name: str, every: int) -> Pictures:
    """What `received` gave, picture by picture. Raises as `read_video`."""
    if isinstance(got, Path):
        yield from read_video(got, name=name, every=every)
    else:
        yield None, got


def _at_least(read: Read, wanted: int) -> bytes:
    data = b""
    while len(data) < wanted and (piece := read(wanted - len(data))):
        data += piece
    return data


def _all(start: bytes, read: Read, most: int, name: str) -> Iterator[bytes]:
    """The start and the rest, piece by piece."""
    done, piece = 0, start
    while piece:
        done += len(piece)
        if done > most:
            raise DataError(
                f"{name} has more than {most:,} bytes, that much is read of an image or video from elsewhere; "
                "save it to a file first"
            )
        yield piece
        piece = read(_PIECE)
