"""Labels that a model doubts: by hand, and errors planted in a row of sound labels."""

from collections import Counter

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


def test_planted_errors_are_all_there_is() -> None:
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
    assert Counter(f.code for f in findings) == {"VK601": 20, "VK602": 10, "VK603": 10}
    for code in ("VK601", "VK602", "VK603"):
        scores = [f.score or 0 for f in findings if f.code == code]
        assert scores == sorted(scores, reverse=True)


def test_a_label_beside_its_object() -> None:
    # 40 x 40 px moved by 20: IoU 20 * 40 / (2 * 1600 - 800) = 1/3. One finding, not a label too many and one missing.
    beside = [30, 10, 40, 40]
    assert told([{"bbox": beside}], [detection(HERE, 0.9), detection(beside, 0.2)]) == [("VK604", 0.7)]
    # Not where another label lies on what is seen: the object has its own.
    found = [detection(HERE, 0.9), detection(HERE, 0.9, image_id=2), detection(HERE, 0.9, image_id=3)]
    labels = [{"bbox": HERE, "image_id": i} for i in (1, 2, 3)]
    assert told([*labels, {"bbox": beside}], found, images=3) == [("VK602", 0.9)]
    # Nor of what is seen unsurely, or as another class.
    assert told([{"bbox": beside}], [detection(HERE, 0.29)]) == []
    assert told([{"bbox": beside}], [detection(HERE, 0.9, category_id=2)]) == []


def test_a_finding_says_where_the_model_sees_something() -> None:
    truth = truth_of(truth_with({"bbox": HERE}, categories=CATEGORIES))
    (finding,) = find_suspicious(truth, [detection(HERE, 0.9), detection(THERE, 0.8)])
    assert finding.box == (200, 200, 40, 40)
    assert finding.to_json()["box"] == [200, 200, 40, 40]


def test_a_doubt_that_the_model_often_has_tells_less() -> None:
    # Five cells that nobody labelled, all as sure, and one label of another class. By how many are as sure:
    # 0.9 / (1 + 1/3) = 0.675, 0.9 / (1 + 2/3) = 0.54, 0.45, 0.386, 0.338; the other class 0.5 / (1 + 1/3) = 0.375.
    nowhere = [detection([100 * i, 300, 40, 40], 0.9) for i in range(5)]
    labels = [{"bbox": HERE, "category_id": 2}]
    assert told(labels, [*nowhere, detection(HERE, 0.5)]) == [("VK601", 0.9)] * 4 + [("VK603", 0.5), ("VK601", 0.9)]
