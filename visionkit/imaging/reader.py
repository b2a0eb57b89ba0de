"""The one image reader: every pixel of the project comes through here, upright and RGB.

Pillow reads the header, because its parsers are made for strangers' files; OpenCV decodes the pixels, because it is
fast. Neither alone is enough: OpenCV hangs on a FIFO, swells a few kB to gigabytes, and its older versions return the
upper half of a JPEG that was cut off as if it were whole.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from visionkit.errors import DataError

MAX_PIXELS = 100_000_000
"""Images of more pixels are refused: decoded, this many take 300 MB."""

MAX_BYTES = 8 * MAX_PIXELS
"""Files of more bytes are refused: MAX_PIXELS, uncompressed, four channels of 16 bits."""

FORMATS = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF")

# The plugins themselves instead of `Image.open`: nothing outside this list is ever tried on the bytes, whatever the
# suffix, and the pixel limit is ours instead of a warning of Pillow's.
_PARSERS: tuple[tuple[bytes, str, type[ImageFile]], ...] = (
    (b"\xff\xd8\xff", "JPEG", JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", "PNG", PngImageFile),
    (b"RIFF", "WebP", WebPImageFile),
    (b"BM", "BMP", BmpImageFile),
    (b"II*\0", "TIFF", TiffImageFile),
    (b"MM\0*", "TIFF", TiffImageFile),
    (b"GIF8", "GIF", GifImageFile),
)

_EXIF_ORIENTATION = 0x0112

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


class _Header(NamedTuple):
    """What the start of a file says: stored size, how to turn the pixels, and where the header ends."""

    format: str
    width: int
    height: int
    orientation: int
    end: int


def read_image(path: Path) -> NDArray[np.uint8]:
    """The picture in a file, upright: EXIF orientation is applied, once.

    Grey becomes three equal channels, 16 bits become 8, transparency is dropped, of an animation the first frame is
    read. About 2 ms for a 640x480 JPEG.

    Returns:
        u8 [H, W, 3], RGB, C-contiguous.

    Raises:
        DataError: not a regular file, not of `FORMATS`, more than MAX_PIXELS pixels, cut off or damaged.
    """
    _check_regular_file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    return decode_image(data, str(path))


def read_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of the upright picture in a file; reads the header only, about 0.05 ms.

    Raises:
        DataError: not a regular file, not of `FORMATS`, more than MAX_PIXELS pixels, or a damaged header. (A file
            that is cut off after its header goes unnoticed here.)
    """
    _check_regular_file(path)
    try:
        with path.open("rb") as file:
            header = _read_header(file, str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if header.orientation in _SIDES_SWAPPED:
        return header.height, header.width
    return header.width, header.height


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """The picture in the bytes of a file, as `read_image` gives it.

    Args:
        data: a whole file.
        name: what error messages call it.

    Raises:
        DataError: as `read_image`.
    """
    header = _read_header(BytesIO(data), name)
    if not _is_whole(data, header):
        raise DataError(f"{name} is cut off, a {header.format} must reach its end mark; copy or export it again")
    # Only the TIFF decoder turns by itself and cannot be told not to; Pillow's size of a TIFF is the upright one too.
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None or image.shape != (header.height, header.width, 3):
        also = ", or this OpenCV reads no GIF" if header.format == "GIF" else ""
        raise DataError(f"{name} cannot be decoded, its {header.format} data is damaged{also}; export it again")
    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    turn = _TURN_UPRIGHT.get(header.orientation)
    return np.ascontiguousarray(turn(rgb) if turn else rgb, dtype=np.uint8)  # type: ignore[arg-type]


def _check_regular_file(path: Path) -> None:
    """Opening a FIFO or a device could hang for ever, so what a path is gets asked before it is opened."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        raise DataError(f"{path} cannot be opened ({reason}); check the path") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
        raise DataError(f"{path} is {kind}, an image must be a regular file; name the image file")
    if status.st_size > MAX_BYTES:
        raise DataError(
            f"{path} has {status.st_size} bytes, an image file may have {MAX_BYTES}; scale or compress the image"
        )


def _read_header(file: IO[bytes], name: str) -> _Header:
    start = file.read(16)
    if not start:
        raise DataError(f"{name} is empty (0 bytes), an image is needed; copy or export it again")
    known = next(((kind, parser) for magic, kind, parser in _PARSERS if start.startswith(magic)), None)
    if known is None or (known[0] == "WebP" and start[8:12] != b"WEBP"):  # RIFF also holds sound and video
        raise DataError(f"{name} is not an image of a known format ({', '.join(FORMATS)}); convert it or leave it out")
    image_format, parser = known
    file.seek(0)
    try:
        image = parser(file)
        width, height = image.size
    except Exception as error:  # damaged headers make Pillow raise almost anything
        raise DataError(
            f"{name} has a damaged or unknown kind of {image_format} header ({_one_line(error)}); export it again"
        ) from error
    if width < 1 or height < 1:
        raise DataError(f"{name} is {width}x{height} pixels, at least 1x1 is needed; export it again")
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name} is {width}x{height} pixels, at most {MAX_PIXELS // 1_000_000} million are read; scale it down"
        )
    orientation = 1 if image_format == "TIFF" else _exif_orientation(image.info)
    return _Header(image_format, width, height, orientation, end=file.tell())


def _exif_orientation(info: Mapping[Any, Any]) -> int:
    """1 to 8; unreadable or unknown values mean 1, stored upright.

    Not `image.getexif()`: that one decodes a whole PNG in search of EXIF behind the pixels.
    """
    block = info.get("exif")
    if not block:
        return 1
    exif = Image.Exif()
    try:
        exif.load(block)
        orientation = exif.get(_EXIF_ORIENTATION)
    except Exception:  # damaged EXIF makes Pillow raise almost anything, and viewers show such pictures as stored
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TURN_UPRIGHT else 1


def _is_whole(data: bytes, header: _Header) -> bool:
    """Whether the end mark is there, wanted of the formats whose decoders may forgive its absence.

    Searched behind the header, because an EXIF thumbnail is a JPEG with an end mark of its own; and anywhere there,
    because phones append videos to their pictures.
    """
    if header.format == "JPEG":
        return data.find(b"\xff\xd9", header.end) >= 0
    if header.format == "PNG":
        return data.find(b"IEND", header.end) >= 0
    if header.format == "WebP":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return True


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
