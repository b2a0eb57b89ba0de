"""pycocotools as the referee of our COCO scores: parsed COCO files of a few lines, and what it makes of them."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visionkit.classes import ClassTable
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.metrics.coco_map import CocoScores, coco_scores
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
    truth = COCO()
    truth.dataset = copy.deepcopy(ground_truth)
    truth.createIndex()
    results = truth.loadRes(copy.deepcopy(detections))

    def scores(category_ids: list[int]) -> list[float | None]:
        evaluator = COCOeval(truth, results, task)
        evaluator.params.catIds = category_ids
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        return [None if value == -1 else value for value in evaluator.stats]

    of_class = {category["name"]: scores([category["id"]]) for category in truth.cats.values()}
    return scores(truth.getCatIds()), {name: [s[0], s[1], s[2], s[8]] for name, s in of_class.items()}


def assert_equal_to_pycocotools(ground_truth: dict[str, Any], detections: Rows, task: str) -> CocoScores:
    """Our scores, to the last bit those of pycocotools."""
    scores = coco_scores(truth_of(ground_truth), detections, task)
    expected, expected_per_class = pycocotools_scores(ground_truth, detections, task)
    assert twelve(scores) == expected
    assert {name: [c.AP, c.AP50, c.AP75, c.AR100] for name, c in scores.per_class.items()} == expected_per_class
    return scores


def own_boxes(truth: AnnotatedImages) -> Rows:
    """Every annotation as a detection that is sure of itself."""
    return [
        detection(annotation.bbox, 1.0, image.id, annotation.category_id)
        for image in truth.images
        for annotation in image.annotations
    ]
