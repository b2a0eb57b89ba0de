"""An image in the colour spaces of selective search, each of which sees other borders between things.

Source: Uijlings et al. 2013, Selective Search for Object Recognition, section 3.2, table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
ColourSpace = Literal["hsv", "lab", "rgi", "hue", "intensity"]


def _hsv(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), np.uint8)


def _lab(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), np.uint8)


def _intensity(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)[..., None]


def _rgi(image: Image) -> Image:
    """The shares of red and green, which shadows leave alone, and intensity."""
    total = image.sum(axis=2, keepdims=True, dtype=np.int32)
    shares = image[..., :2].astype(np.int32) * 255 // np.maximum(total, 1)
    return np.concatenate((shares.astype(np.uint8), _intensity(image)), axis=2)


COLOUR_SPACES: Mapping[ColourSpace, Callable[[Image], Image]] = {
    "hsv": _hsv,
    "lab": _lab,
    "rgi": _rgi,
    "hue": lambda image: _hsv(image)[..., :1],
    "intensity": _intensity,
}
"""Each takes u8 [H, W, 3] RGB and gives u8 [H, W, C], its channels over 0..255."""
