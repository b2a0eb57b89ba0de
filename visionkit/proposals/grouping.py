"""Hierarchical grouping: the two neighbours that are most alike become one, until a single region is left.

Source: Uijlings et al. 2013, Selective Search for Object Recognition, sections 3.1 (algorithm 1) and 3.2.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from visionkit.proposals.histograms import COLOUR_BINS, TEXTURE_BINS, region_histograms

Measure = Literal["colour", "texture", "size", "fill"]


@dataclass(frozen=True, slots=True)
class Regions:
    """The n regions that an image falls into.

    Args:
        sizes: f64 [n], pixels.
        boxes: f64 [n, 4] x1 y1 x2 y2.
        colours, textures: f64 [n, ...], histograms that sum to 1.
        neighbours: i64 [P, 2], each pair of regions that share a border, once, the lower first.
        pixels: of the whole image.
    """

    sizes: NDArray[np.float64]
    boxes: NDArray[np.float64]
    colours: NDArray[np.float64]
    textures: NDArray[np.float64]
    neighbours: NDArray[np.int64]
    pixels: int

    @classmethod
    def of(cls, segments: NDArray[np.int64], colours: NDArray[np.uint8], textures: NDArray[np.uint8]) -> Regions:
        """Of segments [H, W], numbered without a gap, and the bins that `histograms` gives the pixels."""
        sizes = np.bincount(segments.ravel())
        count = len(sizes)
        return cls(
            sizes.astype(np.float64),
            _boxes(segments, count),
            region_histograms(segments, count, colours, COLOUR_BINS),
            region_histograms(segments, count, textures, TEXTURE_BINS),
            _neighbours(segments, count),
            segments.size,
        )


def _boxes(segments: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    rows, columns = np.indices(segments.shape)
    boxes = np.empty((count, 4))
    boxes[:, :2], boxes[:, 2:] = np.inf, 0
    label = segments.ravel()
    for axis, at in ((0, columns.ravel()), (1, rows.ravel())):
        np.minimum.at(boxes[:, axis], label, at)
        np.maximum.at(boxes[:, axis + 2], label, at + 1)
    return boxes


def _neighbours(segments: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    beside = (segments[:, :-1].ravel(), segments[:, 1:].ravel())
    below = (segments[:-1].ravel(), segments[1:].ravel())
    one, other = (np.concatenate(pair) for pair in zip(beside, below, strict=True))
    differ = one != other
    one, other = one[differ], other[differ]
    pairs = np.unique(np.minimum(one, other) * count + np.maximum(one, other))
    return np.stack(np.divmod(pairs, count), axis=1)


def group(regions: Regions, measures: Collection[Measure]) -> NDArray[np.float64]:
    """Group regions until one is left.

    How alike two of them are is the sum of the measures, each in 0..1: `colour` and `texture`, what their histograms
    share; `size`, how little of the image they fill; `fill`, how much of their common box. Of equally alike pairs the
    one with the earlier region goes first.

    Returns:
        f64 [2 n - 1, 4], the boxes of the n regions and then of the unions as they come to be; the last holds all.
    """
    count = len(regions.sizes)
    total = 2 * count - 1
    chosen = [regions.colours] * ("colour" in measures) + [regions.textures] * ("texture" in measures)
    own = np.concatenate(chosen, axis=1) if chosen else np.zeros((count, 0))
    sizes, boxes, histograms = np.empty(total), np.empty((total, 4)), np.empty((total, own.shape[1]))
    sizes[:count], boxes[:count], histograms[:count] = regions.sizes, regions.boxes, own

    def alike(a: Any, b: NDArray[np.int64]) -> NDArray[np.float64]:
        """How alike the regions a and b [M] are, [M]."""
        together = sizes[a] + sizes[b]
        found: NDArray[np.float64] = np.minimum(histograms[a], histograms[b]).sum(axis=1)
        if "size" in measures:
            found += 1 - together / regions.pixels
        if "fill" in measures:
            hull = np.maximum(boxes[a, ..., 2:], boxes[b, 2:]) - np.minimum(boxes[a, ..., :2], boxes[b, :2])
            found += 1 - (hull.prod(axis=1) - together) / regions.pixels
        return found

    near: list[set[int]] = [set() for _ in range(count)]
    pairs = regions.neighbours.tolist()
    for a, b in pairs:
        near[a].add(b)
        near[b].add(a)
    first = (-alike(regions.neighbours[:, 0], regions.neighbours[:, 1])).tolist()
    queue = [(value, a, b) for value, (a, b) in zip(first, pairs, strict=True)]
    heapify(queue)
    there = [True] * count
    while queue:
        _, a, b = heappop(queue)
        if not (there[a] and there[b]):
            continue
        new = len(there)
        there[a] = there[b] = False
        there.append(True)
        sizes[new] = sizes[a] + sizes[b]
        boxes[new, :2] = np.minimum(boxes[a, :2], boxes[b, :2])
        boxes[new, 2:] = np.maximum(boxes[a, 2:], boxes[b, 2:])
        histograms[new] = (sizes[a] * histograms[a] + sizes[b] * histograms[b]) / sizes[new]
        around = sorted((near[a] | near[b]) - {a, b})
        near.append(set(around))
        for other in around:
            near[other].difference_update((a, b))
            near[other].add(new)
        if around:
            values = (-alike(new, np.array(around))).tolist()
            for value, other in zip(values, around, strict=True):
                heappush(queue, (value, other, new))
    assert len(there) == total, "an image holds together"
    return boxes
