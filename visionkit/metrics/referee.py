"""The referee: what pycocotools itself makes of the same annotations and detections, beside our numbers.

pycocotools (https://github.com/cocodataset/cocoapi) is used as its manual says, on records that were checked first: ids
that it loses, lists that it stumbles on and masks that it crashes on never reach it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_columns import Task, check_task, detection_columns, truth_columns
from visionkit.metrics.coco_precision import UNDEFINED, PrecisionRecall, judge, precision_and_recall

TWELVE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's numbers in the order of pycocotools."""


@dataclass(frozen=True, slots=True)
class RefereeVerdict:
    """What the referee says.

    Args:
        scores: its twelve numbers by name; None where one is not defined.
        unequal: the names of those that ours differ from, in whatever bit.
        values: how many precisions and recalls both have, of all classes, thresholds, areas and limits.
        differing: how many of them differ, in whatever bit.
    """

    scores: Mapping[str, float | None]
    unequal: tuple[str, ...]
    values: int
    differing: int

    @property
    def is_equal(self) -> bool:
        return not self.unequal and not self.differing

    def to_json(self) -> dict[str, Any]:
        """As `visionkit evaluate --json` prints it."""
        return {**asdict(self), "equal": self.is_equal}


def referee_verdict(
    truth: AnnotatedImages,
    detections: Sequence[Mapping[str, Any]],
    ours: Mapping[str, float | None],
    task: Task = "bbox",
) -> RefereeVerdict:
    """Judge detections by pycocotools, and hold our numbers against it.

    It takes as long as pycocotools does: half a minute for 400,000 detections.

    Args:
        truth, detections, task: as `visionkit.metrics.coco_map.coco_scores` takes them.
        ours: our number by each name of `TWELVE`.

    Raises:
        UsageError, DataError: as `coco_scores`.
    """
    check_task(task)
    theirs = _evaluated(truth, detections, task)
    stats = [None if value == UNDEFINED else float(value) for value in theirs.stats]
    scores = dict(zip(TWELVE, stats, strict=True))
    classes = len(truth.classes)
    objects = truth_columns(truth, task)
    curves = precision_and_recall(objects, judge(objects, detection_columns(truth, detections, task)), classes)
    return RefereeVerdict(
        scores=scores,
        unequal=tuple(name for name in TWELVE if scores[name] != ours[name]),
        values=curves.precision.size + curves.recall.size,
        differing=_differing(curves, theirs, np.argsort(truth.classes.category_ids)),
    )


def _differing(ours: PrecisionRecall, theirs: Any, by_id: Any) -> int:
    """How many values differ. pycocotools has precisions [T, R, K, A, M] at each limit and ours at the highest alone;
    its classes stand by ascending category ids."""
    precision, recall = theirs.eval["precision"][..., -1], theirs.eval["recall"]
    return int((precision != ours.precision[:, :, by_id]).sum() + (recall != ours.recall[:, by_id]).sum())


def _evaluated(truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], task: Task) -> Any:
    """The finished `COCOeval`."""
    from pycocotools.coco import COCO  # noqa: PLC0415 - only where it is asked
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415

    rows = _result_rows(truth, detections, task)
    with redirect_stdout(io.StringIO()):  # it tells of its progress
        annotated = COCO()
        annotated.dataset = coco_file(truth)
        annotated.createIndex()
        if rows:
            found = annotated.loadRes(rows)
        else:  # an empty list, which loadRes stumbles on
            found = COCO()
            found.dataset = {**annotated.dataset, "annotations": []}
            found.createIndex()
        evaluator = COCOeval(annotated, found, task)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def coco_file(truth: AnnotatedImages) -> dict[str, Any]:
    """The parsed COCO file of records. Annotation ids count from 1: of one with the id 0 the match is lost."""
    pairs = [(image.id, annotation) for image in truth.images for annotation in image.annotations]
    return {
        "info": {},
        "images": [{"id": image.id, "width": image.width, "height": image.height} for image in truth.images],
        "categories": truth.classes.to_json(),
        "annotations": [
            {
                "id": number,
                "image_id": image_id,
                "category_id": annotation.category_id,
                "bbox": list(annotation.bbox),
                "area": annotation.area,
                "iscrowd": int(annotation.iscrowd),
                "segmentation": annotation.segmentation or [],
            }
            for number, (image_id, annotation) in enumerate(pairs, start=1)
        ],
    }


def _result_rows(truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], task: Task) -> list[dict[str, Any]]:
    """Copies of the rows, to which loadRes adds keys, with masks as compressed RLEs, which is all that it reads."""
    with_boxes = bool(detections) and bool(detections[0].get("bbox"))
    rows = [
        {
            "image_id": row["image_id"],
            "category_id": row["category_id"],
            "score": float(row["score"]),
            **({"bbox": [float(value) for value in row["bbox"]]} if row.get("bbox") else {}),
        }
        for row in detections
    ]
    if task == "segm" or not with_boxes:
        found = detection_columns(truth, detections, "segm")
        assert found.masks is not None
        for row, mask in zip(found.row.tolist(), found.masks, strict=True):
            rows[row]["segmentation"] = mask
    return rows
