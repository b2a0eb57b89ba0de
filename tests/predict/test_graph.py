"""What an exported graph says of itself, takes and gives: read without any runtime."""

import json
from pathlib import Path

import numpy as np
import pytest

from visionkit.classes import ClassTable
from visionkit.errors import CheckpointError, UsageError
from visionkit.predict.backend import RawClasses, RawDetections, RawMap
from visionkit.predict.graph import GraphCard
from visionkit.predict.tiling import Tiling
from visionkit.score_map import ScoreMap

HERE = Path("model.onnx")
SAID = {
    "schema": "visionkit.onnx/1", "task": "classify", "model": "classifier/resnet18", "imgsz": 224, "stride": 1,
    "iou": None, "sha256": "", "recipe": {},
    "classes": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 8, "name": "eel"}],
}  # fmt: skip
TABLE = ClassTable((3, 7, 8), ("cat", "dog", "eel"))


def card(**other: object) -> GraphCard:
    return GraphCard.read(json.dumps(SAID | other), HERE)


def test_the_card() -> None:
    assert card() == GraphCard("classifier/resnet18", "classify", TABLE, 224, 1, None)
    detector = card(task="detect", iou=0.5, calibration=ScoreMap("temperature", scale=2.0).to_json())
    assert (detector.iou, detector.score_map) == (0.5, ScoreMap("temperature", scale=2.0))
    assert detector.tiling is None
    assert card(task="detect", iou=0.5, recipe={"tile": 640, "overlap": 0.3}).tiling == Tiling(640, 0.3)
    assert card(task="detect", iou=0.5, recipe={"tile": 0, "overlap": 0.3}).tiling is None


def test_the_first_graphs_said_less() -> None:
    text = json.dumps({"classes": SAID["classes"], "imgsz": 320, "model": "yolo/csp-light"})
    assert GraphCard.read(text, HERE) == GraphCard("yolo/csp-light", "detect", TABLE, 320, 32, 0.7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "model.onnx does not say its classes, visionkit's exports do; export the model again"),
        ("", "model.onnx does not say its classes, "),
        ("{", "model.onnx says of itself what cannot be read (JSONDecodeError: "),
        ("[1]", "model.onnx says of itself what cannot be read (TypeError: "),
        ('{"imgsz": 64}', "model.onnx says of itself what cannot be read (KeyError: 'model'); export the model again"),
        (json.dumps(SAID | {"classes": []}), "model.onnx says of itself what cannot be read (DataError: a class"),
        (json.dumps(SAID | {"imgsz": "big"}), "model.onnx says of itself what cannot be read (ValueError: "),
        (json.dumps(SAID | {"recipe": "mine"}), "model.onnx says of itself what cannot be read (AttributeError: "),
        (json.dumps(SAID | {"recipe": {"tile": 5}}), "model.onnx says of itself what cannot be read (UsageError: a ti"),
        (
            json.dumps(SAID | {"schema": "visionkit.onnx/2"}),
            "model.onnx has schema 'visionkit.onnx/2', this version reads 'visionkit.onnx/1'; update visionkit",
        ),
        (
            json.dumps(SAID | {"task": "pose"}),
            "model.onnx says task 'pose', image size 224 and stride 1; export the model again",
        ),
        (json.dumps(SAID | {"stride": 0}), "model.onnx says task 'classify', image size 224 and stride 0; "),
    ],
)
def test_a_card_that_cannot_be_read_is_one_line(text: str | None, words: str) -> None:
    with pytest.raises(CheckpointError) as error:
        GraphCard.read(text, HERE)
    assert str(error.value).startswith(words)


def test_the_side_of_the_images() -> None:
    yolo = card(task="detect", imgsz=320, stride=32)
    free, fixed = ["batch", "height", "width", 3], ["batch", 256, 256, 3]
    assert [yolo.side(asked, free, HERE) for asked in (None, 64, 640)] == [320, 64, 640]
    assert [yolo.side(asked, fixed, HERE) for asked in (None, 256)] == [256, 256]
    with pytest.raises(UsageError, match="image size must be divisible by 32, got 333; use 352"):
        yolo.side(333, free, HERE)
    with pytest.raises(UsageError, match=r"image size must be 256, model\.onnx takes no other, got 320; leave it out"):
        yolo.side(320, fixed, HERE)


def test_thresholds_go_to_detectors_alone_and_the_models_own_iou_where_none_is_given() -> None:
    images = np.zeros((1, 32, 32, 3), np.uint8)
    given = card(task="detect", iou=0.6).inputs(images, score=0.25, iou=None, max_det=5)
    assert {name: (array.dtype, array.tolist()) for name, array in given.items() if name != "images"} == {
        "score": (np.float32, [0.25]), "iou": (np.float32, [np.float32(0.6)]), "max_det": (np.int64, [5]),
    }  # fmt: skip
    assert card(task="detect", iou=0.6).inputs(images, score=0, iou=0.5, max_det=5)["iou"].tolist() == [0.5]
    # A model that suppresses nothing keeps boxes however much they overlap.
    assert card(task="detect", iou=None).inputs(images, score=0, iou=None, max_det=5)["iou"].tolist() == [1]
    assert set(card().inputs(images, score=0.25, iou=None, max_det=5)) == {"images"}


def test_detections_are_handed_to_their_images_in_their_order() -> None:
    found = {
        "boxes": np.arange(12, dtype=np.float32).reshape(3, 4), "scores": np.array([0.9, 0.8, 0.7], np.float32),
        "labels": np.array([2, 0, 1]), "image": np.array([1, 0, 1]),
    }  # fmt: skip
    first, second, third = card(task="detect").outputs(found, 3, score=0.25, max_det=9)
    assert isinstance(first, RawDetections)
    assert isinstance(second, RawDetections)
    assert isinstance(third, RawDetections)
    assert first.boxes.tolist() == [[4, 5, 6, 7]]
    assert second.labels.tolist() == [2, 1]
    assert second.masks is None
    assert third.boxes.shape == (0, 4)
    masks = np.zeros((3, 28, 28), np.float32)
    shapes = [raw.masks.shape for raw in card(task="detect").outputs({**found, "masks": masks}, 2, score=0, max_det=9)]
    assert shapes == [(1, 28, 28), (2, 28, 28)]


@pytest.mark.parametrize(
    ("score", "max_det", "labels"),
    [
        (0.25, 9, [1, 0]),  # 0.6 and 0.3
        (0.3, 9, [1, 0]),  # a score of the threshold is enough
        (0.25, 1, [1]),
        (0.9, 9, [1]),  # the best class always
        (0.0, 9, [1, 0, 2]),
    ],
)
def test_the_classes_that_score_enough(score: float, max_det: int, labels: list[int]) -> None:
    scores = np.array([[0.3, 0.6, 0.1]], np.float32)
    (raw,) = card().outputs({"scores": scores}, 1, score=np.float32(score), max_det=max_det)
    assert isinstance(raw, RawClasses)
    assert raw.labels.tolist() == labels
    assert raw.scores.tolist() == scores[0, labels].tolist()


def test_of_equal_classes_the_lower_label_comes_first() -> None:
    (raw,) = card().outputs({"scores": np.array([[0.4, 0.2, 0.4]], np.float32)}, 1, score=0, max_det=9)
    assert isinstance(raw, RawClasses)
    assert raw.labels.tolist() == [0, 2, 1]


def test_maps_are_handed_on() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    raws = card(task="segment").outputs({"scores": scores}, 2, score=0.25, max_det=9)
    for raw, own in zip(raws, scores, strict=True):
        assert isinstance(raw, RawMap)
        np.testing.assert_array_equal(raw.scores, own)
