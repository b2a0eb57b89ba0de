# ruff: noqa: SIM300  (it takes the names AP, AR for constants)
"""COCO scores: by hand on small data, and against pycocotools itself, to the last digit."""

import copy
import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from reference_data import reference_data

from visionkit.classes import ClassTable
from visionkit.errors import DataError, UsageError
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.metrics.coco_map import CocoScores, coco_scores

TWELVE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def truth_of(ground_truth: dict) -> AnnotatedImages:
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


def truth_with(*annotations: dict, images: int = 1, categories: tuple[tuple[int, str], ...] = ((1, "cell"),)) -> dict:
    """A parsed COCO file of 640 x 480 images with ids 1, 2, ...; annotations name what differs from the usual."""
    usual = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    return {
        "images": [{"id": i + 1, "width": 640, "height": 480} for i in range(images)],
        "categories": [{"id": i, "name": name} for i, name in categories],
        "annotations": [
            {"id": n + 1, "area": a["bbox"][2] * a["bbox"][3], **usual, **a} for n, a in enumerate(annotations)
        ],
    }


def detection(bbox: list[float], score: float, image_id: int = 1, category_id: int = 1, **more: object) -> dict:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score, **more}


def twelve(scores: CocoScores) -> list[float | None]:
    return [getattr(scores, name) for name in TWELVE]


def pycocotools_scores(ground_truth: dict, detections: list[dict], task: str) -> tuple[list, dict[str, list]]:
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


def assert_equal_to_pycocotools(ground_truth: dict, detections: list[dict], task: str) -> CocoScores:
    scores = coco_scores(truth_of(ground_truth), detections, task)
    expected, expected_per_class = pycocotools_scores(ground_truth, detections, task)
    assert twelve(scores) == expected
    assert {name: [c.AP, c.AP50, c.AP75, c.AR100] for name, c in scores.per_class.items()} == expected_per_class
    return scores


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
    assert list(as_json) == ["task", "images", *TWELVE, "mean_iou_matched", "per_class"]
    assert (as_json["task"], as_json["images"], as_json["APs"]) == ("bbox", 1, None)
    assert list(as_json["per_class"]["cell"]) == ["AP", "AP50", "AP75", "AR100", "objects", "detections"]


def test_the_rows_handed_in_stay_as_they_are():
    truth, found = truth_of(truth_with({"bbox": BIG[0]})), [detection(BIG[0], 0.9)]
    before = copy.deepcopy((truth, found))
    coco_scores(truth, found)
    assert (truth, found) == before


def test_nothing_is_printed_and_other_threads_still_can(capsys):
    truth, found = truth_of(truth_with({"bbox": BIG[0]}, images=50)), [detection(BIG[0], 0.9)]
    stdout, stop = sys.stdout, threading.Event()

    def talk() -> None:
        for count in range(10_000_000):
            print(count)
            if stop.wait(0.0002):
                break

    talker = threading.Thread(target=talk)
    judges = [threading.Thread(target=coco_scores, args=(truth, found)) for _ in range(3)]
    talker.start()
    for judge in judges:
        judge.start()
    for judge in judges:
        judge.join()
    stop.set()
    talker.join()
    assert sys.stdout is stdout
    lines = capsys.readouterr().out.split()
    assert lines == [str(count) for count in range(len(lines))]
    assert len(lines) > 1


# Against pycocotools


def random_case(seed: int) -> tuple[dict, list[dict]]:
    """Crowds, equal scores, background images, a class without objects, images out of order, all object sizes."""
    rng = np.random.default_rng(seed)
    annotations, found = [], []
    for image_id in range(1, 13):
        for _ in range(rng.integers(0, 9)):
            x, y = rng.uniform(0, 300, 2).tolist()
            width, height = np.exp(rng.uniform(np.log(10), np.log(180), 2)).tolist()
            about = {"image_id": image_id, "category_id": int(rng.choice([2, 5, 40]))}
            crowd = int(rng.random() < 0.1)
            annotations.append({"bbox": [x, y, width, height], "iscrowd": crowd, **about})
            for _ in range(rng.integers(0, 4)):
                near = np.array([x, y, width, height]) + rng.normal(0, 0.08, 4) * [width, height, width, height]
                found.append({"bbox": near.tolist(), "score": float(rng.integers(10, 20) / 20), **about})
    for _ in range(150):  # more than a hundred of one class in one image
        box = [*rng.uniform(0, 300, 2).tolist(), *rng.uniform(10, 150, 2).tolist()]
        found.append(detection(box, float(rng.random()), image_id=3, category_id=5))
    rng.shuffle(found)
    truth = truth_with(*annotations, images=14, categories=((2, "a"), (5, "b"), (40, "c"), (41, "none")))
    rng.shuffle(truth["images"])
    return truth, found


@pytest.mark.parametrize("seed", range(4))
def test_random_boxes_give_the_numbers_of_pycocotools(seed):
    scores = assert_equal_to_pycocotools(*random_case(seed), "bbox")
    # A case that decides nothing would prove nothing.
    assert 0.1 < scores.AP < 0.9
    assert None not in twelve(scores)


@pytest.mark.parametrize("with_boxes", [True, False])
def test_random_masks_give_the_numbers_of_pycocotools(with_boxes):
    truth, found = random_case(seed=9)
    for row in [*truth["annotations"], *found]:
        x, y, width, height = row["bbox"]
        ellipse = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        outline = np.stack([x + width / 2 * (1 + np.cos(ellipse)), y + height / 2 * (1 + np.sin(ellipse))], axis=1)
        row["segmentation"] = [outline.ravel().tolist()]
    for row in found:
        (encoded,) = coco_mask.frPyObjects(row["segmentation"], 480, 640)
        row["segmentation"] = {"size": [480, 640], "counts": encoded["counts"].decode()}
        if not with_boxes:
            del row["bbox"]
    for task in ("segm", "bbox"):
        assert 0.05 < assert_equal_to_pycocotools(truth, found, task).AP < 0.9


VAL2014, SAMPLED, SMALL = "instances_val2014_100.json", "sampled_gts_bbox_area.json", "small_gt_dataset.json"
FAKE_BOXES, FAKE_MASKS = "instances_val2014_fakebbox100_results.json", "instances_val2014_fakesegm100_results.json"


@pytest.mark.parametrize(
    ("run", "ground_truth", "results", "task"),
    [
        ("fakebbox100 bbox", VAL2014, FAKE_BOXES, "bbox"),
        ("fakesegm100 segm", VAL2014, FAKE_MASKS, "segm"),
        ("fakesegm100 evaluated as bbox", VAL2014, FAKE_MASKS, "bbox"),
        ("sampled bbox", SAMPLED, "sampled_bbox_results.json", "bbox"),
        ("small bbox", SMALL, "small_dt_dataset.json", "bbox"),
        ("small segm", SMALL, "small_dt_dataset.json", "segm"),
    ],
)
def test_published_cases(run, ground_truth, results, task):
    folder = reference_data("coco-eval-reference")
    expected = json.loads((folder / "expected.json").read_text())["results"][run]
    truth, found = (json.loads((folder / name).read_text()) for name in (ground_truth, results))
    scores = assert_equal_to_pycocotools(truth, found, task)
    names = [name.replace("APs", "APsmall").replace("ARs", "ARsmall") for name in TWELVE]
    names = [name[:2] + {"m": "medium", "l": "large"}.get(name[2:], name[2:]) for name in names]
    assert [-1 if value is None else round(value, 6) for value in twelve(scores)] == [expected[name] for name in names]
    per_class = {name: round(c.AP, 6) for name, c in scores.per_class.items() if c.AP is not None}
    assert per_class == {name: value for name, value in expected["per_class_AP"].items() if value not in (None, -1)}
    assert scores.images == expected["images"]


def test_results_of_images_the_truth_lacks_are_refused():
    folder = reference_data("coco-eval-reference")
    truth, found = (json.loads((folder / f"small_{kind}_ignore_test.json").read_text()) for kind in ("gt", "dt"))
    # The truth's only image has the id "2299", a string; the results (and some annotations) say 2299, a number.
    truth["annotations"] = [row for row in truth["annotations"] if row["image_id"] == "2299"]
    with pytest.raises(DataError, match=r"detections name 1 image ids that truth.json lacks \(2299\)"):
        coco_scores(truth_of(truth), found)
