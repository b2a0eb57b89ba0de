"""How tightly what was found is drawn: the mean IoU of confident detections that match an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visionkit.errors import UsageError
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_columns import Found, Objects, Task, check_task, detection_columns, truth_columns
from visionkit.metrics.coco_matching import HIGHEST_THRESHOLD, Pairs, greedy_matches, overlapping_pairs


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
    return mean_iou_of_matches(truth_columns(truth, task), detection_columns(truth, detections, task), score, iou)


def mean_iou_of_matches(
    objects: Objects, found: Found, score: float = 0.25, iou: float = 0.5, pairs: Pairs | None = None
) -> float | None:
    """`mean_iou_matched` of columns.

    Args:
        pairs: that overlap by `iou`, where they are known.
    """
    if pairs is None:
        pairs = overlapping_pairs(found, objects, min(iou, HIGHEST_THRESHOLD))
    sure, real = found.score >= score, ~objects.crowd
    pairs = pairs.among(sure, real)
    # One setting, which every pair reaches and which ignores no object.
    reached, ignored = np.ones(len(pairs.iou), np.uint64), np.zeros(int(real.sum()), np.uint64)
    no_crowd = np.zeros(len(ignored), np.bool_)
    matched = pairs.iou[greedy_matches(pairs, found.group[sure], reached, ignored, no_crowd) > 0]
    return float(np.mean(matched)) if len(matched) else None
