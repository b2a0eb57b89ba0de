"""Pictures and the bytes of image files, of every kind that comes along, made small."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def four_corners() -> NDArray[np.uint8]:
    """u8 [16, 24, 3]: red | green over blue | white, so that each turn and flip can be told from the others."""
    picture = np.zeros((16, 24, 3), np.uint8)
    picture[:8, :12], picture[:8, 12:], picture[8:, :12], picture[8:, 12:] = RED, GREEN, BLUE, WHITE
    return picture


def corners(picture: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Top left, top right, bottom left, bottom right; rounded to 0 or 255, as JPEG is off by a little."""
    return [tuple(255 * (picture[y, x] > 127).astype(int)) for y in (1, -2) for x in (1, -2)]


def slopes(height: int = 40, width: int = 48) -> NDArray[np.uint8]:
    """u8 [H, W, 3]: red grows to the right, green downwards, blue both ways."""
    y, x = np.mgrid[0:height, 0:width]
    channels = x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 255 // (width + height - 2)
    return np.stack(channels, axis=2).astype(np.uint8)


def noise(height: int = 40, width: int = 48) -> NDArray[np.uint8]:
    """u8 [H, W, 3]: every pixel another."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encoded(picture: NDArray[Any] | Image.Image, image_format: str, mode: str | None = None, **options: Any) -> bytes:
    """The file that Pillow makes of a picture, in one of its modes."""
    buffer = BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    (image.convert(mode) if mode else image).save(buffer, image_format, **options)
    return buffer.getvalue()


def encoded_by_opencv(picture: NDArray[Any], suffix: str) -> bytes:
    """The file that OpenCV makes of [H, W], RGB or RGBA of 8 or 16 bits."""
    order = [2, 1, 0, 3][: picture.shape[2]] if picture.ndim == 3 else ...
    return cv2.imencode(suffix, picture[..., order] if picture.ndim == 3 else picture)[1].tobytes()


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def png(values: NDArray[Any], *, depth: int, colour_type: int, chunks: Mapping[bytes, bytes] | None = None) -> bytes:
    """A PNG written by the book (PNG 1.2, sections 2 to 4), of depths that Pillow does not write.

    Args:
        values: integers [H, W] or [H, W, C], below 2 ** depth.
        colour_type: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.
        chunks: further ones, between header and pixels.
    """
    height, width = values.shape[:2]
    flat = values.reshape(height, -1)
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in flat]
    else:
        bits = np.unpackbits(flat[..., None].astype(np.uint8), axis=2)[..., 8 - depth :]
        rows = [np.packbits(row.reshape(-1)).tobytes() for row in bits]

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    between = b"".join(chunk(kind, content) for kind, content in (chunks or {}).items())
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + between + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@cache
def files_of_every_kind() -> dict[str, bytes]:
    """Whole files by the name of their kind, 48x40 px, from smooth pictures and from noise."""
    files: dict[str, bytes] = {}
    for name, picture in (("slopes", slopes()), ("noise", noise())):
        others = {"save_all": True, "append_images": [Image.fromarray(noise()), Image.new("RGB", (48, 40))]}
        strips = {"compression": "tiff_lzw", "tiffinfo": {278: 8}}  # rows per strip
        kinds: dict[str, tuple[str, str | None, dict[str, Any]]] = {
            "JPEG": ("JPEG", None, {}),
            "JPEG 4:4:4": ("JPEG", None, {"subsampling": 0}),
            "JPEG grey": ("JPEG", "L", {}),
            "JPEG CMYK": ("JPEG", "CMYK", {}),
            "JPEG progressive": ("JPEG", None, {"progressive": True}),
            "JPEG restart": ("JPEG", None, {"restart_marker_rows": 1}),
            "PNG": ("PNG", None, {}),
            "PNG alpha": ("PNG", "RGBA", {}),
            "PNG palette": ("PNG", "P", {}),
            "PNG 1 bit": ("PNG", "1", {}),
            "PNG animated": ("PNG", None, others),
            "WebP": ("WEBP", None, {}),
            "WebP lossless": ("WEBP", "RGBA", {"lossless": True}),
            "WebP animated": ("WEBP", None, others),
            "BMP": ("BMP", None, {}),
            "BMP palette": ("BMP", "P", {}),
            "BMP 1 bit": ("BMP", "1", {}),
            "TIFF": ("TIFF", None, {}),
            "TIFF alpha": ("TIFF", "RGBA", {}),
            "TIFF strips": ("TIFF", None, strips),
            "TIFF deflate": ("TIFF", None, {"compression": "tiff_adobe_deflate"}),
            "TIFF JPEG": ("TIFF", None, {"compression": "jpeg"}),
            "TIFF fax": ("TIFF", "1", {"compression": "group4"}),
            "TIFF pages": ("TIFF", None, others),
            "GIF": ("GIF", None, {}),
            "GIF animated": ("GIF", None, others),
        }
        for kind, (image_format, mode, options) in kinds.items():
            files[f"{kind} {name}"] = encoded(picture, image_format, mode, **options)
        files[f"TIFF of OpenCV {name}"] = encoded_by_opencv(picture, ".tif")
        files[f"PNG 16 bit {name}"] = encoded_by_opencv(picture.astype(np.uint16) * 257, ".png")
    return files
