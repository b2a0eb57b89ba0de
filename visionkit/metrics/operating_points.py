"""What a score threshold buys: precision, recall and F1 of each class at each score, and the score with the best F1.

COCO's rule at IoU 0.5 decides what is right (`visionkit.metrics.coco_matching`), so these curves and AP50 tell of the
same detections. F1 is the harmonic mean of precision and recall (van Rijsbergen, "Information Retrieval", 1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_columns import Integers, Task, check_task, detection_columns, truth_columns
from visionkit.metrics.coco_precision import AREAS, judge

Floats = NDArray[np.float64]
MOST_POINTS = 100


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What is found by the detections of at least `score`."""

    score: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class OperatingCurve:
    """The points of one class, by falling score.

    Args:
        objects: how many there are to find.
        points: at most `MOST_POINTS`, evenly spread over the detections, the last included; none without an object.
        best: the point of the highest F1, the highest score of equals; None without a hit.
    """

    objects: int
    points: tuple[OperatingPoint, ...]
    best: OperatingPoint | None

    def to_json(self) -> dict[str, Any]:
        """As one object; what is not defined is null."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BestThresholds:
    """Where F1 is highest; None without a hit.

    Args:
        all_classes: of all detections and objects together.
        per_class: by class name.
    """

    all_classes: OperatingPoint | None
    per_class: Mapping[str, OperatingPoint | None]


def best_thresholds(
    truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], task: Task = "bbox"
) -> BestThresholds:
    """The score thresholds that serve best: one for all classes, and one for each.

    They are chosen on these very images, and flatter a little: of others their F1 is lower.

    Args, Raises: as `visionkit.metrics.coco_map.coco_scores`.
    """
    curves, pooled = curves_and_pooled(truth, detections, task)
    return BestThresholds(pooled.best, {name: curve.best for name, curve in curves.items()})


def operating_curves(
    truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], task: Task = "bbox"
) -> dict[str, OperatingCurve]:
    """The curve of each class, by name.

    Args, Raises: as `visionkit.metrics.coco_map.coco_scores`.
    """
    return curves_and_pooled(truth, detections, task)[0]


def curves_and_pooled(
    truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], task: Task = "bbox"
) -> tuple[dict[str, OperatingCurve], OperatingCurve]:
    """The curve of each class, by name, and that of all detections and objects together, whose best score is the one
    threshold for a model that is used with one.

    Args, Raises: as `visionkit.metrics.coco_map.coco_scores`.
    """
    check_task(task)
    objects = truth_columns(truth, task)
    judged = judge(objects, detection_columns(truth, detections, task))
    hits, misses = (rows[0] for rows in judged.over_all_areas())
    real = ~objects.crowd & (objects.area <= AREAS[0, 1])
    counts = np.bincount(objects.label[real], minlength=len(truth.classes)).tolist()

    def curve(ranked: Integers, count: int) -> OperatingCurve:
        counted = ranked[hits[ranked] | misses[ranked]]
        return _curve(judged.found.score[counted], hits[counted], count)

    of_classes = zip(truth.classes.names, judged.of_classes(len(truth.classes)), counts, strict=True)
    curves = {name: curve(ranked, count) for name, ranked, count in of_classes}
    return curves, curve(np.argsort(-judged.found.score, kind="stable"), sum(counts))


def _curve(scores: Floats, is_hit: NDArray[np.bool_], objects: int) -> OperatingCurve:
    """The curve of detections by falling score."""
    if not objects or not len(scores):
        return OperatingCurve(objects, (), None)
    found = np.cumsum(is_hit)
    # A threshold takes all detections of its score: of equal scores only the last is a point.
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    precision, recall = found[ends] / (ends + 1), found[ends] / objects
    f1 = 2 * found[ends] / (ends + 1 + objects)
    rows = list(zip(scores[ends].tolist(), precision.tolist(), recall.tolist(), f1.tolist(), strict=True))
    shown = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_POINTS)).round().astype(int))
    best = OperatingPoint(*rows[int(f1.argmax())]) if is_hit.any() else None
    return OperatingCurve(objects, tuple(OperatingPoint(*rows[i]) for i in shown.tolist()), best)
