"""COCO mAP: average precision and recall of boxes or masks, over the data and by class.

The protocol is that of the COCO detection challenge (https://cocodataset.org/#detection-eval; Lin et al., "Microsoft
COCO: Common Objects in Context", 2014). The numbers are pycocotools' to the last bit, and the tests hold them to that;
how they come in a fraction of its time, `visionkit.metrics.coco_matching` tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_columns import Found, Objects, Task, check_task, detection_columns, truth_columns
from visionkit.metrics.coco_matching import overlapping_pairs
from visionkit.metrics.coco_precision import IOU_THRESHOLDS, UNDEFINED, PrecisionRecall, judge, precision_and_recall
from visionkit.metrics.errors import ErrorCost, ErrorKind
from visionkit.metrics.intervals import Interval, ap_intervals
from visionkit.metrics.matched_iou import mean_iou_of_matches
from visionkit.metrics.operating_points import BestThresholds
from visionkit.metrics.referee import RefereeVerdict
from visionkit.metrics.score_calibration import FittedMap
from visionkit.metrics.slices import SliceScore
from visionkit.metrics.voc_map import VocScores

__all__ = ["BESIDE", "ClassScores", "CocoScores", "Task", "coco_scores"]

# Positions in the arrays of `PrecisionRecall`.
AT_IOU_50, AT_IOU_75 = 0, 5
ALL_AREAS, SMALL, MEDIUM, LARGE = range(4)
BEST_1, BEST_10, BEST_100 = range(3)

BESIDE = ("referee", "voc", "slices", "errors", "thresholds", "calibration")
"""What `CocoScores` may have beside COCO's numbers."""


@dataclass(frozen=True, slots=True)
class ClassScores:
    """The scores of one class, all areas, at most 100 detections an image; None where the class has no object.

    Args:
        AP: mean precision over recalls 0, 0.01, ..., 1 and IoU thresholds 0.50, 0.55, ..., 0.95.
        AP50, AP75: the same at one IoU threshold.
        AR100: mean over the IoU thresholds of the share of objects found.
        objects: annotations of the class, crowd regions not counted.
        detections: detections of the class, of any score.
    """

    AP: float | None
    AP50: float | None
    AP75: float | None
    AR100: float | None
    objects: int
    detections: int


@dataclass(frozen=True, slots=True)
class CocoScores:
    """The scores of a set of detections, each in [0, 1], or None where it is not defined.

    Args:
        task: what was compared, boxes (`bbox`) or masks (`segm`).
        images: how many images were judged, background images included.
        AP: mean over classes of the mean precision over recalls 0, 0.01, ..., 1 and IoU thresholds 0.50, 0.55, ...,
            0.95. Classes without an object are left out of every mean.
        AP50, AP75: the same at one IoU threshold.
        APs, APm, APl: the same over objects of area below 32 x 32, up to 96 x 96, and above, in pixels.
        AR1, AR10, AR100: mean recall with at most 1, 10, 100 detections of a class in an image.
        ARs, ARm, ARl: AR100 by area.
        mean_iou_matched: see `visionkit.metrics.matched_iou`.
        per_class: the scores by class name, in the order of labels.
        interval95: the 95 % intervals of AP and AP50, see `visionkit.metrics.intervals`; None where not asked for.
        referee: what pycocotools says, see `visionkit.metrics.referee`; None where not asked, as all that follow.
        voc: PASCAL VOC's AP, see `visionkit.metrics.voc_map`.
        slices: AP by kind of object, see `visionkit.metrics.slices`.
        errors: mistakes by kind and what each kind costs, see `visionkit.metrics.errors`.
        thresholds: the scores of the best F1, see `visionkit.metrics.operating_points`.
        calibration: the map of scores that was fitted, see `visionkit.metrics.score_calibration`.
    """

    task: Task
    images: int
    AP: float | None
    AP50: float | None
    AP75: float | None
    APs: float | None
    APm: float | None
    APl: float | None
    AR1: float | None
    AR10: float | None
    AR100: float | None
    ARs: float | None
    ARm: float | None
    ARl: float | None
    mean_iou_matched: float | None
    per_class: Mapping[str, ClassScores]
    interval95: Mapping[str, Interval | None] | None = None
    referee: RefereeVerdict | None = None
    voc: VocScores | None = None
    slices: Mapping[str, Mapping[str, SliceScore]] | None = None
    errors: Mapping[ErrorKind, ErrorCost] | None = None
    thresholds: BestThresholds | None = None
    calibration: FittedMap | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that `visionkit evaluate --json` prints; what is not defined is null, and what comes beside COCO's
        numbers is there where it was asked for."""
        content = asdict(self)
        for name in BESIDE:
            if content[name] is None:
                del content[name]
        return content if self.referee is None else {**content, "referee": self.referee.to_json()}


def coco_scores(
    truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], task: Task = "bbox", intervals: bool = False
) -> CocoScores:
    """Judge detections as the COCO challenge does.

    No detections at all is a result like any other: 0 for every class that has objects. Crowd regions are ignored:
    they need not be found, and what lies on them is no mistake.

    Args:
        truth: the annotated images; every one is judged, whether it has detections or not.
        detections: COCO results rows `{"image_id", "category_id", "bbox": [x, y, w, h], "score"[, "segmentation"]}`;
            boxes in pixels of the upright image, segmentations as RLE of its size or as polygons. Rows without `bbox`
            are judged by the boxes of their masks. They are read, never changed.
        task: compare boxes (`bbox`) or masks (`segm`).
        intervals: give AP and AP50 with 95 % intervals, which takes longer.

    Raises:
        UsageError: an unknown task.
        DataError: an image or category the truth lacks, a box or mask missing or of another image's size, a box
            that is not four numbers, a box or score that is not finite.

    >>> from pathlib import Path
    >>> from visionkit.classes import ClassTable
    >>> from visionkit.formats.records import Annotation, ImageRecord
    >>> cat = Annotation(id=1, category_id=17, bbox=(10, 10, 100, 50), area=5000)
    >>> photo = ImageRecord(id=1, file_name="cat.jpg", path=None, width=640, height=480, annotations=(cat,))
    >>> truth = AnnotatedImages(ClassTable((17,), ("cat",)), (photo,), source=Path("val.json"))
    >>> found = {"image_id": 1, "category_id": 17, "bbox": [10, 10, 100, 40], "score": 0.9}
    >>> scores = coco_scores(truth, [found])  # IoU 4000 / 5000: right at 0.50, ..., 0.80, 7 of 10 thresholds
    >>> round(scores.AP, 6), scores.APl, scores.mean_iou_matched
    (0.7, None, 0.8)
    """
    check_task(task)
    objects, found = truth_columns(truth, task), detection_columns(truth, detections, task)
    pairs = overlapping_pairs(found, objects, IOU_THRESHOLDS[AT_IOU_50])
    judged = judge(objects, found, pairs)
    curves = precision_and_recall(objects, judged, len(truth.classes))
    # The mean of floats depends, in its last bits, on their order: pycocotools' is that of ascending category ids.
    by_id = np.argsort(truth.classes.category_ids)
    precision, recall = curves.precision[:, :, by_id], curves.recall[:, by_id]
    return CocoScores(
        task=task,
        images=len(truth.images),
        AP=_mean_defined(precision[..., ALL_AREAS]),
        AP50=_mean_defined(precision[AT_IOU_50, ..., ALL_AREAS]),
        AP75=_mean_defined(precision[AT_IOU_75, ..., ALL_AREAS]),
        APs=_mean_defined(precision[..., SMALL]),
        APm=_mean_defined(precision[..., MEDIUM]),
        APl=_mean_defined(precision[..., LARGE]),
        AR1=_mean_defined(recall[..., ALL_AREAS, BEST_1]),
        AR10=_mean_defined(recall[..., ALL_AREAS, BEST_10]),
        AR100=_mean_defined(recall[..., ALL_AREAS, BEST_100]),
        ARs=_mean_defined(recall[..., SMALL, BEST_100]),
        ARm=_mean_defined(recall[..., MEDIUM, BEST_100]),
        ARl=_mean_defined(recall[..., LARGE, BEST_100]),
        mean_iou_matched=mean_iou_of_matches(objects, found, pairs=pairs),
        per_class=_class_scores(truth, objects, found, curves),
        interval95=ap_intervals(objects, judged, len(truth.classes), len(truth.images)) if intervals else None,
    )


def _class_scores(
    truth: AnnotatedImages, objects: Objects, found: Found, curves: PrecisionRecall
) -> dict[str, ClassScores]:
    object_counts = np.bincount(objects.label[~objects.crowd], minlength=len(truth.classes)).tolist()
    detection_counts = np.bincount(found.label, minlength=len(truth.classes)).tolist()
    scores = {}
    for label, name in enumerate(truth.classes.names):
        precision = curves.precision[:, :, label, ALL_AREAS]
        scores[name] = ClassScores(
            AP=_mean_defined(precision),
            AP50=_mean_defined(precision[AT_IOU_50]),
            AP75=_mean_defined(precision[AT_IOU_75]),
            AR100=_mean_defined(curves.recall[:, label, ALL_AREAS, BEST_100]),
            objects=object_counts[label],
            detections=detection_counts[label],
        )
    return scores


def _mean_defined(values: NDArray[np.float64]) -> float | None:
    defined = values[values != UNDEFINED]
    return float(np.mean(defined)) if len(defined) else None
