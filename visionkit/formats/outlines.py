"""The outlines of objects: masks as augmentation moves them, exactly and for next to nothing.

An outline is a set of directed edges. A point is inside where they go round it, so parts that overlap are one mask and
a hole goes the other way round (the non-zero rule); mirroring turns all directions round and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

Integers = NDArray[np.int64]
Edges = NDArray[np.float32]
"""[E, 4]: from x1 y1 to x2 y2 in pixels, pixel i covering [i, i + 1)."""


@dataclass(frozen=True, slots=True)
class Outlines:
    """The outlines of G objects, all edges in one array.

    Args:
        edges: f32 [E, 4].
        owner: i64 [E], the object of each; an object without edges has no mask that is known.
        objects: G.
    """

    edges: Edges
    owner: NDArray[np.int64]
    objects: int

    @classmethod
    def of(cls, edges: Sequence[Edges]) -> Outlines:
        """The edges of each object."""
        owner = np.repeat(np.arange(len(edges)), [len(own) for own in edges])
        return cls(np.concatenate([np.empty((0, 4), np.float32), *edges]), owner, len(edges))

    @classmethod
    def joined(cls, parts: Sequence[Outlines]) -> Outlines:
        """The objects of all parts, one after another; at least one part."""
        starts = np.cumsum([0, *(part.objects for part in parts)])
        owners = [part.owner + start for part, start in zip(parts, starts, strict=False)]
        return cls(np.concatenate([part.edges for part in parts]), np.concatenate(owners), int(starts[-1]))

    def take(self, keep: NDArray[Any]) -> Outlines:
        """The objects that `keep` selects: bool [G], or indices."""
        kept = np.flatnonzero(keep) if keep.dtype == np.bool_ else keep
        place = np.full(self.objects, -1, np.int64)
        place[kept] = np.arange(len(kept))
        owner = place[self.owner]
        return Outlines(self.edges[owner >= 0], owner[owner >= 0], len(kept))

    def moved(self, linear: NDArray[Any], offset: NDArray[Any]) -> Outlines:
        """Every point p at `linear @ p + offset`.

        Args:
            linear: [2, 2], or [2], a factor for each axis.
            offset: [2].
        """
        points = self.edges.reshape(-1, 2)
        moved = (points * linear if linear.ndim == 1 else points @ linear.T) + offset
        return Outlines(moved.astype(np.float32).reshape(-1, 4), self.owner, self.objects)

    def transposed(self) -> Outlines:
        """With x and y swapped."""
        return Outlines(self.edges[:, [1, 0, 3, 2]], self.owner, self.objects)

    def box_masks(self, boxes: NDArray[np.float32], cells: int) -> NDArray[np.uint8]:
        """What of each object's mask lies in its box [G, 4]: u8 [G, cells, cells], 1 where the centre of a cell is
        inside, the cells dividing the box evenly. All 0 where no mask is known or the box is empty.
        """
        # Pixels -> cells. A box without an area gets edges without a length.
        sides = boxes[:, 2:] - boxes[:, :2]
        scale = np.divide(cells, sides, out=np.zeros_like(sides), where=sides > 0)
        corner, factor = np.tile(boxes[:, :2], 2)[self.owner], np.tile(scale, 2)[self.owner]
        x1, y1, x2, y2 = ((self.edges - corner) * factor).T.astype(np.float64)

        # Every crossing of an edge with the centre line of a row of cells.
        first, stop = (
            np.ceil(np.clip(end(y1, y2), 0, cells) - 0.5).astype(np.int64) for end in (np.minimum, np.maximum)
        )
        rows = stop - first
        edge = np.repeat(np.arange(len(rows)), rows)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows) + first[edge]
        slope = (x2 - x1)[edge] / (y2 - y1)[edge]
        x = x1[edge] + (row + 0.5 - y1[edge]) * slope
        column = np.ceil(np.clip(x, 0, cells) - 0.5).astype(np.int64)

        # To the right of a crossing the edge has been passed once more, downwards or upwards.
        place = (self.owner[edge] * cells + row) * (cells + 1) + column
        passed = np.bincount(place, np.sign(y2 - y1)[edge], self.objects * cells * (cells + 1))
        turns = passed.reshape(self.objects, cells, cells + 1).cumsum(2)[:, :, :-1]
        masks: NDArray[np.uint8] = (np.abs(turns) > 0.5).astype(np.uint8)
        return masks


def segmentation_edges(segmentation: list[list[float]] | dict[str, Any] | None, width: int, height: int) -> Edges:
    """The outline of a checked COCO segmentation of an image of this size; none for None.

    Polygons stay as exact as they are; an RLE gets the outline of its pixels.
    """
    if segmentation is None:
        return np.empty((0, 4), np.float32)
    if isinstance(segmentation, dict):
        rle: Any = segmentation
        if isinstance(segmentation["counts"], list):
            rle = coco_mask.frPyObjects(segmentation, height, width)
        return bitmap_edges(coco_mask.decode(rle).astype(np.bool_))
    return np.concatenate([_polygon_edges(np.array(polygon, np.float32).reshape(-1, 2)) for polygon in segmentation])


def _polygon_edges(points: NDArray[np.float32]) -> Edges:
    """[N, 2] -> [N, 4], clockwise to the eye whichever way round the polygon is written."""
    x, y = (points - points[0]).astype(np.float64).T
    if np.dot(x, np.roll(y, -1)) < np.dot(y, np.roll(x, -1)):
        points = points[::-1]
    return np.concatenate((points, np.roll(points, -1, axis=0)), axis=1)


def bitmap_edges(mask: NDArray[np.bool_]) -> Edges:
    """The border of the pixels of a mask [H, W], the mask on the right of it."""
    inside = np.pad(mask, 1).astype(np.int8)
    x1, x2, y, top = _runs(np.diff(inside[:, 1:-1], axis=0))
    y1, y2, x, left = _runs(np.diff(inside[1:-1], axis=1).T)
    across = np.stack((np.where(top, x1, x2), y, np.where(top, x2, x1), y), axis=1)
    down = np.stack((x, np.where(left, y2, y1), x, np.where(left, y1, y2)), axis=1)
    return np.concatenate((across, down)).astype(np.float32)


def bitmap_rings(mask: NDArray[np.bool_]) -> list[Integers]:
    """The closed outlines of a mask [H, W], corner by corner, each [N, 2] x y with the mask on its right: a ring around
    every region of pixels that touch one another at their sides, and a ring around every hole of one.

    Two pixels that touch at a corner alone are not of one region for that: both outlines turn right there. With the
    non-zero rule, and with COCO's rasteriser, a ring gives back exactly its pixels.

    >>> [ring.tolist() for ring in bitmap_rings(np.array([[True, True], [True, False]]))]
    [[[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]]]
    """
    x1, y1, x2, y2 = bitmap_edges(mask).astype(np.int64).T
    # 0 to the right, 1 down, 2 to the left, 3 up: a turn to the right is one more.
    heading = np.where(y1 == y2, np.where(x2 > x1, 0, 2), np.where(y2 > y1, 1, 3))
    width = mask.shape[1] + 1
    starts = 4 * (y1 * width + x1) + heading
    order = np.argsort(starts)

    def edge_from_end(turn: int) -> tuple[Integers, NDArray[np.bool_]]:
        """Of each edge the one that goes on from its end after a turn, and whether there is one."""
        wanted = 4 * (y2 * width + x2) + (heading + turn) % 4
        place = np.minimum(np.searchsorted(starts[order], wanted), len(order) - 1)
        return order[place], starts[order][place] == wanted

    if not len(order):
        return []
    right, turns_right = edge_from_end(1)
    following = np.where(turns_right, right, edge_from_end(3)[0]).tolist()
    rings, passed = [], bytearray(len(following))
    for first in range(len(following)):
        ring, edge = [], first
        while not passed[edge]:
            passed[edge] = 1
            ring.append(edge)
            edge = following[edge]
        if ring:
            rings.append(np.column_stack((x1[ring], y1[ring])))
    return rings


def _runs(
    values: NDArray[np.int8],
) -> tuple[Integers, Integers, Integers, NDArray[np.bool_]]:
    """Runs of 1 and of -1 in the rows of a table: start, stop, row, and whether of 1."""
    row, column = np.nonzero(np.diff(values, axis=1, prepend=0, append=0))
    # A change out of 0 or into it bounds one run, a change from 1 to -1 two; what begins in a run of 0 is none.
    value = np.pad(values, ((0, 0), (0, 1)))[row, column]
    begins = np.flatnonzero(value)
    return column[begins], column[begins + 1], row[begins], value[begins] > 0
