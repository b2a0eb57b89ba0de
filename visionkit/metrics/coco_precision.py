"""COCO's precision and recall of every class, at its 10 IoU thresholds, 4 ranges of areas and 3 limits of detections.

K classes, T IoU thresholds, R recalls, A ranges of areas, M limits; sources as in `visionkit.metrics.coco_map`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionkit.metrics.coco_columns import Found, Integers, Objects
from visionkit.metrics.coco_matching import (
    HIGHEST_THRESHOLD,
    Bits,
    greedy_matches,
    matched_settings,
    overlapping_pairs,
    position_in_run,
)

Floats = NDArray[np.float64]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # [T]
RECALLS = np.linspace(0, 1, 101)  # [R]
# All, small, medium and large, in pixels; an area at a bound belongs to both ranges.
AREAS = np.array([(0, 1e5**2), (0, 32**2), (32**2, 96**2), (96**2, 1e5**2)])  # [A, 2]
MOST_DETECTIONS = (1, 10, 100)  # [M], of one class in one image

UNDEFINED = -1.0


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """`UNDEFINED` where a class has no object in a range of areas.

    Args:
        precision: f64 [T, R, K, A], the best precision at this recall or a higher one, with at most 100 detections.
        recall: f64 [T, K, A, M], the share of objects found.
    """

    precision: Floats
    recall: Floats


@dataclass(frozen=True, slots=True)
class Judged:
    """The best 100 detections of each group, right or wrong at every setting.

    Args:
        found: N detections.
        rank: i64 [N], the position of each in its group.
        hits, misses: u64 [N], the settings in which each is right, and in which it is wrong; in the others it is
            ignored.
    """

    found: Found
    rank: Integers
    hits: Bits
    misses: Bits

    def of_classes(self, classes: int) -> list[Integers]:
        """The detections of each class by falling score; equal scores by image id, in an image by the order given."""
        order = np.lexsort((-self.found.score, self.found.label))  # a stable sort
        return np.split(order, np.searchsorted(self.found.label[order], np.arange(1, classes)))

    def over_all_areas(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Hits and misses, bool [T, N] each, among objects of all areas."""
        at_threshold = np.uint64(1) << np.arange(len(IOU_THRESHOLDS), dtype=np.uint64)[:, None]
        return (self.hits & at_threshold) != 0, (self.misses & at_threshold) != 0


def judge(objects: Objects, found: Found) -> Judged:
    """Detections matched to objects, at every setting."""
    rank = position_in_run(found.group)
    found, rank = found.take(np.flatnonzero(rank < MOST_DETECTIONS[-1])), rank[rank < MOST_DETECTIONS[-1]]
    return Judged(found, rank, *_hits_and_misses(objects, found))


def precision_and_recall(objects: Objects, judged: Judged, classes: int) -> PrecisionRecall:
    """The precision and recall of detections, of the classes with labels 0 ... `classes` - 1."""
    hits, misses, rank = judged.hits, judged.misses, judged.rank
    counts = _objects_that_count(objects, classes)
    precision = np.full((len(IOU_THRESHOLDS), len(RECALLS), classes, len(AREAS)), UNDEFINED)
    recall = np.full((len(IOU_THRESHOLDS), classes, len(AREAS), len(MOST_DETECTIONS)), UNDEFINED)
    for label, ranked in enumerate(judged.of_classes(classes)):
        is_hit, is_miss = _settings_apart(hits[ranked]), _settings_apart(misses[ranked])  # [A, T, detections]
        for a in np.flatnonzero(counts[label]):
            for m, most in enumerate(MOST_DETECTIONS):
                found_objects = np.count_nonzero(is_hit[a] & (rank[ranked] < most), axis=1)
                recall[:, label, a, m] = found_objects / counts[label, a]
            for t in range(len(IOU_THRESHOLDS)):
                precision[t, :, label, a] = precision_at_recalls(is_hit[a, t], is_miss[a, t], counts[label, a])
    return PrecisionRecall(precision, recall)


def precision_at_recalls(is_hit: NDArray[np.bool_], is_miss: NDArray[np.bool_], objects: int) -> Floats:
    """f64 [R], the best precision at each of `RECALLS` or beyond, 0 where it is not reached.

    Args:
        is_hit, is_miss: bool [N], by falling score; what is neither is ignored.
        objects: to be found; at least 1.
    """
    at_hit = np.flatnonzero(is_hit)
    hits = np.arange(1, len(at_hit) + 1)
    misses = np.cumsum(is_miss)[at_hit]
    # Between hits precision falls and recall stays, so the best is at a hit. The last term is pycocotools', which
    # divides where there is neither hit nor miss; it puts a perfect precision 2e-16 below 1.
    precision = hits / (misses + hits + np.spacing(1))
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(hits / objects, RECALLS)
    return np.append(best_from_here, np.zeros(1))[reached]


# Settings: threshold t and range a are bit a * T + t.


def _in_ranges(is_in: NDArray[np.bool_]) -> Bits:
    """[n, A] -> [n], the settings of these ranges at every threshold."""
    thresholds = len(IOU_THRESHOLDS)
    of_range = [((1 << thresholds) - 1) << (a * thresholds) for a in range(len(AREAS))]
    settings: Bits = is_in.astype(np.uint64) @ np.array(of_range, np.uint64)
    return settings


def _reaching(iou: Floats) -> Bits:
    """[n] -> [n], the settings whose threshold the IoU reaches."""
    of_lowest = [(1 << thresholds) - 1 for thresholds in range(len(IOU_THRESHOLDS) + 1)]
    in_all_ranges = sum(1 << (a * len(IOU_THRESHOLDS)) for a in range(len(AREAS)))
    table = np.array([bits * in_all_ranges for bits in of_lowest], np.uint64)
    reached: Bits = table[np.searchsorted(np.minimum(IOU_THRESHOLDS, HIGHEST_THRESHOLD), iou, side="right")]
    return reached


def _settings_apart(bits: Bits) -> NDArray[np.bool_]:
    """[n] -> bool [A, T, n]."""
    setting = np.uint64(1) << np.arange(len(AREAS) * len(IOU_THRESHOLDS), dtype=np.uint64)
    apart: NDArray[np.bool_] = (bits & setting[:, None]) != 0
    return apart.reshape(len(AREAS), len(IOU_THRESHOLDS), -1)


def _outside(area: Floats) -> NDArray[np.bool_]:
    """[n] -> bool [n, A]."""
    return (area[:, None] < AREAS[:, 0]) | (area[:, None] > AREAS[:, 1])


def _objects_that_count(objects: Objects, classes: int) -> Integers:
    """[K, A], the objects that are neither crowd nor outside the range."""
    counted = ~(_outside(objects.area) | objects.crowd[:, None])
    counts = np.zeros((classes, len(AREAS)), np.int64)
    np.add.at(counts, objects.label, counted)
    return counts


def _hits_and_misses(objects: Objects, found: Found) -> tuple[Bits, Bits]:
    """The settings in which each detection is right, and in which it is wrong. In the others it is ignored: matched to
    an object that is, or matched to none and itself outside the range of areas."""
    pairs = overlapping_pairs(found, objects, IOU_THRESHOLDS[0])
    ignored = _in_ranges(_outside(objects.area) | objects.crowd[:, None])
    matches = greedy_matches(pairs, found.group, _reaching(pairs.iou), ignored, objects.crowd)
    matched = matched_settings(pairs, matches, len(found.score))
    hits = matched_settings(pairs, matches & ~ignored[pairs.objects], len(found.score))
    return hits, _in_ranges(~_outside(found.area)) & ~matched
