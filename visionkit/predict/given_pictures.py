"""Pictures that a program hands over: NumPy arrays and Pillow's images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from visionkit.errors import DataError, UsageError
from visionkit.imaging.header import MAX_PIXELS

# By the rules of `imaging.reader`: others have no white.
_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})


def pixels_of_array(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """An array as it is, or a copy where its values lie apart in memory.

    Raises:
        UsageError: not u8 [H, W, 3], without a pixel, or of more than MAX_PIXELS.
    """
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UsageError(
            f"an array is {array.dtype} {list(array.shape)}, a picture must be uint8 [height, width, 3] in RGB; "
            "convert it"
        )
    _check_size(array.shape[1], array.shape[0])
    return np.ascontiguousarray(array, dtype=np.uint8)


def pixels_of_pillow(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """The picture of an image of Pillow's by the rules of `imaging.reader`: u8 [H, W, 3], RGB, upright by its EXIF.

    Args:
        name: what errors call it; the kind of image where empty.

    Raises:
        DataError: it cannot be decoded.
        UsageError: a mode without colours or greys, such as F, without a pixel, or of more than MAX_PIXELS.
    """
    _check_size(*image.size)
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
    except Exception as error:  # damaged data makes Pillow raise almost anything
        words = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name or 'an image of Pillow'} cannot be decoded ({words}); export it again") from error
    if upright.mode.startswith("I;16"):
        upper = (np.asarray(upright) >> 8).astype(np.uint8)
        return np.repeat(upper[..., None], 3, axis=2)
    if upright.mode not in _MODES:
        raise UsageError(
            f"{name or 'an image of Pillow'} is of mode {upright.mode}, a picture is grey, palette, RGB or CMYK; "
            "convert it"
        )
    return np.array(upright.convert("RGB"))


def _check_size(width: int, height: int) -> None:
    if not 0 < width * height <= MAX_PIXELS:
        raise UsageError(
            f"a picture is {width}x{height} pixels, 1 to {MAX_PIXELS // 1_000_000} million are read; scale it down"
        )
