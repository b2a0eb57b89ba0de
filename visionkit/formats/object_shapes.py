"""Polygons and masks of single objects, as annotation tools write them <-> COCO segmentations and their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from visionkit.formats.boxes import Box
from visionkit.formats.outlines import bitmap_rings

Polygons = list[list[float]]
Segmentation = Polygons | dict[str, Any]
"""COCO polygons, or an RLE."""


def polygon_box(polygons: Sequence[Sequence[float]]) -> Box:
    """The smallest box around polygons `[[x0, y0, x1, y1, ...], ...]`.

    >>> polygon_box([[1, 2, 4, 2, 4, 8], [0, 5, 2, 5, 2, 6]])
    (0.0, 2.0, 4.0, 6.0)
    """
    xs = [x for polygon in polygons for x in polygon[0::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    left, top = min(xs), min(ys)
    return float(left), float(top), float(max(xs) - left), float(max(ys) - top)


def decoded(rle: dict[str, Any]) -> NDArray[np.bool_]:
    """The mask [H, W] of a checked RLE, compressed or not."""
    packed: Any = rle
    if isinstance(rle["counts"], list):
        packed = coco_mask.frPyObjects(dict(rle), *rle["size"])
    return np.asarray(coco_mask.decode(packed)).astype(np.bool_)


def encoded(window: NDArray[np.bool_], left: int, top: int, width: int, height: int) -> dict[str, Any]:
    """The compressed RLE of a `height` x `width` image that is background but for a window [h, w] in it, at `left`,
    `top`."""
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[top : top + window.shape[0], left : left + window.shape[1]] = window
    rle = coco_mask.encode(mask)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def mask_window(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """left, top, width, height in pixels of what a mask [H, W] has; None if it has nothing.

    >>> mask_window(np.array([[0, 0, 0], [0, 1, 1]], bool))
    (1, 1, 2, 1)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


def cutout(rle: dict[str, Any]) -> tuple[NDArray[np.bool_], Box] | None:
    """What a mask has, in the smallest window [h, w] around it, and that window as a box; None if it has nothing."""
    mask = decoded(rle)
    window = mask_window(mask)
    if window is None:
        return None
    left, top, width, height = window
    return mask[top : top + height, left : left + width], (float(left), float(top), float(width), float(height))


def single_polygon(segmentation: Segmentation) -> list[float] | None:
    """The one polygon that says the same as a segmentation; None where it takes several.

    That of an RLE goes along the borders of its pixels; COCO's rasteriser turns it into exactly these.
    """
    if isinstance(segmentation, dict):
        rings = bitmap_rings(decoded(segmentation))
        return rings[0].ravel().astype(float).tolist() if len(rings) == 1 else None
    return segmentation[0] if len(segmentation) == 1 else None


def as_rle(segmentation: Segmentation, width: int, height: int) -> dict[str, Any]:
    """The compressed RLE of a checked COCO segmentation of an image of this size, its polygons together."""
    if isinstance(segmentation, dict):
        if not isinstance(segmentation["counts"], list):
            return segmentation
        rle = coco_mask.frPyObjects(dict(segmentation), height, width)
    else:
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}
