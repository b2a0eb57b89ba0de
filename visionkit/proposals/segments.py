"""Small segments of alike pixels, where grouping begins: by scikit-image, an extra that is imported only here."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import UsageError


def segment(channels: NDArray[np.uint8], scale: int) -> NDArray[np.int64]:
    """The segment of each pixel, i64 [H, W], numbered from 0 without a gap.

    Source: Felzenszwalb and Huttenlocher 2004, Efficient Graph-Based Image Segmentation, sections 3 and 4; the image is
    smoothed by a Gaussian of 0.8 pixels first, as there.

    Args:
        channels: u8 [H, W, C] in any colour space.
        scale: k of the paper, for values 0..255; segments are larger where it is. One of fewer than k pixels is joined
            to its neighbour.

    Raises:
        UsageError: scikit-image is not installed.
    """
    if (channels == channels[0, 0]).all():
        return np.zeros(channels.shape[:2], np.int64)
    found = scikit_image().felzenszwalb(channels, scale=scale, sigma=0.8, min_size=scale, channel_axis=-1)
    return np.asarray(found, np.int64)


def scikit_image() -> ModuleType:
    """The part of scikit-image that finds segments.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module("skimage.segmentation")
    except ImportError:
        raise UsageError(
            "selective search needs the package scikit-image, which is not installed; "
            "install it by: pip install 'visionkit[rcnn]'"
        ) from None
