"""A result as others read it: schema `visionkit.result/1`."""

import json

import numpy as np

from visionkit.classes import ClassTable
from visionkit.result import Result

CLASSES = ClassTable((3, 17, 90), ("car", "cat", "toothbrush"))


def result(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Result:
    return Result(
        path="photos/a.jpg",
        width=640,
        height=480,
        classes=CLASSES,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        labels=np.array(labels, np.int64),
        model_name="yolo/csp-light",
        model_sha256="ab" * 32,
        milliseconds={"read": 1.2345, "model": 10.0},
    )


def test_json_by_hand() -> None:
    found = result([[1.005, 2, 30.123456, 40], [0, 0, 5, 5]], [0.9, 0.123456789], [1, 0])
    assert found.to_json() == {
        "schema": "visionkit.result/1",
        "task": "detect",
        "image": {"path": "photos/a.jpg", "width": 640, "height": 480},
        "model": {"name": "yolo/csp-light", "sha256": "ab" * 32},
        "items": [
            # The float32 nearest 1.005 is 1.00499999523: it rounds down.
            {"bbox": [1.0, 2.0, 30.12, 40.0], "score": 0.9, "label": 1, "category_id": 17, "name": "cat"},
            {"bbox": [0.0, 0.0, 5.0, 5.0], "score": 0.12346, "label": 0, "category_id": 3, "name": "car"},
        ],
        "milliseconds": {"read": 1.23, "model": 10.0},
    }


def test_json_holds_nothing_but_json() -> None:
    found = result([[1, 2, 3, 4]], [0.5], [2]).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_nothing_found() -> None:
    empty = result([], [], [])
    assert len(empty) == 0
    assert empty.counts() == {}
    assert empty.to_json()["items"] == []


def test_counts_are_by_class_in_the_order_of_labels() -> None:
    found = result([[0, 0, 1, 1]] * 4, [0.9, 0.8, 0.7, 0.6], [2, 0, 2, 2])
    assert len(found) == 4
    assert list(found.counts().items()) == [("car", 1), ("toothbrush", 3)]


def test_a_classification_has_classes_without_boxes() -> None:
    found = Result("a.jpg", 64, 48, CLASSES, np.zeros((0, 4), np.float32), np.array([0.75, 0.25], np.float32),
                   np.array([2, 0]), task="classify")  # fmt: skip
    assert found.to_json()["task"] == "classify"
    assert found.to_json()["items"] == [
        {"score": 0.75, "label": 2, "category_id": 90, "name": "toothbrush"},
        {"score": 0.25, "label": 0, "category_id": 3, "name": "car"},
    ]
