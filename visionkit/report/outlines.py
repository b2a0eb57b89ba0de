"""Masks as SVG paths, coarse enough to be many."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

FINEST = 160
"""Masks are looked at with at most so many cells a side."""
FEW_POINTS = 24
"""Polygons of no more are taken as they are."""


def mask_path(segmentation: Any, width: int, height: int) -> str:
    """The outline of a COCO segmentation in pixels of its image, as the `d` of an SVG path; empty for none."""
    if not segmentation or not width or not height:
        return ""
    if isinstance(segmentation, list):
        polygons = (np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in segmentation)
        return "".join(_closed(_coarse(polygon, max(width, height) / FINEST / 2)) for polygon in polygons)
    rle = segmentation
    if isinstance(rle["counts"], list):
        rle = coco_mask.frPyObjects(rle, height, width)
    mask = np.ascontiguousarray(coco_mask.decode(rle))
    step = max(1.0, max(width, height) / FINEST)
    cells = (max(1, round(width / step)), max(1, round(height / step)))
    small = cv2.resize(mask, cells, interpolation=cv2.INTER_AREA) if step > 1 else mask
    contours, _ = cv2.findContours((small > 0).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_L1)
    scale = np.array([width / cells[0], height / cells[1]])
    # A contour runs through the middle of its pixels.
    return "".join(_closed((contour.reshape(-1, 2) + 0.5) * scale) for contour in contours if len(contour) > 2)


def _coarse(points: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    """Fewer points [N, 2], off the line by at most so many pixels."""
    if len(points) <= FEW_POINTS:
        return points
    fewer = cv2.approxPolyDP(points.astype(np.float32)[:, None], by, closed=True)[:, 0].astype(np.float64)
    return fewer if len(fewer) > 2 else points


def _closed(points: Any) -> str:
    return "M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in points.tolist()) + "Z"
