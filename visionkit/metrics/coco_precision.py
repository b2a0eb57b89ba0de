"""COCO's precision and recall of every class, at its 10 IoU thresholds, 4 ranges of areas and 3 limits of detections.

K classes, T IoU thresholds, R recalls, A ranges of areas, M limits; sources as in `visionkit.metrics.coco_map`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionkit.metrics.coco_columns import Found, Integers, Objects, stable_order
from visionkit.metrics.coco_matching import (
    HIGHEST_THRESHOLD,
    Bits,
    Pairs,
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
        by_score = np.argsort(-self.found.score, kind="stable")
        order = by_score[stable_order(self.found.label[by_score])]
        return np.split(order, np.searchsorted(self.found.label[order], np.arange(1, classes)))

    def over_all_areas(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Hits and misses, bool [T, N] each, among objects of all areas."""
        at_threshold = np.uint64(1) << np.arange(len(IOU_THRESHOLDS), dtype=np.uint64)[:, None]
        return (self.hits & at_threshold) != 0, (self.misses & at_threshold) != 0


def judge(objects: Objects, found: Found, pairs: Pairs | None = None) -> Judged:
    """Detections matched to objects, at every setting.

    Args:
        pairs: that overlap by the lowest of `IOU_THRESHOLDS`, where they are known.
    """
    if pairs is None:
        pairs = overlapping_pairs(found, objects, IOU_THRESHOLDS[0])
    rank = position_in_run(found.group)
    best = rank < MOST_DETECTIONS[-1]
    if not best.all():
        pairs = pairs.among(best, np.ones(len(objects.row), np.bool_))
        found, rank = found.take(np.flatnonzero(best)), rank[best]
    return Judged(found, rank, *_hits_and_misses(objects, found, pairs))


def precision_and_recall(objects: Objects, judged: Judged, classes: int) -> PrecisionRecall:
    """The precision and recall of detections, of the classes with labels 0 ... `classes` - 1."""
    counts = _objects_that_count(objects, classes)
    precision = np.full((len(IOU_THRESHOLDS), len(RECALLS), classes, len(AREAS)), UNDEFINED)
    recall = np.full((len(IOU_THRESHOLDS), classes, len(AREAS), len(MOST_DETECTIONS)), UNDEFINED)
    for label, ranked in enumerate(judged.of_classes(classes)):
        asked = np.flatnonzero(counts[label])
        if not len(asked):
            continue
        hits = judged.hits[ranked]
        at_hit = np.flatnonzero(hits)  # few: precision and recall change nowhere else for the better
        is_hit = _settings_apart(hits[at_hit])[asked]  # [A, T, h]
        misses = _misses_before(judged.misses[ranked], at_hit)[asked]
        rank = judged.rank[ranked[at_hit]]
        for m, most in enumerate(MOST_DETECTIONS):
            found = np.count_nonzero(is_hit & (rank < most), axis=2)
            recall[:, label, asked, m] = (found / counts[label, asked, None]).T
        precision[:, :, label, asked] = _precision_at_recalls(is_hit, misses, counts[label, asked]).transpose(1, 2, 0)
    return PrecisionRecall(precision, recall)


def _precision_at_recalls(is_hit: NDArray[np.bool_], misses: Integers, objects: Integers) -> Floats:
    """f64 [A, T, R], as `precision_at_recalls` has it, of the areas of one class at once.

    Args:
        is_hit: bool [A, T, h], by falling score, of all that hit in any setting.
        misses: i64 [A, T, h], up to each.
        objects: i64 [A], at least 1 each.
    """
    ranges, thresholds, count = is_hit.shape
    hits: Integers = np.cumsum(is_hit, axis=2, dtype=np.int64)
    # Where one setting has a hit and another none, the other's precision is no better than at its hit before.
    best = _best_from_here(hits, misses)
    needed = np.stack([np.searchsorted(np.arange(1, total + 1) / total, RECALLS) for total in objects.tolist()]) + 1
    # The first place with so many hits, in all settings at once: each setting's counts lie above those of the last.
    above = np.arange(ranges * thresholds).reshape(ranges, thresholds, 1) * (int(objects.max(initial=0)) + 2)
    place = np.searchsorted((hits + above).ravel(), (needed[:, None] + above).ravel())
    reached = needed[:, None] <= (hits[..., -1:] if count else np.zeros((ranges, thresholds, 1)))
    values = np.append(best.ravel(), 0.0)[np.minimum(place, best.size)].reshape(ranges, thresholds, len(RECALLS))
    return np.where(reached, values, 0.0)


def precision_at_recalls(is_hit: NDArray[np.bool_], is_miss: NDArray[np.bool_], objects: int) -> Floats:
    """f64 [R], the best precision at each of `RECALLS` or beyond, 0 where it is not reached.

    Args:
        is_hit, is_miss: bool [N], by falling score; what is neither is ignored.
        objects: to be found; at least 1.
    """
    at_hit = np.flatnonzero(is_hit)
    hits = np.arange(1, len(at_hit) + 1)
    best = _best_from_here(hits, np.cumsum(is_miss, dtype=np.int64)[at_hit])
    return np.append(best, np.zeros(1))[np.searchsorted(hits / objects, RECALLS)]


def _best_from_here(hits: Integers, misses: Integers) -> Floats:
    """f64 [..., h], the best precision at each place or a later one, with so many hits and misses up to there."""
    # Between hits precision falls and recall stays, so the best is at a hit. The last term is pycocotools', which
    # divides where there is neither hit nor miss; it puts a perfect precision 2e-16 below 1.
    precision = hits / (misses + hits + np.spacing(1))
    best: Floats = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    return best


def _misses_before(misses: Bits, at: Integers) -> Integers:
    """[A, T, h], of detections with these misses, u64 [n] by falling score, how many are wrong in each setting up to
    the positions `at`, i64 [h].

    Most detections are wrong at all thresholds or at none, and are counted once an area.
    """
    shifts = np.arange(len(AREAS), dtype=np.uint64) * np.uint64(len(IOU_THRESHOLDS))
    everywhere = np.uint64((1 << len(IOU_THRESHOLDS)) - 1)
    of_area = (misses >> shifts[:, None]) & everywhere  # [A, n]
    mixed = np.flatnonzero(((of_area != 0) & (of_area != everywhere)).any(axis=0))
    alike = of_area == everywhere
    alike[:, mixed] = False
    of_mixed = np.cumsum(_settings_apart(misses[mixed]), axis=2)
    before = np.concatenate([np.zeros((*of_mixed.shape[:2], 1), np.int64), of_mixed], axis=2)
    counts: Integers = before[..., np.searchsorted(mixed, at, side="right")]
    counts += np.cumsum(alike, axis=1)[:, None, at]
    return counts


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


def _hits_and_misses(objects: Objects, found: Found, pairs: Pairs) -> tuple[Bits, Bits]:
    """The settings in which each detection is right, and in which it is wrong. In the others it is ignored: matched to
    an object that is, or matched to none and itself outside the range of areas."""
    ignored = _in_ranges(_outside(objects.area) | objects.crowd[:, None])
    matches = greedy_matches(pairs, found.group, _reaching(pairs.iou), ignored, objects.crowd)
    matched = matched_settings(pairs, matches, len(found.score))
    hits = matched_settings(pairs, matches & ~ignored[pairs.objects], len(found.score))
    return hits, _in_ranges(~_outside(found.area)) & ~matched
