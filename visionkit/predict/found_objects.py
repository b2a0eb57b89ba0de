"""What was found as objects for annotation tools, whose files people correct by hand: boxes, polygons of few points,
and masks where there are holes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.formats.object_shapes import Segmentation, cutout
from visionkit.formats.outlines import bitmap_rings
from visionkit.predict.regions import regions
from visionkit.predict.writers import shortest
from visionkit.result import Result, Rle

# How far a polygon may be from the border of the pixels, as a share of the side of a square of its area, and at most,
# in pixels. Below 23 px it is less than the half diagonal of a pixel, and all steps stay. Ellipses of 16 to 400 px have
# an IoU of 0.985 or more with their pixels, and 18 to 40 points instead of 72 to 816; with 1 px at most 23 to 102.
_STRAIGHTENED = 1 / 32
_FARTHEST = 1.25


class FoundObject(NamedTuple):
    """An object, in pixels of its image.

    Args:
        label: of its class.
        score: in [0, 1]; None of a region of a semantic map, which does not say how sure it is.
        corners: x1 y1 x2 y2 of its box.
        segmentation: polygons, one for each of its parts; an RLE where it has holes, which polygons cannot say; None
            where it has a box alone.
    """

    label: int
    score: float | None
    corners: tuple[float, float, float, float]
    segmentation: Segmentation | None


def found_objects(result: Result) -> Iterator[FoundObject]:
    """The detections of a result, best first; of a semantic map its regions, those of the largest class first.

    Numbers give back the same 32-bit floats.
    """
    if result.semantic is not None:
        for label in result.labels.tolist():
            for region in regions(result.semantic == label):
                left, top, width, height = region.bbox
                outline = region.segmentation
                drawn: Segmentation = (
                    outline
                    if isinstance(outline, dict)
                    else [_straightened(np.array(outline[0], np.int64).reshape(-1, 2))]
                )
                yield FoundObject(label, None, (left, top, left + width, top + height), drawn)
        return
    masks = [None] * len(result) if result.masks is None else result.masks
    for box, score, label, mask in zip(result.boxes, result.scores, result.labels.tolist(), masks, strict=True):
        x1, y1, x2, y2 = (shortest(corner) for corner in box)
        yield FoundObject(label, shortest(score), (x1, y1, x2, y2), None if mask is None else _outlined(mask))


def _outlined(mask: Rle) -> Segmentation | None:
    """A mask as polygons; itself where it has a hole, and None where it has no pixel."""
    found = cutout(mask)
    if found is None:
        return None
    pixels, (left, top, _, _) = found
    corner = np.array([left, top], np.int64)
    rings = bitmap_rings(pixels)
    if any(_area(ring) < 0 for ring in rings):
        return mask
    return [_straightened(ring + corner) for ring in rings]


def _straightened(ring: NDArray[np.int64]) -> list[float]:
    """A ring [N, 2] of pixel corners as a polygon `[x0, y0, x1, y1, ...]` of fewer of them (Douglas and Peucker 1973,
    "Algorithms for the reduction of the number of points")."""
    tolerance = min(_FARTHEST, _STRAIGHTENED * math.sqrt(abs(_area(ring))))
    fewer = cv2.approxPolyDP(ring.astype(np.int32)[:, None], tolerance, closed=True)[:, 0]
    kept = fewer if len(fewer) >= 3 else ring
    points: list[float] = kept.ravel().astype(float).tolist()
    return points


def _area(ring: NDArray[np.int64]) -> float:
    """Pixels inside a ring [N, 2], by the shoelace formula; below 0 inside a ring that goes around a hole."""
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
