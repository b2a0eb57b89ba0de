"""The published JSON Schema of `visionkit.result/1`: what it takes, what it refuses, where it is to be had.

Beside these, each Result that any test turns into JSON is checked against it (conftest.py).
"""

import copy
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from visionkit.classes import ClassTable
from visionkit.result import SCHEMA, SCHEMA_FILE, Result, Task, result_schema

TABLE = ClassTable((5, 7), ("road", "car"))
MASK = {"size": [8, 8], "counts": "0P2"}


@pytest.fixture
def jsonschema() -> ModuleType:
    module: ModuleType = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    return module


def result(task: Task = "detect", **fields: Any) -> Result:
    boxes = np.array([[1, 2, 3, 4], [0, 0, 8, 8]] if task == "detect" else [], np.float32).reshape(-1, 4)
    common: dict[str, Any] = {
        "path": "a.jpg",
        "width": 8,
        "height": 8,
        "classes": TABLE,
        "boxes": boxes,
        "scores": np.array([1, 0], np.float32),
        "labels": np.array([1, 0]),
        "milliseconds": {"read": 0.0, "model": 12.5},
        "task": task,
    }
    return Result(**(common | fields))


WHY = {
    "settings": {"conf": 0.25, "iou": 0.7, "max_det": 300, "candidates": 3000},
    "counts": {"kept": 1, "suppressed": 1, "below_conf": 90},
    "candidates": [
        {"bbox": [1, 2, 3, 4], "score": 0.5, "label": 1, "category_id": 7, "name": "car", "fate": "kept", "from": {}},
        {
            "bbox": [1, 2, 3, 5],
            "score": None,
            "label": 1,
            "category_id": 7,
            "name": "car",
            "fate": "suppressed",
            "by": 0,
            "iou": 0.8,
            "from": {"stride": 8, "cell": [3, 4], "logit": None},
        },
    ],
}

SOUND: dict[str, Result] = {
    "detections": result(),
    "nothing": result(boxes=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), labels=np.zeros(0, np.int64)),
    "masks": result(masks=(MASK, MASK)),
    "calibrated": result(confidences=np.array([0.5, 0.25], np.float32)),
    "why": result(why=WHY),
    "classes": result("classify", model_name="classifier/resnet18", model_sha256="0f" * 32),
    "map": result("segment", semantic=np.eye(8, dtype=np.uint8)),
}


def test_the_schema_names_the_version() -> None:
    schema = result_schema()
    assert schema["title"] == schema["properties"]["schema"]["const"] == SCHEMA
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_schema_is_a_schema(jsonschema: ModuleType) -> None:
    jsonschema.Draft202012Validator.check_schema(result_schema())


@pytest.mark.parametrize("kind", SOUND)
def test_results_obey_it(kind: str, jsonschema: ModuleType) -> None:
    document = json.loads(json.dumps(SOUND[kind].to_json(), allow_nan=False))
    jsonschema.Draft202012Validator(result_schema()).validate(document)


Change = Callable[[dict[str, Any]], Any]

WRONG: list[tuple[str, str, Change]] = [
    ("another version", "detections", lambda d: d.update(schema="visionkit.result/2")),
    ("no image", "detections", lambda d: d.pop("image")),
    ("no times", "detections", lambda d: d.pop("milliseconds")),
    ("a key that no one knows", "detections", lambda d: d.update(boxes=[])),
    ("an unknown task", "detections", lambda d: d.update(task="caption")),
    ("the items of another task", "detections", lambda d: d.update(task="segment")),
    ("an image without a width", "detections", lambda d: d["image"].pop("width")),
    ("an image of no pixels", "detections", lambda d: d["image"].update(height=0)),
    ("a width that is not whole", "detections", lambda d: d["image"].update(width=8.5)),
    ("half a hash", "detections", lambda d: d["model"].update(sha256="0f")),
    ("times before the start", "detections", lambda d: d["milliseconds"].update(read=-1)),
    ("items by name", "detections", lambda d: d.update(items={})),
    ("a box of three numbers", "detections", lambda d: d["items"][0]["bbox"].pop()),
    ("a box of words", "detections", lambda d: d["items"][0].update(bbox=["1", "2", "3", "4"])),
    ("no box", "detections", lambda d: d["items"][0].pop("bbox")),
    ("a score above 1", "detections", lambda d: d["items"][0].update(score=1.01)),
    ("a score that is true", "detections", lambda d: d["items"][0].update(score=True)),
    ("a label below 0", "detections", lambda d: d["items"][0].update(label=-1)),
    ("an id in words", "detections", lambda d: d["items"][0].update(category_id="7")),
    ("no name", "detections", lambda d: d["items"][0].update(name="")),
    ("a confidence above 1", "calibrated", lambda d: d["items"][0].update(confidence=2)),
    ("a mask without a size", "masks", lambda d: d["items"][0].update(mask={"counts": "0P2"})),
    ("runs that are not compressed", "masks", lambda d: d["items"][0]["mask"].update(counts=[0, 64])),
    ("a class of an image with a box", "classes", lambda d: d["items"][0].update(bbox=[1, 2, 3, 4])),
    ("a map without a mask", "map", lambda d: d["items"][0].pop("mask")),
    ("a share above 1", "map", lambda d: d["items"][0].update(share=1.5)),
    ("an unknown fate", "why", lambda d: d["why"]["candidates"][0].update(fate="lost")),
    ("suppressed by something", "why", lambda d: d["why"]["candidates"][1].pop("by")),
    ("counts of an unknown fate", "why", lambda d: d["why"]["counts"].update(lost=1)),
]


@pytest.mark.parametrize(("kind", "change"), [wrong[1:] for wrong in WRONG], ids=[wrong[0] for wrong in WRONG])
def test_what_is_wrong_is_refused(kind: str, change: Change, jsonschema: ModuleType) -> None:
    document = copy.deepcopy(SOUND[kind].to_json())
    change(document)
    assert not jsonschema.Draft202012Validator(result_schema()).is_valid(document)


def test_the_command_prints_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    from visionkit.cli.info import info

    info(schema=True)
    printed = capsys.readouterr().out
    assert printed == SCHEMA_FILE.read_text(encoding="utf-8")
    assert json.loads(printed) == result_schema()
