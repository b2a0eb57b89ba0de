"""The mean IoU of matched detections: by hand, and against the matches pycocotools makes."""

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visionkit.classes import ClassTable
from visionkit.errors import UsageError
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.metrics.matched_iou import mean_iou_matched

CELL, CLUMP = 1, 4


def truth_with(*images: list[Annotation]) -> AnnotatedImages:
    """Images of 640 x 480 with ids 1, 2, ..."""
    records = tuple(ImageRecord(i, "", None, 640, 480, tuple(objects)) for i, objects in enumerate(images, start=1))
    return AnnotatedImages(ClassTable((CELL, CLUMP), ("cell", "clump")), records, Path("truth.json"))


def obj(*bbox: float, category_id: int = CELL, iscrowd: bool = False, segmentation: object = None) -> Annotation:
    return Annotation(0, category_id, bbox, bbox[2] * bbox[3], iscrowd, segmentation)


def found(*bbox: float, score: float = 0.9, image_id: int = 1, category_id: int = CELL, **more: object) -> dict:
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox), "score": score, **more}


def test_mean_over_matches_by_hand():
    truth = truth_with([obj(0, 0, 10, 10), obj(50, 0, 10, 10)], [obj(0, 0, 10, 10, category_id=CLUMP)], [])
    detections = [
        found(0, 0, 10, 8),  # 80 / 100 = 0.8
        found(50, 0, 10, 4),  # 40 / 100 = 0.4: no match
        found(0, 0, 10, 20, image_id=2, category_id=CLUMP),  # 100 / 200 = 0.5: a match, at the threshold
        found(0, 0, 10, 10, image_id=2),  # of another class: no match
        found(0, 0, 10, 10, image_id=3),  # in a background image: no match
    ]
    assert mean_iou_matched(truth, detections) == pytest.approx((0.8 + 0.5) / 2)
    assert mean_iou_matched(truth, detections, iou=0.6) == pytest.approx(0.8)
    assert mean_iou_matched(truth, detections, iou=0.4) == pytest.approx((0.8 + 0.4 + 0.5) / 3)


def test_highest_score_first_and_each_object_once():
    truth = truth_with([obj(0, 0, 10, 10)])
    loose, tight = found(0, 0, 10, 6, score=0.9), found(0, 0, 10, 10, score=0.8)
    assert mean_iou_matched(truth, [tight, loose]) == pytest.approx(0.6)


def test_a_detection_takes_the_best_object_that_is_free():
    truth = truth_with([obj(0, 0, 10, 10), obj(0, 0, 10, 8)])
    detections = [found(0, 0, 10, 10, score=0.9), found(0, 0, 10, 10, score=0.8)]
    # The first takes the first object (1.0), the second what is left: 80 / 100.
    assert mean_iou_matched(truth, detections) == pytest.approx((1.0 + 0.8) / 2)


def test_of_equal_overlaps_the_last_object_is_taken():
    truth = truth_with([obj(0, 0, 10, 10), obj(4, 0, 10, 10)])
    between, on_the_first = found(2, 0, 10, 10, score=0.9), found(0, 0, 10, 10, score=0.8)
    # `between` overlaps both by 80 / 120; the second object goes to it, and leaves the first for `on_the_first`.
    assert mean_iou_matched(truth, [between, on_the_first]) == pytest.approx((80 / 120 + 1) / 2)


def test_scores_below_the_threshold_do_not_take_part():
    truth = truth_with([obj(0, 0, 10, 10)])
    assert mean_iou_matched(truth, [found(0, 0, 10, 10, score=0.25)]) == 1
    assert mean_iou_matched(truth, [found(0, 0, 10, 10, score=0.2499)]) is None
    assert mean_iou_matched(truth, [found(0, 0, 10, 10, score=0.2499)], score=0.1) == 1


def test_crowd_regions_are_no_objects():
    truth = truth_with([obj(0, 0, 10, 10), obj(50, 0, 10, 10, iscrowd=True)])
    assert mean_iou_matched(truth, [found(0, 0, 10, 7), found(50, 0, 10, 10)]) == pytest.approx(0.7)
    assert mean_iou_matched(truth, [found(50, 0, 10, 10)]) is None


def test_nothing_matched():
    assert mean_iou_matched(truth_with([]), []) is None
    assert mean_iou_matched(truth_with([]), [found(0, 0, 10, 10)]) is None
    assert mean_iou_matched(truth_with([obj(0, 0, 10, 10)]), []) is None


def test_a_box_without_area_matches_nothing():
    assert mean_iou_matched(truth_with([obj(0, 0, 10, 10)]), [found(3, 3, 0, 0)]) is None


def test_equal_regions_match_at_threshold_one():
    # 0.2 + 0.5 - 0.2 is a little less than 0.5, and so the IoU of equal boxes a little less than 1.
    value = mean_iou_matched(truth_with([obj(0.2, 0.2, 0.5, 0.5)]), [found(0.2, 0.2, 0.5, 0.5)], iou=1)
    assert value == pytest.approx(1)
    assert value < 1


def test_masks():
    def rectangle(columns: int) -> dict:
        mask = np.zeros((480, 640), np.uint8, order="F")
        mask[:10, :columns] = 1
        return coco_mask.encode(mask)

    truth = truth_with([obj(0, 0, 10, 10, segmentation=rectangle(10))])
    detections = [found(0, 0, 10, 10, segmentation=rectangle(7))]
    # 70 of 100 pixels, whatever the box says.
    assert mean_iou_matched(truth, detections, task="segm") == 0.7
    assert mean_iou_matched(truth, detections) == 1


@pytest.mark.parametrize("iou", [0, -0.5, 1.01])
def test_iou_out_of_range(iou):
    with pytest.raises(UsageError, match=f"IoU of a match must be above 0 and at most 1, got {iou}; use 0.5"):
        mean_iou_matched(truth_with([]), [], iou=iou)


def test_unknown_task():
    with pytest.raises(UsageError, match="task must be one of bbox, segm, got 'keypoints'"):
        mean_iou_matched(truth_with([]), [], task="keypoints")


def pycocotools_mean_iou(truth: AnnotatedImages, detections: list[dict], iou: float) -> float:
    """The mean IoU of the pairs that pycocotools matches at one threshold, crowd matches left out."""
    annotations = [
        {"id": 1, "image_id": image.id, "category_id": a.category_id, "bbox": list(a.bbox), "area": a.area}
        | {"iscrowd": int(a.iscrowd)}
        for image in truth.images
        for a in image.annotations
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    coco = COCO()
    images = [{"id": image.id} for image in truth.images]
    coco.dataset = {"images": images, "categories": truth.classes.to_json(), "annotations": annotations}
    coco.createIndex()
    results = coco.loadRes([dict(row) for row in detections])
    evaluator = COCOeval(coco, results, "bbox")
    evaluator.params.iouThrs = np.array([iou])
    evaluator.evaluate()
    ious = []
    for image in evaluator.evalImgs:
        if image is None or image["aRng"] != [0, 1e10]:
            continue
        pairs = zip(image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True)
        for detection_id, object_id, ignored in pairs:
            if object_id and not ignored:
                a, b = results.anns[detection_id]["bbox"], coco.anns[int(object_id)]["bbox"]
                ious.append(coco_mask.iou([a], [b], [0])[0, 0])
    return float(np.mean(ious))


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.8])
def test_random_boxes_match_as_in_pycocotools(iou):
    rng = np.random.default_rng(7)
    images, detections = [], []
    for image_id in range(1, 9):
        objects = []
        for _ in range(rng.integers(0, 15)):
            box = [*rng.integers(0, 60, 2).tolist(), *rng.integers(10, 40, 2).tolist()]  # crowded: many rivals, ties
            category_id = int(rng.choice([CELL, CLUMP]))
            objects.append(obj(*box, category_id=category_id, iscrowd=bool(rng.random() < 0.1)))
            for _ in range(3):
                moved = (np.array(box) + rng.integers(-4, 5, 4)).tolist()
                score = float(rng.integers(1, 11) / 10)
                detections.append(found(*moved, score=score, image_id=image_id, category_id=category_id))
        images.append(objects)
    truth = truth_with(*images)
    confident = [row for row in detections if row["score"] >= 0.25]
    expected = pycocotools_mean_iou(truth, confident, iou)
    assert mean_iou_matched(truth, detections, iou=iou) == pytest.approx(expected, abs=1e-12)
