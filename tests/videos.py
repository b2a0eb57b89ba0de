"""Videos made small: frames that can be told apart, and files cut and broken where tests want them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FPS = 25.0


def level(number: int) -> int:
    """The red of frame `number`: one of twelve, far apart."""
    return 20 + number % 12 * 18


def frame(number: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """u8 [H, W, 3] RGB: of one red, with a green stripe at the left."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = level(number)
    picture[:, : width // 4] = (0, 200, 0)
    return picture


def numbers(pictures: Iterable[NDArray[np.uint8]]) -> list[int]:
    """Which frames pictures are, up to 11, by the red of their right half."""
    reds = [float(picture[:, picture.shape[1] // 2 :, 0].mean()) for picture in pictures]
    return [int(np.argmin([abs(level(number) - red) for number in range(12)])) for red in reds]


def write_video(path: Path, frames: int = 10, *, fourcc: str = "mp4v", fps: float = FPS, width: int = 64) -> Path:
    """A video of `frame(0)`, `frame(1)`, ..."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*fourcc), fps, (width, 48))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.ascontiguousarray(frame(number, width)[..., ::-1]))
    writer.release()
    return path


def boxes(data: bytes) -> dict[bytes, bytes]:
    """The outer boxes of an MP4, by their kind (ISO/IEC 14496-12, section 4.2)."""
    found, place = {}, 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        found[data[place + 4 : place + 8]] = data[place : place + length]
        place += length
    return found


def index_first(data: bytes) -> bytes:
    """The MP4 with its index before its pictures, as for sending; then what is cut off still begins to play."""
    parts = boxes(data)
    index = bytearray(parts[b"moov"])
    place = index.index(b"stco") + 8
    (count,) = struct.unpack(">I", index[place : place + 4])
    for i in range(count):  # where the pictures lie: further behind now by the length of the index
        at = place + 4 + 4 * i
        (offset,) = struct.unpack(">I", index[at : at + 4])
        index[at : at + 4] = struct.pack(">I", offset + len(index))
    before = b"".join(box for kind, box in parts.items() if kind not in (b"moov", b"mdat"))
    return before + bytes(index) + parts[b"mdat"]


def with_broken_picture(data: bytes, number: int) -> bytes:
    """A motion JPEG AVI, one of whose pictures is zeros."""
    place = data.index(b"movi")
    for _ in range(number + 1):
        place = data.index(b"00dc", place + 4)
    length = int.from_bytes(data[place + 4 : place + 8], "little")
    return data[: place + 8] + bytes(length) + data[place + 8 + length :]
