"""Which class is taken for which: by hand, and by a loop that reads like the rule."""

from __future__ import annotations

import numpy as np
import pytest
from coco_referee import Rows, detection, truth_of, truth_with

from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.detection_confusion import NOTHING, detection_confusion

HERE, THERE, NOWHERE = [0, 0, 40, 40], [100, 100, 40, 40], [300, 300, 40, 40]
CATEGORIES = ((5, "a"), (9, "b"))


def truth(*annotations: dict[str, object], images: int = 1) -> AnnotatedImages:
    return truth_of(truth_with(*annotations, images=images, categories=CATEGORIES))  # type: ignore[arg-type]


def test_by_hand() -> None:
    there = truth({"bbox": HERE, "category_id": 5}, {"bbox": THERE, "category_id": 9})
    found = [
        detection(HERE, 0.9, category_id=9),  # an a called b
        detection(NOWHERE, 0.8, category_id=5),  # background called a
        detection(HERE, 0.7, category_id=5),  # right, but too late: the a is taken
        detection(THERE, 0.1, category_id=9),  # below the threshold
    ]
    result = detection_confusion(there, found)
    #                              a  b  missed
    assert result.counts.tolist() == [[0, 1, 0], [0, 0, 1], [2, 0, 0]]
    assert result.said == (1, NOTHING)
    assert result.meant == (0, NOTHING, NOTHING, NOTHING)
    assert result.counted == (True, True, True, False)


def test_crowds_are_neither_missed_nor_mistaken() -> None:
    there = truth({"bbox": HERE, "category_id": 5, "iscrowd": 1})
    result = detection_confusion(there, [detection(HERE, 0.9, category_id=9)])
    assert result.counts.sum() == 0
    assert result.counted == (False,)


def test_nothing_at_all() -> None:
    assert detection_confusion(truth(), []).counts.tolist() == [[0, 0, 0]] * 3
    assert detection_confusion(truth({"bbox": HERE, "category_id": 5}), []).counts.tolist() == [
        [0, 0, 1],
        [0] * 3,
        [0] * 3,
    ]


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def slow(there: AnnotatedImages, found: Rows) -> list[list[int]]:
    """The rule, a detection at a time."""
    label = {5: 0, 9: 1}
    counts = [[0] * 3 for _ in range(3)]
    for image in there.images:
        free = list(image.annotations)
        rows = [row for row in found if row["image_id"] == image.id and row["score"] >= 0.25]
        for row in sorted(rows, key=lambda row: -row["score"]):
            best = max(free, key=lambda a: iou(row["bbox"], list(a.bbox)), default=None)
            if best is not None and iou(row["bbox"], list(best.bbox)) >= 0.5:
                free.remove(best)
                counts[label[best.category_id]][label[row["category_id"]]] += 1
            else:
                counts[2][label[row["category_id"]]] += 1
        for missed in free:
            counts[label[missed.category_id]][2] += 1
    return counts


@pytest.mark.parametrize("seed", range(20))
def test_equal_to_a_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    annotations, found = [], []
    for image_id in range(1, 6):
        for _ in range(random.integers(0, 6)):
            x, y, w, h = random.uniform([0, 0, 20, 20], [80, 80, 60, 60]).tolist()
            annotations.append({"bbox": [x, y, w, h], "image_id": image_id, "category_id": int(random.choice([5, 9]))})
            for _ in range(random.integers(0, 4)):
                near = (np.array([x, y, w, h]) + random.normal(0, 5, 4)).clip(1).tolist()
                found.append(detection(near, float(random.random()), image_id, int(random.choice([5, 9]))))
    there = truth(*annotations, images=5)
    assert detection_confusion(there, found).counts.tolist() == slow(there, found)
