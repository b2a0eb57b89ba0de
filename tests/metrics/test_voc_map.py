"""VOC's average precision: by hand, and against loops that follow the development kit step by step."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from coco_referee import Rows, detection, truth_of, truth_with

from visionkit.errors import UsageError
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.voc_map import area_ap, eleven_point_ap, voc_scores

BOXES = [[0, 0, 100, 100], [110, 0, 100, 100], [220, 0, 100, 100], [330, 0, 100, 100]]
NOWHERE = [0, 300, 100, 100]


def truth(*annotations: dict[str, Any], **more: Any) -> AnnotatedImages:
    return truth_of(truth_with(*annotations, **more))


def test_average_precision_by_hand():
    found = [detection(BOXES[0], 0.9), detection(NOWHERE, 0.8), detection(BOXES[1], 0.7)]
    scores = voc_scores(truth(*({"bbox": box} for box in BOXES)), found)
    # score  hit  recall  precision
    #  0.9   yes   1/4     1/1
    #  0.8   no    1/4     1/2
    #  0.7   yes   2/4     2/3
    # 11 points: 1 at recalls 0, 0.1, 0.2; 2/3 at 0.3, 0.4, 0.5; 0 at the 5 beyond. Area: 1/4 * 1 + 1/4 * 2/3.
    assert scores.AP_11_point == pytest.approx((3 + 3 * 2 / 3) / 11)
    assert scores.AP_area == pytest.approx(1 / 4 + 1 / 6)
    of_class = scores.per_class["cell"]
    assert (of_class.AP_11_point, of_class.AP_area) == (scores.AP_11_point, scores.AP_area)
    assert (of_class.objects, of_class.detections) == (4, 3)


def test_a_later_precision_may_be_the_best():
    # miss, hit, hit, of 2 objects: precision 1/2, then 2/3, which counts at every recall.
    is_hit = np.array([False, True, True])
    assert eleven_point_ap(is_hit, ~is_hit, 2) == pytest.approx(2 / 3)
    assert area_ap(is_hit, ~is_hit, 2) == pytest.approx(2 / 3)


@pytest.mark.parametrize("objects", range(1, 40))
def test_eleven_points_are_met_exactly(objects):
    # Of 10 objects 3 make a recall of 0.3, which as a float, 3 * 0.1, is 0.30000000000000004.
    for hits in range(objects + 1):
        is_hit = np.ones(hits, np.bool_)
        reached = sum(10 * hits >= k * objects for k in range(11)) if hits else 0
        assert eleven_point_ap(is_hit, ~is_hit, objects) == pytest.approx(reached / 11)


def test_the_object_that_is_overlapped_most_decides():
    # Objects of rows 0-100 and 20-120. The second detection, rows 4-104, overlaps the first by 96 / 104, the second by
    # 84 / 116 = 0.72. The first is taken, so it is a mistake; COCO would give it the second.
    two = truth({"bbox": [0, 0, 100, 100]}, {"bbox": [0, 20, 100, 100]})
    scores = voc_scores(two, [detection([0, 0, 100, 100], 0.9), detection([0, 4, 100, 100], 0.8)])
    assert scores.AP_area == pytest.approx(1 / 2)


def test_of_equal_overlaps_the_first_object_decides():
    # Both objects are the same, so both detections belong to the first.
    two = truth({"bbox": BOXES[0]}, {"bbox": BOXES[0]})
    assert voc_scores(two, [detection(BOXES[0], 0.9), detection(BOXES[0], 0.8)]).AP_area == pytest.approx(1 / 2)


def test_difficult_objects_are_no_mistake_and_no_merit():
    data = truth({"bbox": BOXES[0]}, {"bbox": BOXES[1], "iscrowd": 1})
    on_difficult = [detection(BOXES[1], 0.9), detection(BOXES[1], 0.8)]
    scores = voc_scores(data, [*on_difficult, detection(BOXES[0], 0.7)])
    assert (scores.AP_11_point, scores.AP_area) == (1, 1)
    assert scores.per_class["cell"].objects == 1
    # A quarter of a difficult object is inside of it, but its IoU is 0.25: a mistake ahead of the hit.
    inside = detection([110, 0, 50, 50], 0.9)
    assert voc_scores(data, [inside, detection(BOXES[0], 0.7)]).AP_area == pytest.approx(1 / 2)


def test_the_threshold_of_iou():
    one, found = truth({"bbox": BOXES[0]}), [detection([0, 0, 100, 50], 0.9)]
    assert [voc_scores(one, found, iou).AP_area for iou in (0.5, 0.51)] == [1, 0]
    assert voc_scores(one, [detection(BOXES[0], 0.9)], 1).AP_area == 1
    for wrong in (0, 1.1):
        with pytest.raises(UsageError, match=f"above 0 and at most 1, got {wrong}; use 0.5"):
            voc_scores(one, found, wrong)


def test_classes_without_objects_are_left_out_of_the_mean():
    categories = ((3, "car"), (7, "cat"), (9, "bus"))
    data = truth(
        {"bbox": BOXES[0], "category_id": 3}, {"bbox": BOXES[1], "category_id": 9}, categories=categories, images=2
    )
    scores = voc_scores(data, [detection(BOXES[0], 0.9, category_id=3), detection(BOXES[0], 0.9, category_id=7)])
    assert [scores.per_class[name].AP_area for name in ("car", "cat", "bus")] == [1, None, 0]
    assert (scores.AP_area, scores.AP_11_point, scores.images) == (1 / 2, 1 / 2, 2)


def test_nothing_found_and_nothing_there():
    assert voc_scores(truth({"bbox": BOXES[0]}), []).AP_area == 0
    scores = voc_scores(truth(), [detection(BOXES[0], 0.9)])
    assert json.loads(json.dumps(scores.to_json())) == {
        "images": 1,
        "iou": 0.5,
        "AP_11_point": None,
        "AP_area": None,
        "per_class": {"cell": {"AP_11_point": None, "AP_area": None, "objects": 0, "detections": 1}},
    }


def iou(a: list[float], b: list[float]) -> float:
    width = max(min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]), 0)
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def slow_ap(annotations: Rows, rows: Rows) -> tuple[float, float]:
    """11 points and area, of one class: a detection at a time, with the sum over steps of recall."""
    objects = sum(not row["iscrowd"] for row in annotations)
    taken, hits, misses = set(), 0, 0
    points = []  # (recall, precision) after each detection
    for row in sorted(rows, key=lambda row: -row["score"]):
        best, g = 0.0, -1
        for n, other in enumerate(annotations):
            if other["image_id"] == row["image_id"] and iou(row["bbox"], other["bbox"]) > best:
                best, g = iou(row["bbox"], other["bbox"]), n
        if best >= 0.5 and annotations[g]["iscrowd"]:
            continue
        if best >= 0.5 and g not in taken:
            taken.add(g)
            hits += 1
        else:
            misses += 1
        points.append((hits / objects, hits / (hits + misses)))
    eleven = sum(max((p for r, p in points if r >= k / 10), default=0) for k in range(11)) / 11
    recalls = sorted({0.0, *(r for r, _ in points)})
    return eleven, sum((high - low) * max(p for r, p in points if r >= high) for low, high in pairwise(recalls))


@pytest.mark.parametrize("seed", range(5))
def test_random_detections_as_loops_have_it(seed):
    rng = np.random.default_rng(seed)
    annotations, rows = [], []
    for image_id in range(1, 8):
        for _ in range(rng.integers(1, 6)):
            about = {"image_id": image_id, "category_id": int(rng.integers(1, 3))}
            box = [*rng.uniform(0, 100, 2).tolist(), *rng.uniform(30, 90, 2).tolist()]
            annotations.append({"bbox": box, "iscrowd": int(rng.random() < 0.2), **about})
            for _ in range(rng.integers(0, 4)):
                near = np.array(box) + rng.normal(0, 6, 4)
                rows.append(detection(near.tolist(), float(rng.random()), **about))
        rows.append(detection(NOWHERE, float(rng.random()), image_id=image_id))
    scores = voc_scores(truth(*annotations, images=8, categories=((1, "a"), (2, "b"))), rows)
    for category_id, name in ((1, "a"), (2, "b")):
        own = [[row for row in some if row["category_id"] == category_id] for some in (annotations, rows)]
        of_class = scores.per_class[name]
        assert (of_class.AP_11_point, of_class.AP_area) == pytest.approx(slow_ap(*own), abs=1e-12)
        assert 0.1 < of_class.AP_area < 0.99
