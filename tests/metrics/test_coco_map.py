# ruff: noqa: SIM300  (it takes the names AP, AR for constants)
"""COCO scores: by hand on small data. `test_coco_map_referee` holds them against pycocotools."""

import copy
import json

import numpy as np
import pytest
from coco_referee import TWELVE, detection, truth_of, truth_with, twelve
from pycocotools import mask as coco_mask

from visionkit.classes import ClassTable
from visionkit.errors import DataError, UsageError
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_map import coco_scores

# By hand

BIG = [[0, 0, 100, 100], [110, 0, 100, 100], [220, 0, 100, 100], [330, 0, 100, 100]]  # area 10000: large
NOWHERE = [0, 300, 100, 100]


def test_average_precision_by_hand():
    truth = truth_of(truth_with(*({"bbox": box} for box in BIG)))
    scores = coco_scores(truth, [detection(BIG[0], 0.9), detection(NOWHERE, 0.8), detection(BIG[1], 0.7)])
    # score  hit  recall  precision
    #  0.9   yes   1/4     1/1
    #  0.8   no    1/4     1/2
    #  0.7   yes   2/4     2/3
    # Best precision at this recall or more: 1 at recalls 0.00 ... 0.25 (26 of the 101 points), 2/3 at
    # 0.26 ... 0.50 (25 points), 0 beyond. Hits are exact, so every IoU threshold gives the same.
    expected = (26 * 1 + 25 * 2 / 3) / 101
    assert scores.AP == pytest.approx(expected, abs=1e-12)
    assert (scores.AP50, scores.AP75, scores.APl) == pytest.approx((expected,) * 3, abs=1e-12)
    assert (scores.AR1, scores.AR10, scores.AR100, scores.ARl) == (1 / 4, 2 / 4, 2 / 4, 2 / 4)
    assert (scores.APs, scores.APm, scores.ARs, scores.ARm) == (None, None, None, None)  # all objects are large
    assert scores.per_class["cell"].AP == scores.AP
    assert (scores.per_class["cell"].objects, scores.per_class["cell"].detections) == (4, 3)


def test_iou_thresholds_by_hand():
    truth = truth_of(truth_with({"bbox": [0, 0, 100, 100]}))
    scores = coco_scores(truth, [detection([0, 0, 100, 72], 0.9)])
    # IoU 7200 / 10000 = 0.72: a hit at 0.50, 0.55, 0.60, 0.65, 0.70, none at the five thresholds above.
    assert scores.AP == pytest.approx(5 / 10)
    assert (scores.AP50, scores.AP75) == (pytest.approx(1), 0)
    assert scores.AR100 == scores.per_class["cell"].AR100 == 5 / 10
    assert scores.mean_iou_matched == 0.72


def test_area_comes_from_the_record_not_from_the_box():
    truth = truth_of(truth_with({"bbox": [0, 0, 100, 100], "area": 1000}))  # small: below 32 * 32 = 1024
    scores = coco_scores(truth, [detection([0, 0, 100, 100], 0.9)])
    assert (scores.APs, scores.APl) == (pytest.approx(1), None)


def test_a_detection_in_a_crowd_region_is_no_mistake():
    on_object, in_crowd = detection(BIG[0], 0.8), detection([350, 20, 50, 50], 0.9)
    crowd = {"bbox": [300, 0, 200, 200], "iscrowd": 1}
    with_crowd = coco_scores(truth_of(truth_with({"bbox": BIG[0]}, crowd)), [on_object, in_crowd])
    assert with_crowd.AP == pytest.approx(1)
    assert with_crowd.per_class["cell"].objects == 1
    # Without the crowd region it is a false positive ahead of the only hit: precision 1/2 at every recall.
    without = coco_scores(truth_of(truth_with({"bbox": BIG[0]})), [on_object, in_crowd])
    assert without.AP == pytest.approx(1 / 2)


def test_only_crowd_is_no_truth():
    scores = coco_scores(truth_of(truth_with({"bbox": BIG[0], "iscrowd": 1})), [detection(BIG[0], 0.9)])
    assert twelve(scores) == [None] * 12
    assert scores.mean_iou_matched is None


def test_equal_scores_keep_the_order_given():
    truth = truth_of(truth_with({"bbox": BIG[0]}))
    hit, miss = detection(BIG[0], 0.5), detection(NOWHERE, 0.5)
    assert coco_scores(truth, [hit, miss]).AP == pytest.approx(1)
    assert coco_scores(truth, [miss, hit]).AP == pytest.approx(1 / 2)


def test_a_second_detection_of_an_object_is_a_false_positive():
    truth = truth_of(truth_with({"bbox": BIG[0]}, {"bbox": BIG[1]}))
    scores = coco_scores(truth, [detection(BIG[0], 0.9), detection(BIG[0], 0.8), detection(BIG[1], 0.7)])
    # Recall 1/2 at precision 1 (51 points: 0.00 ... 0.50), recall 1 at precision 2/3 (50 points).
    assert scores.AP == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_detections_beyond_the_best_hundred_do_not_count():
    truth = truth_of(truth_with({"bbox": BIG[0]}))
    misses = [detection(NOWHERE, 0.9)] * 100
    assert coco_scores(truth, [*misses, detection(BIG[0], 0.1)]).AP == 0
    # Among the first hundred it is found, at precision 1/100.
    assert coco_scores(truth, [*misses[1:], detection(BIG[0], 0.1)]).AP == pytest.approx(1 / 100)


def test_category_ids_with_gaps_keep_their_names():
    categories = ((90, "toothbrush"), (3, "car"), (17, "cat"))
    truth = truth_of(
        truth_with({"bbox": BIG[0], "category_id": 90}, {"bbox": BIG[1], "category_id": 3}, categories=categories)
    )
    scores = coco_scores(truth, [detection(BIG[0], 0.9, category_id=90), detection(BIG[1], 0.9, category_id=90)])
    # toothbrush: the only object is found first. car: its only object is missed. cat has none and is left out.
    assert list(scores.per_class) == ["car", "cat", "toothbrush"]
    assert [scores.per_class[name].AP for name in ("car", "cat", "toothbrush")] == [0, None, pytest.approx(1)]
    assert scores.AP == pytest.approx((0 + 1) / 2)


def test_the_class_table_need_not_be_in_the_order_of_ids():
    truth = truth_of(truth_with({"bbox": BIG[0], "category_id": 7}, categories=((7, "cat"), (2, "dog"))))
    unordered = AnnotatedImages(ClassTable((7, 2), ("cat", "dog")), truth.images, truth.source)
    scores = coco_scores(unordered, [detection(BIG[0], 0.9, category_id=7)])
    assert list(scores.per_class) == ["cat", "dog"]
    assert [of_class.AP for of_class in scores.per_class.values()] == [pytest.approx(1), None]


def test_detections_in_background_images_are_false_positives():
    truth = truth_of(truth_with({"bbox": BIG[0]}, images=3))
    scores = coco_scores(truth, [detection(BIG[0], 0.8), detection(BIG[0], 0.9, image_id=3)])
    assert scores.images == 3
    assert scores.AP == pytest.approx(1 / 2)


def test_no_detections_score_zero():
    scores = coco_scores(truth_of(truth_with({"bbox": BIG[0]}, categories=((1, "cell"), (2, "ghost")))), [])
    assert (scores.AP, scores.AP50, scores.APl, scores.AR100) == (0, 0, 0, 0)
    assert (scores.APs, scores.mean_iou_matched) == (None, None)
    assert (scores.per_class["cell"].AP, scores.per_class["ghost"].AP) == (0, None)


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_no_truth_is_not_defined(task):
    mask = {"segmentation": rle(slice(0, 10), slice(0, 10))}
    for detections in ([], [detection(BIG[0], 0.9, **mask)]):
        scores = coco_scores(truth_of(truth_with()), detections, task)
        assert twelve(scores) == [None] * 12
        assert scores.per_class["cell"].AP is None


def test_annotation_id_zero_is_not_lost():
    # pycocotools marks a detection with the id of its match, and reads 0 as no match.
    truth = truth_of(truth_with({"bbox": BIG[0], "id": 0}))
    assert coco_scores(truth, [detection(BIG[0], 0.9)]).AP == pytest.approx(1)


# Masks


def rle(rows: slice, columns: slice) -> dict:
    """The rectangle of these rows and columns in an image of 480 x 640, as pycocotools writes it into JSON."""
    mask = np.zeros((480, 640), np.uint8, order="F")
    mask[rows, columns] = 1
    encoded = coco_mask.encode(mask)
    return {"size": [480, 640], "counts": encoded["counts"].decode()}


def test_masks_are_compared_not_their_boxes():
    truth = truth_with({"bbox": [0, 0, 100, 100], "area": 6000, "segmentation": rle(slice(0, 100), slice(0, 60))})
    found = [detection([0, 0, 100, 100], 0.9, segmentation=rle(slice(0, 100), slice(0, 100)))]
    # Masks: 60 * 100 of 100 * 100 pixels, IoU 0.6: a hit at 0.50, 0.55 and 0.60. Boxes are equal.
    assert coco_scores(truth_of(truth), found, "segm").AP == pytest.approx(3 / 10)
    assert coco_scores(truth_of(truth), found, "segm").mean_iou_matched == 0.6
    assert coco_scores(truth_of(truth), found, "bbox").AP == pytest.approx(1)


def test_polygons_and_both_kinds_of_rle_are_the_same_mask():
    square = rle(slice(10, 60), slice(20, 100))
    # Column by column: 20 empty columns and 10 pixels, then 50 pixels of the square in each of 80 columns.
    runs = [20 * 480 + 10, *[50, 430] * 79, 50]
    uncompressed = {"size": [480, 640], "counts": [*runs, 480 * 640 - sum(runs)]}
    polygon = [[20, 10, 100, 10, 100, 60, 20, 60]]
    for segmentation in (square, uncompressed, polygon):
        truth = truth_of(truth_with({"bbox": [20, 10, 80, 50], "segmentation": segmentation}))
        for found in (square, uncompressed, polygon):
            row = {"image_id": 1, "category_id": 1, "score": 0.9, "segmentation": found}
            assert coco_scores(truth, [row], "segm").mean_iou_matched == 1
            assert coco_scores(truth, [row], "bbox").mean_iou_matched == 1  # by the box of the mask


# What cannot be judged


@pytest.mark.parametrize(
    ("bad", "task", "message"),
    [
        ({"image_id": 99}, "bbox", "detections name 1 image ids that truth.json lacks (99); judge them"),
        ({"category_id": 5}, "bbox", "detections name 1 category ids that truth.json lacks (5); judge them"),
        ({"bbox": [0, 0, float("nan"), 5]}, "bbox", "detection 1 (image 1) has a bbox or score that is not finite"),
        ({"score": float("nan")}, "bbox", "detection 1 (image 1) has a bbox or score that is not finite"),
        ({"bbox": None}, "bbox", "detection 1 (image 1) has no bbox, and the first detection has one; give all"),
        ({"bbox": [0, 0, 5]}, "bbox", "detection 1 (image 1) has a bbox of 3 numbers, it must be four: x, y, width"),
        ({}, "segm", "detection 1 (image 1) has no segmentation, which comparing masks needs; compare boxes"),
        (
            {"segmentation": {"size": [640, 480], "counts": "0"}},
            "segm",
            "detection 1 (image 1) has a mask of size [640, 480], height and width of its image are [480, 640]; make",
        ),
    ],
)
def test_detections_that_cannot_be_judged(bad, task, message):
    mask = rle(slice(0, 100), slice(0, 100))
    truth = truth_of(truth_with({"bbox": BIG[0], "segmentation": mask}))
    with pytest.raises(DataError) as error:
        coco_scores(truth, [detection(BIG[0], 0.9, segmentation=mask), {**detection(BIG[0], 0.9), **bad}], task)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_masks_need_masks_in_the_truth():
    with pytest.raises(DataError, match="annotation 1 of image 1 has no segmentation, which comparing masks needs"):
        coco_scores(truth_of(truth_with({"bbox": BIG[0]})), [], "segm")


def test_unknown_task():
    with pytest.raises(UsageError, match="task must be one of bbox, segm, got 'keypoints'; choose"):
        coco_scores(truth_of(truth_with()), [], "keypoints")


# Manners


def test_json_has_the_keys_of_evaluate_and_null_for_undefined():
    scores = coco_scores(truth_of(truth_with({"bbox": BIG[0]})), [detection(BIG[0], 0.9)])
    as_json = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert list(as_json) == ["task", "images", *TWELVE, "mean_iou_matched", "per_class", "interval95"]
    assert (as_json["task"], as_json["images"], as_json["APs"]) == ("bbox", 1, None)
    assert list(as_json["per_class"]["cell"]) == ["AP", "AP50", "AP75", "AR100", "objects", "detections"]


def test_the_rows_handed_in_stay_as_they_are():
    truth, found = truth_of(truth_with({"bbox": BIG[0]})), [detection(BIG[0], 0.9)]
    before = copy.deepcopy((truth, found))
    coco_scores(truth, found)
    assert (truth, found) == before
