"""Boxes and polygons of COCO files as a doctor looks at them: x y w h in pixels, or what was written in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

Box = tuple[float, float, float, float]
Segmentation = list[list[float]] | dict[str, Any]


def overlap(a: Box, b: Box) -> float:
    """IoU of two boxes x y w h.

    >>> overlap((0, 0, 10, 10), (5, 0, 10, 10))  # 50 of 150
    0.3333333333333333
    """
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def inside(box: Box, width: float, height: float, slack: float = 1.0) -> bool:
    """Whether a box of positive sides lies in an image, but for `slack` px."""
    x, y, w, h = box
    return w > 0 and h > 0 and min(x, y) >= -slack and x + w <= width + slack and y + h <= height + slack


def clipped(box: Box, width: float, height: float) -> Box:
    """The part of a box in its image; sides of 0 where there is none."""
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = min(box[0] + box[2], float(width)), min(box[1] + box[3], float(height))
    return x1, y1, max(x2 - x1, 0.0), max(y2 - y1, 0.0)


def corners_read(box: Box) -> Box:
    """Four numbers that were meant as x1 y1 x2 y2."""
    return box[0], box[1], box[2] - box[0], box[3] - box[1]


def shares_read(box: Box, width: int, height: int) -> tuple[Box, Box]:
    """Four numbers that were meant as shares of the image: of x y w h, and of the centre, w, h."""
    x, y, w, h = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    return (x, y, w, h), (x - w / 2, y - h / 2, w, h)


def mask_box(segmentation: Segmentation | None, width: int, height: int) -> Box | None:
    """The box round a checked segmentation; None without one, or of nothing.

    Of polygons it is exact, not that of the pixels they cover.
    """
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        rle: Any = segmentation
        if isinstance(segmentation["counts"], list):
            rle = coco_mask.frPyObjects(segmentation, *segmentation["size"])
        x, y, w, h = (float(value) for value in coco_mask.toBbox(rle))
    else:
        points = np.concatenate([np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in segmentation])
        (x, y), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
        w, h = x2 - x, y2 - y
    if width and height:
        x, y, w, h = clipped((x, y, w, h), width, height)
    return (x, y, w, h) if w > 0 and h > 0 else None


def crosses_itself(polygon: Sequence[float]) -> bool:
    """Whether two sides of a polygon that are no neighbours cut each other; touching is no cut.

    >>> crosses_itself([0, 0, 10, 10, 10, 0, 0, 10]), crosses_itself([0, 0, 10, 0, 10, 10, 0, 10])
    (True, False)
    """
    points = np.asarray(polygon, np.float64).reshape(-1, 2)
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    if not 4 <= len(points) <= MOST_SIDES:
        return False
    start, end = points, np.roll(points, -1, axis=0)
    # Of each side: on which side of it the ends of every other one lie.
    of_start = _turn(start[:, None], end[:, None], start[None])
    of_end = _turn(start[:, None], end[:, None], end[None])
    parted = of_start * of_end < 0
    return bool((parted & parted.T).any())


MOST_SIDES = 2000
"""Longer polygons are not looked through for crossings: every pair of sides is compared, all at once."""


def _turn(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where a, b, c turn one way, -1 the other way, 0 on a line."""
    area: NDArray[np.float64] = (b - a)[..., 0] * (c - a)[..., 1] - (b - a)[..., 1] * (c - a)[..., 0]
    return np.sign(area)


def upright_points(points: NDArray[np.float64], orientation: int, width: int, height: int) -> NDArray[np.float64]:
    """Points [N, 2] of a picture of `width` x `height` as stored -> of the upright one (TIFF 6.0, Orientation).

    >>> upright_points(np.array([[0.0, 0.0], [30.0, 10.0]]), 6, 30, 20).tolist()  # a quarter turn clockwise
    [[20.0, 0.0], [10.0, 30.0]]
    """
    x, y = points.T
    turned = {
        1: (x, y),
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (height - y, x),
        7: (height - y, width - x),
        8: (y, width - x),
    }[orientation]
    return np.stack(turned, axis=1)


def upright_box(box: Box, orientation: int, width: int, height: int) -> Box:
    """A box of the picture as stored -> of the upright one."""
    corners = np.array([box[:2], (box[0] + box[2], box[1] + box[3])])
    points = upright_points(corners, orientation, width, height)
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    return x1, y1, x2 - x1, y2 - y1
