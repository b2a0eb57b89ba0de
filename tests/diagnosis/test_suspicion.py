"""Labels that a model doubts: by hand, and errors planted in a row of sound labels."""

import numpy as np
from coco_referee import Rows, detection, truth_of, truth_with

from visionkit.diagnosis.suspicion import find_suspicious

HERE, THERE = [10, 10, 40, 40], [200, 200, 40, 40]
CATEGORIES = ((1, "cell"), (2, "other"))


def told(annotations: list[dict[str, object]], found: Rows, images: int = 1) -> list[tuple[str, float]]:
    truth = truth_of(truth_with(*annotations, images=images, categories=CATEGORIES))  # type: ignore[arg-type]
    return [(f.code, round(f.score or 0, 3)) for f in find_suspicious(truth, found)]


def test_a_label_that_is_found_is_not_doubted() -> None:
    assert told([{"bbox": HERE}], [detection(HERE, 0.9)]) == []


def test_a_confident_detection_without_a_label() -> None:
    assert told([{"bbox": HERE}], [detection(HERE, 0.9), detection(THERE, 0.8)]) == [("VK601", 0.8)]
    # Said twice at one place, it is one; and what nobody is sure of accuses nobody.
    twice = [detection(HERE, 0.9), detection(THERE, 0.8), detection([201, 201, 40, 40], 0.7, category_id=2)]
    assert told([{"bbox": HERE}], twice) == [("VK601", 0.8)]
    assert told([{"bbox": HERE}], [detection(HERE, 0.9), detection(THERE, 0.29)]) == []


def test_what_lies_on_a_crowd_is_no_missing_label() -> None:
    crowd = {"bbox": THERE, "iscrowd": 1}
    assert told([{"bbox": HERE}, crowd], [detection(HERE, 0.9), detection(THERE, 0.8)]) == []


def test_a_label_that_the_model_calls_otherwise() -> None:
    # 0.8 for the other class against 0.1 for the labelled one.
    found = [detection(HERE, 0.8, category_id=2), detection(HERE, 0.1)]
    assert told([{"bbox": HERE}], found) == [("VK603", 0.7)]


def test_a_label_where_the_model_sees_nothing_that_it_sees_elsewhere() -> None:
    labels = [{"bbox": HERE, "image_id": i} for i in range(1, 6)]
    found = [detection(HERE, 0.9, image_id=i) for i in range(1, 5)]
    # Four of five labels get 0.9, the median; the last gets nothing.
    assert told(labels, found, images=5) == [("VK602", 0.9)]


def test_of_a_class_that_is_never_found_no_label_stands_out() -> None:
    labels = [{"bbox": HERE, "image_id": i, "category_id": 2} for i in range(1, 6)]
    assert told(labels, [], images=5) == []


def test_planted_errors_come_first() -> None:
    """100 labels that a model finds with scores of 0.5 to 1, of which ten are moved, ten removed, ten renamed."""
    random = np.random.default_rng(0)
    found = [detection(HERE, random.uniform(0.5, 1), image_id=i) for i in range(1, 101)]
    labels = []
    for i in range(1, 101):
        label = {"bbox": HERE, "image_id": i, "category_id": 1}
        if i <= 10:
            label["bbox"] = THERE
        elif i <= 20:
            continue
        elif i <= 30:
            label["category_id"] = 2
        labels.append(label)
    truth = truth_of(truth_with(*labels, images=100, categories=CATEGORIES))
    findings = find_suspicious(truth, found)
    # A moved label is two errors: one where it is and one where it is not.
    assert {f.image_id for f in findings} == set(range(1, 31))
    assert len(findings) == 40
    assert [f.score for f in findings] == sorted((f.score for f in findings), reverse=True)
