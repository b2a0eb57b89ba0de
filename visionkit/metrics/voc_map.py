"""PASCAL VOC's mAP: average precision of boxes at one IoU, by 11 points (VOC 2007) and by area (VOC 2010 and later).

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge" (2010), section 4.2, and the development kit of
VOC 2012, section 3.4.1. It differs from COCO's AP50 in more than the points of recall:

- A detection belongs to the object of its class that it overlaps most, of equal overlaps the first in file order. If a
  higher score has that object, it is a mistake, even where it overlaps another, free one by enough.
- Objects marked difficult, read as crowd regions, need not be found and are no mistake to find; but unlike COCO's crowd
  regions they are overlapped by IoU.
- There is no limit on detections in an image.

One thing is this house's: boxes are half-open, where VOC's own code counts a box from 1 to 1 as one pixel wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import UsageError
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_columns import Found, Objects, detection_columns, truth_columns
from visionkit.metrics.coco_matching import HIGHEST_THRESHOLD, overlapping_pairs

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class VocClassScores:
    """The scores of one class; None where it has no object.

    Args:
        AP_11_point: the mean, over recalls 0, 0.1, ..., 1, of the best precision at this recall or a higher one.
        AP_area: the area under the best precision at a recall or a higher one.
        objects: annotations of the class, difficult ones not counted.
        detections: detections of the class, of any score.
    """

    AP_11_point: float | None
    AP_area: float | None
    objects: int
    detections: int


@dataclass(frozen=True, slots=True)
class VocScores:
    """The scores of a set of detections, each in [0, 1], or None where no class has an object.

    Args:
        images: how many images were judged, background images included.
        iou: the least IoU that is a match.
        AP_11_point, AP_area: means over the classes that have objects.
        per_class: the scores by class name, in the order of labels.
    """

    images: int
    iou: float
    AP_11_point: float | None
    AP_area: float | None
    per_class: Mapping[str, VocClassScores]

    def to_json(self) -> dict[str, Any]:
        """As one object; what is not defined is null."""
        return asdict(self)


def voc_scores(truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], iou: float = 0.5) -> VocScores:
    """Judge the boxes of detections as the VOC challenge does.

    Args:
        truth: the annotated images; every one is judged, whether it has detections or not.
        detections: COCO results rows, as `visionkit.metrics.coco_map.coco_scores` takes them.
        iou: the least IoU that is a match, in (0, 1].

    Raises:
        UsageError: `iou` outside (0, 1].
        DataError: as `coco_scores`.
    """
    if not 0 < iou <= 1:
        raise UsageError(f"the IoU of a match must be above 0 and at most 1, got {iou}; use 0.5")
    classes = len(truth.classes)
    objects, found = truth_columns(truth, "bbox"), detection_columns(truth, detections, "bbox")
    is_hit, is_miss = _hits_and_misses(objects, found, iou)
    counts = np.bincount(objects.label[~objects.crowd], minlength=classes).tolist()
    order = np.lexsort((-found.score, found.label))  # stable: equal scores by image id, in an image as given
    of_class = np.split(order, np.searchsorted(found.label[order], np.arange(1, classes)))
    per_class = {
        name: VocClassScores(
            AP_11_point=eleven_point_ap(is_hit[ranked], is_miss[ranked], count) if count else None,
            AP_area=area_ap(is_hit[ranked], is_miss[ranked], count) if count else None,
            objects=count,
            detections=len(ranked),
        )
        for name, ranked, count in zip(truth.classes.names, of_class, counts, strict=True)
    }
    return VocScores(
        images=len(truth.images),
        iou=iou,
        AP_11_point=_mean_defined([scores.AP_11_point for scores in per_class.values()]),
        AP_area=_mean_defined([scores.AP_area for scores in per_class.values()]),
        per_class=per_class,
    )


def eleven_point_ap(is_hit: Bools, is_miss: Bools, objects: int) -> float:
    """AP by 11 points.

    Args:
        is_hit, is_miss: bool [N], by falling score; what is neither is ignored.
        objects: to be found; at least 1.
    """
    best = _best_precision(is_hit, is_miss)
    # The n-th hit reaches recall k / 10 where n / objects >= k / 10, in integers: n >= k * objects / 10, rounded up.
    needed = -(-np.arange(11) * objects // 10)
    return float(np.append(best, 0)[np.clip(needed - 1, 0, len(best))].mean())


def area_ap(is_hit: Bools, is_miss: Bools, objects: int) -> float:
    """AP by area; arguments as of `eleven_point_ap`. Each hit adds 1 / `objects` of recall."""
    return float(_best_precision(is_hit, is_miss).sum() / objects)


def _best_precision(is_hit: Bools, is_miss: Bools) -> NDArray[np.float64]:
    """At each hit, the best precision there or later."""
    at_hit = np.flatnonzero(is_hit)
    hits = np.arange(1, len(at_hit) + 1)
    precision = hits / (hits + np.cumsum(is_miss)[at_hit])
    best: NDArray[np.float64] = np.maximum.accumulate(precision[::-1])[::-1]
    return best


def _hits_and_misses(objects: Objects, found: Found, iou: float) -> tuple[Bools, Bools]:
    """bool [N] each; what is neither is on a difficult object."""
    by_iou = replace(objects, crowd=np.zeros_like(objects.crowd))
    pairs = overlapping_pairs(found, by_iou, min(iou, HIGHEST_THRESHOLD))
    best_first = np.lexsort((pairs.objects, -pairs.iou, pairs.found))
    overlapping, first = np.unique(pairs.found[best_first], return_index=True)
    theirs = pairs.objects[best_first[first]]
    is_miss = np.ones(len(found.row), np.bool_)
    is_miss[overlapping[objects.crowd[theirs]]] = False
    # The detections of a group stand by falling score, so the first of an object has the highest.
    _, highest = np.unique(theirs, return_index=True)
    is_hit = np.zeros(len(found.row), np.bool_)
    is_hit[overlapping[highest]] = ~objects.crowd[theirs[highest]]
    return is_hit, is_miss & ~is_hit


def _mean_defined(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
