"""What the start of an image file says, read by parsers that are made for strangers' files."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from PIL import Image
from PIL.ImageFile import ImageFile

from visionkit.errors import DataError

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import TiffImageFile

MAX_PIXELS = 100_000_000
"""Images of more pixels are refused: decoded, this many take 300 MB."""

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WebP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
}
"""Of the formats that are read, the usual one first. A file named outright may have any."""

FORMATS = tuple(SUFFIXES)
IMAGE_SUFFIXES = tuple(suffix for of_format in SUFFIXES.values() for suffix in of_format)
"""Of the files that are images where a folder is looked through."""

JPEG_SUFFIXES = SUFFIXES["JPEG"]
RARE_SUFFIXES = (".jpe", ".jfif", ".dib")
"""Those that other tools pass over."""

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"RIFF", "WebP"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"GIF8", "GIF"),
)

# The plugins themselves instead of `Image.open`: nothing outside this list is ever tried on the bytes, whatever the
# suffix, and the pixel limit is ours instead of a warning of Pillow's. Each is imported with the first file of its
# format: all together they take longer than a picture's pixels.
_PLUGINS: Mapping[str, tuple[str, str]] = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
}

# TIFF also holds what is no picture: 32-bit and signed numbers have no white, and 12 bits would come out nearly black.
_TIFF_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I;16B"})
_TIFF_BITS = frozenset({1, 2, 4, 8, 16})
# Tags of TIFF 6.0, sections 8 and 15, and where pixels lie: offsets and byte counts of strips or else of tiles.
_BITS_PER_SAMPLE = 258
_STRIPS, _TILES = (273, 279), (324, 325)
# Bytes of a value by its type, section 2.
_TIFF_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}

_EXIF_ORIENTATION = 0x0112


class Header(NamedTuple):
    """What the start of a file says.

    Args:
        format: one of `FORMATS`.
        width, height: pixels as stored, before they are turned upright; those of a TIFF are upright already.
        orientation: the EXIF value, 1 to 8, that is still to be applied.
        end: bytes until the end of the header.
        needed: bytes that a whole file has at least, as far as the header tells.
        parser: Pillow's class for the format.
    """

    format: str
    width: int
    height: int
    orientation: int
    end: int
    needed: int
    parser: type[ImageFile]


def read_header(file: IO[bytes], name: str) -> Header:
    """Read the header of an image file that is open at its beginning.

    Args:
        name: what error messages call it.

    Raises:
        DataError: not of `FORMATS`, a damaged header, more than MAX_PIXELS pixels, a TIFF that holds no picture.
    """
    start = file.read(16)
    if not start:
        raise DataError(f"{name} is empty (0 bytes), an image is needed; copy or export it again")
    image_format = next((kind for magic, kind in _STARTS if start.startswith(magic)), None)
    if image_format is None or (image_format == "WebP" and start[8:12] != b"WEBP"):  # RIFF also holds sound and video
        raise DataError(f"{name} is not an image of a known format ({', '.join(FORMATS)}); convert it or leave it out")
    parser = _parser(image_format)
    file.seek(0)
    try:
        image = parser(file)
        width, height = image.size
        needed = _bytes_needed(image, image_format, start)
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
    if image_format == "TIFF":
        _check_tiff_pixels(cast("TiffImageFile", image), name)
    orientation = 1 if image_format == "TIFF" else _exif_orientation(image.info)
    return Header(image_format, width, height, orientation, file.tell(), needed, parser)


def _parser(image_format: str) -> type[ImageFile]:
    """Pillow's class for one of `FORMATS`."""
    module, name = _PLUGINS[image_format]
    return cast("type[ImageFile]", getattr(import_module(module), name))


def _bytes_needed(image: ImageFile, image_format: str, start: bytes) -> int:
    """How long a file must be to hold all its pixels; 0 where only an end mark tells."""
    if image_format == "WebP":
        return 8 + int.from_bytes(start[4:8], "little")
    if image_format == "BMP":
        codec, _, offset, arguments = image.tile[0]
        # Uncompressed rows: name of their layout, bytes a row, direction. What run-length coding needs is not known.
        return int(offset + arguments[1] * image.size[1]) if codec == "raw" else 0  # type: ignore[index, operator]
    if image_format == "TIFF":
        tiff = cast("TiffImageFile", image)
        return max(_directory_end(tiff), *(_pixels_end(tiff, *tags) for tags in (_STRIPS, _TILES)))
    return 0


def _pixels_end(image: TiffImageFile, offsets: int, counts: int) -> int:
    places = zip(image.tag_v2.get(offsets, ()), image.tag_v2.get(counts, ()), strict=False)
    return max((int(offset + count) for offset, count in places), default=0)


def _directory_end(image: TiffImageFile) -> int:
    """Where the directory of a TIFF's first page ends, and the values it points to; Pillow forgives their absence."""
    file = image.fp
    assert file is not None
    byte_order = "<" if image.tag_v2.prefix == b"II" else ">"
    file.seek(4)
    (start,) = struct.unpack(byte_order + "I", file.read(4))
    file.seek(start)
    (count,) = struct.unpack(byte_order + "H", file.read(2))
    end = start + 2 + 12 * count + 4
    for _, kind, number, place in struct.iter_unpack(byte_order + "HHII", file.read(12 * count)):
        length = _TIFF_TYPE_BYTES.get(kind, 0) * number
        if length > 4:
            end = max(end, place + length)
    return int(end)


def _check_tiff_pixels(image: TiffImageFile, name: str) -> None:
    bits = max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
    if image.mode not in _TIFF_MODES or bits not in _TIFF_BITS:
        raise DataError(
            f"{name} is a TIFF of {bits} bits a channel (mode {image.mode}), unsigned ones of up to 8 or of 16 are "
            "read, grey, palette, RGB or CMYK; export it as 8-bit RGB"
        )


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
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
