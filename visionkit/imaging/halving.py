"""Images brought down quickly and without aliasing: in blocks first, the rest by linear interpolation."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def whole_factor(scale: float, width: int, height: int) -> int:
    """The largest power of two by which an image can be brought down and is no smaller than `scale` asks for.

    What remains to be scaled is less than a factor of 2, which linear interpolation does without much aliasing.
    """
    factor = 1
    while 2 * factor * scale <= 1 and 2 * factor <= min(width, height):
        factor *= 2
    return factor


def halve(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average blocks of `factor` x `factor` pixels, a power of two; right and bottom pixels that fill no block are left
    out, so a coordinate is exactly `factor` times smaller afterwards.

    Blocks of two, once and again: for those OpenCV has vector code. Blocks of three or four in one step take five times
    as long, averaging by fractions of a pixel (INTER_AREA's general case) twenty times.
    """
    while factor > 1:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        whole = image[: 2 * height, : 2 * width]
        image = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        factor //= 2
    return image
