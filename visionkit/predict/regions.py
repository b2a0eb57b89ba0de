"""The connected regions of a semantic map as COCO segmentations."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.formats.outlines import bitmap_rings
from visionkit.predict.masks import window_rle


class Region(NamedTuple):
    """Pixels of one class that touch one another at their sides.

    Args:
        segmentation: one polygon along the borders of its pixels, which COCO's rasteriser turns into exactly these; or,
            where it has holes, an RLE.
        bbox: x, y, width, height in pixels.
        area: pixels.
    """

    segmentation: list[list[int]] | dict[str, Any]
    bbox: tuple[int, int, int, int]
    area: int


def regions(mask: NDArray[np.bool_]) -> list[Region]:
    """The regions of a mask [H, W], the largest first."""
    height, width = mask.shape
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    rings: list[list[NDArray[np.int64]]] = [[] for _ in range(count)]
    for ring in bitmap_rings(mask):
        rings[_region_of(ring, np.asarray(numbers))].append(ring)
    found = []
    for number in range(1, count):
        left, top, wide, high, area = stats[number].tolist()
        segmentation: list[list[int]] | dict[str, Any]
        if len(rings[number]) == 1:
            segmentation = [rings[number][0].ravel().tolist()]
        else:
            window = numbers[top : top + high, left : left + wide] == number
            segmentation = window_rle(window, left, top, height, width)
        found.append(Region(segmentation, (left, top, wide, high), area))
    return sorted(found, key=lambda region: -region.area)


def _region_of(ring: NDArray[np.int64], numbers: NDArray[Any]) -> int:
    """The number of the region that a ring belongs to: that of the pixel on the right of its first edge."""
    (x1, y1), (x2, y2) = ring[:2].tolist()
    # To the right of what goes right lies the pixel below, of what goes down the one to the left, and so on.
    x, y = min(x1, x2) - (y2 > y1), min(y1, y2) - (x2 < x1)
    return int(numbers[y, x])
