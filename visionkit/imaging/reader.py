"""The one image reader: every pixel of the project comes through here, upright and RGB.

Pillow reads the header, because its parsers are made for strangers' files; OpenCV decodes the pixels, because it is
fast. Neither alone is enough: OpenCV hangs on a FIFO, swells a few kB to gigabytes, and its older versions return the
upper half of a JPEG that was cut off as if it were whole. TIFF and GIF are rare here and Pillow decodes them: OpenCV
blackens a TIFF's transparent pixels, rounds 16 bits in two ways, and reads GIF only of late.

Whatever a file holds becomes 3 x 8 bits by these rules:

- grey becomes three equal channels; 1, 2 and 4 bits are stretched to 0..255, and so 1 bit is black and white;
- 16 bits keep their upper eight: v >> 8, at most one level beside v / 257. They are not stretched, so what uses few of
  its 16 bits is dark;
- a palette's colours are looked up;
- transparency is dropped, and the colour under it stays. That is what other tools train on, loses nothing of the file,
  and invents no background; what a model sees is what the annotated pictures show;
- CMYK becomes RGB as (255 - C)(255 - K) / 255 and so on, within 2 levels; in a JPEG it is stored inverted, as
  Adobe does. Colour profiles and gamma are ignored;
- of an animation or several pages the first is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.errors import DataError
from visionkit.imaging.header import MAX_PIXELS, Header, read_header
from visionkit.imaging.jpeg_scans import MOST_SCANS, has_too_many_scans
from visionkit.imaging.whole import is_whole, jpeg_runs_dry

MAX_BYTES = 8 * MAX_PIXELS
"""Files of more bytes are refused: MAX_PIXELS, uncompressed, four channels of 16 bits."""

# EXIF 2.32, section 4.6.4, tag Orientation: from the pixels as stored to the picture as meant.
_TURN_UPRIGHT: Mapping[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image.swapaxes(0, 1)[:, ::-1],
    7: lambda image: image.swapaxes(0, 1)[::-1, ::-1],
    8: lambda image: image.swapaxes(0, 1)[::-1],
}
_SIDES_SWAPPED = frozenset({5, 6, 7, 8})


def read_image(path: Path) -> NDArray[np.uint8]:
    """The picture in a file, upright: EXIF orientation is applied, once. About 2 ms for a 640x480 JPEG.

    What is damaged within its pixels is noticed where the format can tell: a PNG has checksums; of a JPEG it is noticed
    when its data ends early. Otherwise damaged pixels are a picture, as they are to every viewer.

    Returns:
        u8 [H, W, 3], RGB, C-contiguous.

    Raises:
        DataError: not a regular file, not of `FORMATS`, more than MAX_PIXELS pixels, cut off or damaged, or a JPEG of
            more than MOST_SCANS scans.
    """
    _check_regular_file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return decode_image(data, str(path))


def check_image(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of the upright picture in a file that reaches its end. Reads its header and end only,
    about 0.04 ms: damage in between is for `read_image` to notice.

    Raises:
        DataError: not a regular file, not of `FORMATS`, more than MAX_PIXELS pixels, a damaged header, or cut off.
    """
    _check_regular_file(path)
    try:
        with path.open("rb") as file:
            header = read_header(file, str(path))
            whole = is_whole(file, os.fstat(file.fileno()).st_size, header)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not whole:
        raise _cut_off(str(path), header)
    return _upright_size(header)


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """The picture in the bytes of a file, as `read_image` gives it.

    Args:
        data: a whole file.
        name: what error messages call it.

    Raises:
        DataError: as `read_image`.
    """
    file = BytesIO(data)
    header = read_header(file, name)
    if not is_whole(file, len(data), header):
        raise _cut_off(name, header)
    if header.format == "JPEG" and has_too_many_scans(data, header.end):
        raise DataError(
            f"{name} is a JPEG of more than {MOST_SCANS} scans, pictures have about 10 and each takes as long as a "
            "picture; export it again"
        )
    decode = _decoded_by_pillow if header.format in ("TIFF", "GIF") else _decoded_by_opencv
    image = decode(data, header)
    if image is None or image.shape != (header.height, header.width, 3):
        raise DataError(
            f"{name} cannot be decoded, its {header.format} data is damaged or of an unknown kind; export it again"
        )
    if header.format == "JPEG" and jpeg_runs_dry(data, header, image):
        raise DataError(f"{name} is cut off, its JPEG data ends before its pixels do; copy or export it again")
    turn = _TURN_UPRIGHT.get(header.orientation)
    return np.ascontiguousarray(turn(image) if turn else image)


def _decoded_by_opencv(data: bytes, _header: Header) -> NDArray[np.uint8] | None:
    """u8 [H, W, 3] RGB as stored, or None."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return None if image is None else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _decoded_by_pillow(data: bytes, header: Header) -> NDArray[np.uint8] | None:
    """u8 [H, W, 3] RGB, a TIFF upright already because Pillow turns it; or None."""
    try:
        image = header.parser(BytesIO(data))
        image.load()
        if not image.mode.startswith("I;16"):
            return np.array(image.convert("RGB"))
        upper = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(upper[..., None], 3, axis=2)
    except Exception:  # damaged data makes Pillow raise almost anything
        return None


def _upright_size(header: Header) -> tuple[int, int]:
    if header.orientation in _SIDES_SWAPPED:
        return header.height, header.width
    return header.width, header.height


def _check_regular_file(path: Path) -> None:
    """Opening a FIFO or a device could hang for ever, so what a path is gets asked before it is opened."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        raise DataError(f"{path} cannot be opened ({reason}); check the path") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise DataError(f"{path} is {kind}, an image must be a regular file; name the image file")
    if status.st_size > MAX_BYTES:
        raise DataError(
            f"{path} has {status.st_size} bytes, an image file may have {MAX_BYTES}; scale or compress the image"
        )


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read ({error.strerror}); check its permissions")


def _cut_off(name: str, header: Header) -> DataError:
    return DataError(f"{name} is cut off, a {header.format} must reach its end mark; copy or export it again")
