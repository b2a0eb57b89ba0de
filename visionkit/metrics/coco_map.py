"""COCO mAP: average precision and recall of boxes or masks, over the data and by class.

The protocol is that of the COCO detection challenge (https://cocodataset.org/#detection-eval; Lin et al., "Microsoft
COCO: Common Objects in Context", 2014), and the numbers are pycocotools'.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_rows import Task, check_task, detection_rows, truth_rows
from visionkit.metrics.matched_iou import mean_iou_matched

__all__ = ["ClassScores", "CocoScores", "Task", "coco_scores"]

# Positions in the arrays of pycocotools.
AT_IOU_50, AT_IOU_75 = 0, 5
ALL_AREAS = 0
BEST_100 = 2


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

    def to_json(self) -> dict[str, Any]:
        """The object that `visionkit evaluate --json` prints; what is not defined is null."""
        return asdict(self)


def coco_scores(truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], task: Task = "bbox") -> CocoScores:
    """Judge detections as the COCO challenge does.

    No detections at all is a result like any other: 0 for every class that has objects. Crowd regions are ignored:
    they need not be found, and what lies on them is no mistake.

    Args:
        truth: the annotated images; every one is judged, whether it has detections or not.
        detections: COCO results rows `{"image_id", "category_id", "bbox": [x, y, w, h], "score"[, "segmentation"]}`;
            boxes in pixels of the upright image, segmentations as RLE of its size or as polygons. Rows without `bbox`
            are judged by the boxes of their masks. They are read, never changed.
        task: compare boxes (`bbox`) or masks (`segm`).

    Raises:
        UsageError: an unknown task.
        DataError: an image or category the truth lacks, a box or mask missing or of another image's size, a box or
            score that is not finite.

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
    objects, found = truth_rows(truth, task), detection_rows(truth, detections, task)
    with _stdout_of_this_thread_dropped():
        evaluator = _evaluate(truth, objects, found, task)
    stats = [float(value) if value > -1 else None for value in evaluator.stats]
    return CocoScores(
        task=task,
        images=len(truth.images),
        AP=stats[0],
        AP50=stats[1],
        AP75=stats[2],
        APs=stats[3],
        APm=stats[4],
        APl=stats[5],
        AR1=stats[6],
        AR10=stats[7],
        AR100=stats[8],
        ARs=stats[9],
        ARm=stats[10],
        ARl=stats[11],
        mean_iou_matched=mean_iou_matched(truth, detections, task=task),
        per_class=_class_scores(truth, objects, found, evaluator),
    )


def _evaluate(
    truth: AnnotatedImages, objects: list[dict[str, Any]], found: list[dict[str, Any]], task: Task
) -> COCOeval:
    images = [{"id": image.id, "height": image.height, "width": image.width} for image in truth.images]
    evaluator = COCOeval(_coco(truth, images, objects), _coco(truth, images, found), task)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return evaluator


def _coco(truth: AnnotatedImages, images: list[dict[str, Any]], rows: list[dict[str, Any]]) -> COCO:
    # For detections this stands in for COCO.loadRes, which fails on an empty list and changes the rows it is given.
    coco = COCO()
    coco.dataset = {"images": images, "categories": truth.classes.to_json(), "annotations": rows}
    coco.createIndex()
    return coco


def _class_scores(
    truth: AnnotatedImages, objects: list[dict[str, Any]], found: list[dict[str, Any]], evaluator: COCOeval
) -> dict[str, ClassScores]:
    precision = evaluator.eval["precision"][..., ALL_AREAS, BEST_100]  # [IoU thresholds, recalls, K]
    recall = evaluator.eval["recall"][..., ALL_AREAS, BEST_100]  # [IoU thresholds, K]
    category_ids = [int(i) for i in evaluator.params.catIds]
    object_counts = Counter(row["category_id"] for row in objects if not row["iscrowd"])
    detection_counts = Counter(row["category_id"] for row in found)
    scores = {}
    for category_id, name in zip(truth.classes.category_ids, truth.classes.names, strict=True):
        k = category_ids.index(category_id)
        scores[name] = ClassScores(
            AP=_mean_defined(precision[:, :, k]),
            AP50=_mean_defined(precision[AT_IOU_50, :, k]),
            AP75=_mean_defined(precision[AT_IOU_75, :, k]),
            AR100=_mean_defined(recall[:, k]),
            objects=object_counts[category_id],
            detections=detection_counts[category_id],
        )
    return scores


def _mean_defined(values: NDArray[np.float64]) -> float | None:
    defined = values[values > -1]
    return float(np.mean(defined)) if len(defined) else None


class _DropsFrom:
    """A stdout that drops what one thread writes and passes on what the others write."""

    def __init__(self, stdout: TextIO, thread: int) -> None:
        self._stdout, self._thread = stdout, thread

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._thread else self._stdout.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def _stdout_of_this_thread_dropped() -> Iterator[None]:
    """pycocotools reports progress by print, and stdout is for results. Errors pass through."""
    # Two threads that swap sys.stdout and restore it in another order would leave the wrong one behind.
    with _one_at_a_time:
        silent: Any = _DropsFrom(sys.stdout, threading.get_ident())
        with contextlib.redirect_stdout(silent):
            yield
