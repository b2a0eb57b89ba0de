"""How tightly what was found is drawn: the mean IoU of confident detections that match an object."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from visionkit.errors import UsageError
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_rows import Task, check_task, detection_rows, truth_rows

Row = dict[str, Any]


def mean_iou_matched(
    truth: AnnotatedImages,
    detections: Sequence[Mapping[str, Any]],
    score: float = 0.25,
    iou: float = 0.5,
    task: Task = "bbox",
) -> float | None:
    """The mean IoU of the detections that match an object.

    Detections with a score >= `score` are matched within each image and class, highest score first, equal scores in
    the order given. A detection takes the object it overlaps most among those not yet taken, if their IoU is >= `iou`;
    of equal overlaps the last object in file order, as in pycocotools. Crowd regions are no objects: what lies on them
    is neither rewarded nor punished. Every match counts once; missed objects and false positives do not enter. Unlike
    in AP, there is no limit on detections per image.

    Args:
        truth: the annotated images.
        detections: COCO results rows `{"image_id", "category_id", "bbox": [x, y, w, h], "score"[, "segmentation"]}`.
        score: the lowest score that takes part.
        iou: the lowest IoU that is a match, in (0, 1].
        task: compare boxes (`bbox`) or masks (`segm`).

    Returns:
        The mean in [`iou`, 1], or None where nothing matched.

    Raises:
        UsageError: an unknown task, or `iou` outside (0, 1].
        DataError: as `visionkit.metrics.coco_map.coco_scores`.
    """
    check_task(task)
    if not 0 < iou <= 1:
        raise UsageError(f"the IoU of a match must be above 0 and at most 1, got {iou}; use 0.5")
    confident = [detection for detection in detections if detection["score"] >= score]
    objects = _by_image_and_class(row for row in truth_rows(truth, task) if not row["iscrowd"])
    found = _by_image_and_class(detection_rows(truth, confident, task))
    matched = [
        value
        for key, rows in found.items()
        if key in objects
        for value in _matched_ious(_pairwise_iou(_by_score(rows), objects[key], task), iou)
    ]
    return float(np.mean(matched)) if matched else None


def _by_image_and_class(rows: Iterable[Row]) -> dict[tuple[int, int], list[Row]]:
    groups: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["image_id"], row["category_id"]].append(row)
    return groups


def _by_score(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -row["score"])


def _matched_ious(ious: NDArray[np.float64], threshold: float) -> list[float]:
    """The IoUs of greedy matches. `ious` is [N, G], detections by falling score; each of the G is taken once."""
    # pycocotools lowers a threshold of 1 by this much, so that equal regions match in spite of rounding.
    threshold = min(threshold, 1 - 1e-10)
    # Reversed, argmax finds the last of equal overlaps.
    free = np.where(ious >= threshold, ious, 0.0)[:, ::-1]
    matched = []
    for row in np.flatnonzero(free.any(axis=1)):
        best = free[row].argmax()
        if free[row, best] > 0:
            matched.append(float(free[row, best]))
            free[:, best] = 0
    return matched


def _pairwise_iou(found: list[Row], objects: list[Row], task: Task) -> NDArray[np.float64]:
    """[N, G] IoU of N detections and G objects of one image."""
    if task == "bbox":
        return _box_iou(_boxes(found), _boxes(objects))
    masks = [row["segmentation"] for row in found], [row["segmentation"] for row in objects]
    return np.asarray(coco_mask.iou(*masks, [0] * len(objects)), np.float64)


def _boxes(rows: list[Row]) -> NDArray[np.float64]:
    return np.array([row["bbox"] for row in rows], np.float64)


def _box_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, 4] and [G, 4] boxes x y w h -> [N, G]; 0 where neither box has an area."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=2)
    union = a[:, None, 2:].prod(axis=2) + b[None, :, 2:].prod(axis=2) - intersection
    ious: NDArray[np.float64] = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return ious
