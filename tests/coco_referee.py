"""pycocotools as the referee of our COCO scores: parsed COCO files of a few lines, and what it makes of them."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visionkit.classes import ClassTable
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.metrics.coco_columns import detection_columns, truth_columns
from visionkit.metrics.coco_map import CocoScores, coco_scores
from visionkit.metrics.coco_precision import judge, precision_and_recall
from visionkit.metrics.referee import TWELVE

Rows = list[dict[str, Any]]


def truth_of(ground_truth: dict[str, Any]) -> AnnotatedImages:
    """The records of a parsed COCO file, as it is: nothing clipped, nothing refused."""
    by_image: dict[int, list[Annotation]] = {image["id"]: [] for image in ground_truth["images"]}
    for row in ground_truth["annotations"]:
        by_image[row["image_id"]].append(
            Annotation(
                id=row["id"],
                category_id=row["category_id"],
                bbox=tuple(row["bbox"]),
                area=row["area"],
                iscrowd=bool(row["iscrowd"]),
                segmentation=row.get("segmentation"),
            )
        )
    return AnnotatedImages(
        classes=ClassTable.of_categories((c["id"], c["name"]) for c in ground_truth["categories"]),
        images=tuple(
            ImageRecord(i["id"], i.get("file_name", ""), None, i["width"], i["height"], tuple(by_image[i["id"]]))
            for i in ground_truth["images"]
        ),
        source=Path("truth.json"),
    )


def truth_with(
    *annotations: dict[str, Any], images: int = 1, categories: Sequence[tuple[int, str]] = ((1, "cell"),)
) -> dict[str, Any]:
    """A parsed COCO file of 640 x 480 images with ids 1, 2, ...; annotations name what differs from the usual."""
    usual = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    return {
        "images": [{"id": i + 1, "width": 640, "height": 480} for i in range(images)],
        "categories": [{"id": i, "name": name} for i, name in categories],
        "annotations": [
            {"id": n + 1, "area": a["bbox"][2] * a["bbox"][3], **usual, **a} for n, a in enumerate(annotations)
        ],
    }


def detection(
    bbox: Sequence[float], score: float, image_id: int = 1, category_id: int = 1, **more: object
) -> dict[str, Any]:
    """A COCO results row."""
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox), "score": score, **more}


def twelve(scores: CocoScores) -> list[float | None]:
    """The scores in pycocotools' order."""
    return [getattr(scores, name) for name in TWELVE]


def pycocotools_scores(
    ground_truth: dict[str, Any], detections: Rows, task: str
) -> tuple[list[float | None], dict[str, list[float | None]]]:
    """The 12 numbers, and by class name AP, AP50, AP75 and AR100, of pycocotools used as its manual says."""
    whole, of_class = _evaluated(ground_truth, detections, task)
    stats = {name: _stats(evaluator) for name, evaluator in of_class.items()}
    return _stats(whole), {name: [s[0], s[1], s[2], s[8]] for name, s in stats.items()}


def _evaluated(ground_truth: dict[str, Any], detections: Rows, task: str) -> tuple[COCOeval, dict[str, COCOeval]]:
    """Of all classes, and of each by its name."""
    truth = COCO()
    truth.dataset = copy.deepcopy(ground_truth)
    truth.createIndex()
    results = truth.loadRes(copy.deepcopy(detections))

    def evaluator(category_ids: list[int]) -> COCOeval:
        made = COCOeval(truth, results, task)
        made.params.catIds = category_ids
        made.evaluate()
        made.accumulate()
        made.summarize()
        return made

    return evaluator(truth.getCatIds()), {c["name"]: evaluator([c["id"]]) for c in truth.cats.values()}


def _stats(evaluator: COCOeval) -> list[float | None]:
    return [None if value == -1 else value for value in evaluator.stats]


def assert_equal_to_pycocotools(ground_truth: dict[str, Any], detections: Rows, task: str) -> CocoScores:
    """Our scores, to the last bit those of pycocotools, and so are all precisions and recalls they are made of."""
    truth = truth_of(ground_truth)
    scores = coco_scores(truth, detections, task)
    whole, of_class = _evaluated(ground_truth, detections, task)
    assert twelve(scores) == _stats(whole)
    for name, evaluator in of_class.items():
        ours, theirs = scores.per_class[name], _stats(evaluator)
        own = [ours.AP, ours.AP50, ours.AP75, ours.AR100]
        assert own == [*theirs[:3], theirs[8]]
    objects = truth_columns(truth, task)
    judged = judge(objects, detection_columns(truth, detections, task))
    curves = precision_and_recall(objects, judged, len(truth.classes))
    by_id = np.argsort(truth.classes.category_ids)  # theirs stand so, and have precisions at each limit of detections
    assert (curves.precision[:, :, by_id] == whole.eval["precision"][..., -1]).all()
    assert (curves.recall[:, by_id] == whole.eval["recall"]).all()
    return scores


def own_boxes(truth: AnnotatedImages) -> Rows:
    """Every annotation as a detection that is sure of itself."""
    return [
        detection(annotation.bbox, 1.0, image.id, annotation.category_id)
        for image in truth.images
        for annotation in image.annotations
    ]
