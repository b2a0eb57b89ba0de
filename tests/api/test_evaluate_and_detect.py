"""`evaluate` of models and of anybody's predictions; `load` and `detect`."""

import importlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import TinyRun, write_blocks

import visionkit
from visionkit.data.dataset import DetectionDataset
from visionkit.engine.events import EvaluationProgress, Event
from visionkit.errors import CheckpointError, DataError, UsageError
from visionkit.formats.coco import read_coco
from visionkit.formats.coco_results import read_results
from visionkit.metrics.coco_map import coco_scores


def refusal(kind: type[Exception], function, *arguments, **options) -> str:
    with pytest.raises(kind) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# Evaluate -------------------------------------------------------------------------------------------------------------


def test_the_predictions_of_a_model_score_as_the_model(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    saved = tmp_path / "predictions.json"
    of_model = visionkit.evaluate(tiny_run.result.best, tiny_data, threads=1, save_predictions=saved)
    annotations = tiny_data / "annotations" / "val.json"
    of_file = visionkit.evaluate_predictions(saved, annotations)
    assert of_file == of_model
    truth = read_coco(annotations)
    assert of_file == coco_scores(truth, read_results(saved, truth), intervals=True)
    assert of_file.AP is not None
    assert of_file.AP > 0.05


def test_what_is_judged_is_what_detect_says(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    saved = tmp_path / "predictions.json"
    visionkit.evaluate(tiny_run.result.best, tiny_data, threads=1, batch=1, amp=False, save_predictions=saved)
    judged = json.loads(saved.read_text())
    truth = read_coco(tiny_data / "annotations" / "val.json")
    assert any(image.width != image.height for image in truth.images)  # whose frames are no squares
    detector = visionkit.load(tiny_run.result.best, device="cpu", threads=1, exact=True)
    for image in truth.images:
        (said,) = detector.detect(tiny_data / "images" / image.file_name, conf=0.001)
        rows = [row for row in judged if row["image_id"] == image.id]
        assert [row["score"] for row in rows] == pytest.approx(said.scores.tolist(), abs=1e-6)
        boxes = np.array([row["bbox"] for row in rows])
        np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:], said.boxes[:, 2:], atol=1e-3)
    assert [row["image_id"] for row in judged] == sorted(row["image_id"] for row in judged)


@pytest.mark.parametrize(
    ("device", "given", "expected"),
    [("cpu", None, 1), ("cpu", 8, 1), ("cpu", 0, 0), ("cuda", 8, 4), ("cuda", 2, 2), ("cuda", None, 4)],
)
def test_a_gpu_that_evaluates_is_read_for_by_several(
    device: str, given: int | None, expected: int, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judging = importlib.import_module("visionkit.api.evaluate")  # the package has the function by this name
    asked: list[int] = []
    monkeypatch.setattr(judging, "evaluation_loader", lambda view, *, workers, **_: asked.append(workers))
    monkeypatch.setattr(judging.os, "cpu_count", lambda: 16)
    data = DetectionDataset(read_coco(tiny_data / "annotations" / "val.json", tiny_data / "images"))
    judging.split_loader(data, 64, 8, given, torch.device(device))
    assert asked == [expected]


def test_a_perfect_prediction_scores_1_and_crowds_need_not_be_found(tiny_data: Path, tmp_path: Path) -> None:
    annotations = tiny_data / "annotations" / "val.json"
    rows = [
        {"image_id": row["image_id"], "category_id": row["category_id"], "bbox": row["bbox"], "score": 0.9}
        for row in json.loads(annotations.read_text())["annotations"]
        if not row["iscrowd"]
    ]
    (tmp_path / "perfect.json").write_text(json.dumps(rows))
    scores = visionkit.evaluate_predictions(tmp_path / "perfect.json", annotations)
    assert (scores.AP, scores.AR100, scores.mean_iou_matched) == (pytest.approx(1), pytest.approx(1), pytest.approx(1))
    assert scores.images == 4
    # 3 pictures with objects, 2 in each, one of them a crowd.
    assert sum(row.objects for row in scores.per_class.values()) == 5


def test_another_split_and_progress(tiny_run: TinyRun, tiny_data: Path) -> None:
    events: list[Event] = []
    said: list[str] = []
    options = {"split": "test", "batch": 1, "threads": 1, "workers": 0}
    scores = visionkit.evaluate(tiny_run.result.best, tiny_data, **options, listen=events.append, say=said.append)
    assert scores.images == 2
    assert events == [EvaluationProgress(1, 2), EvaluationProgress(2, 2)]
    assert any(line.startswith("test: 2 images, ") for line in said)


def test_pictures_show_truth_beside_detections(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    visionkit.evaluate(tiny_run.result.best, tiny_data, threads=1, workers=0, pictures=tmp_path / "pictures")
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in pictures] == [f"val_{i}.png" for i in range(4)]
    height, width = cv2.imread(str(pictures[0])).shape[:2]
    assert width > height  # two side by side


def test_classes_the_model_does_not_know_are_refused_with_a_table(tiny_run: TinyRun, tmp_path: Path) -> None:
    data = write_blocks(tmp_path / "data", {"val": 2}, {5: "blue block", 12: "box"})
    with pytest.raises(DataError) as error:
        visionkit.evaluate(tiny_run.result.best, data)
    assert str(error.value) == (
        f"{tiny_run.result.best} must know all 2 classes of {data / 'annotations' / 'val.json'}, but 1 are not among "
        "its 2 (box); rename classes, or evaluate on data with the model's"
    )
    (table,) = error.value.__notes__
    assert table.splitlines() == [
        "  in the data   in the model",
        "  5 blue block  8 blue block",
        "  12 box        -",
        "  -             3 red block",
    ]


def with_categories(data: Path, categories: dict[int, tuple[int, str]], root: Path) -> Path:
    """The same pictures and val split under other categories: by old id the new id and name; the others are left out,
    and their objects."""
    content = json.loads((data / "annotations" / "val.json").read_text())
    content["annotations"] = [
        {**row, "category_id": categories[row["category_id"]][0]}
        for row in content["annotations"]
        if row["category_id"] in categories
    ]
    content["categories"] = [{"id": i, "name": name} for i, name in categories.values()]
    shutil.copytree(data / "images", root / "images")
    (root / "annotations").mkdir()
    (root / "annotations" / "val.json").write_text(json.dumps(content))
    return root


def test_classes_meet_by_name_and_results_carry_the_ids_of_the_data(
    tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    """The model knows 3 red block, 8 blue block; here blue comes first, and red by another spelling."""
    data = with_categories(tiny_data, {3: (9, "Red_Block"), 8: (1, "blue block")}, tmp_path / "data")
    said: list[str] = []
    best, options = tiny_run.result.best, {"threads": 1, "workers": 0}
    of_own = visionkit.evaluate(best, tiny_data, save_predictions=tmp_path / "own.json", **options)
    scores = visionkit.evaluate(best, data, save_predictions=tmp_path / "other.json", say=said.append, **options)
    assert "Classes: Red_Block in the data is red block in the model" in said
    assert scores.AP == of_own.AP
    assert scores.per_class["Red_Block"] == of_own.per_class["red block"]
    own, other = (json.loads((tmp_path / name).read_text()) for name in ("own.json", "other.json"))
    assert other == [{**row, "category_id": {3: 9, 8: 1}[row["category_id"]]} for row in own]


def test_of_a_model_with_more_classes_only_those_of_the_data_count(
    tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    data = with_categories(tiny_data, {8: (8, "blue block")}, tmp_path / "data")
    said: list[str] = []
    best, options = tiny_run.result.best, {"threads": 1, "workers": 0}
    of_own = visionkit.evaluate(best, tiny_data, **options)
    scores = visionkit.evaluate(best, data, say=said.append, **options)
    assert "Classes: only the 1 of the data count, of 2 the model knows; left out (red block)" in said
    assert list(scores.per_class) == ["blue block"]
    assert scores.per_class["blue block"] == of_own.per_class["blue block"]
    assert scores.AP == of_own.per_class["blue block"].AP


def test_what_evaluate_refuses(tiny_run: TinyRun, tiny_data: Path) -> None:
    best = tiny_run.result.best
    message = refusal(UsageError, visionkit.evaluate, best, tiny_data, split="dev")
    assert message == f"{tiny_data} has no split 'dev'; choose one of train, val, test"
    for options, words in (
        ({"imgsz": 100}, "image size must be divisible by 32, got 100"),
        ({"imgsz": 0}, "image size must be divisible by 32, got 0"),
        ({"imgsz": -64}, "image size must be divisible by 32, got -64"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"batch": -2}, "batch must be at least 1, got -2"),
        ({"iou": 1.5}, "iou must be between 0 and 1, got 1.5; choose a value such as 0.5"),
        ({"task": "boxes"}, "task must be one of bbox, segm, got 'boxes'"),
    ):
        assert words in refusal(UsageError, visionkit.evaluate, best, tiny_data, workers=0, **options)


# Detect ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector(tiny_run: TinyRun) -> visionkit.Detector:
    return visionkit.load(tiny_run.result.best, device="cpu", threads=1)


def test_a_block_is_found_where_it_is(detector: visionkit.Detector, tiny_data: Path) -> None:
    truth = {image.file_name: image for image in read_coco(tiny_data / "annotations" / "train.json").images}
    results = detector.detect(tiny_data / "images" / "train_*.png", conf=0.05)
    assert [Path(result.path).name for result in results] == list(truth)
    right = 0
    for result in results:
        image = truth[Path(result.path).name]
        assert (result.width, result.height) == (image.width, image.height)
        for annotation in image.annotations:
            x, y, w, h = annotation.bbox
            near = (
                np.abs(result.boxes - [x, y, x + w, y + h]).max(axis=1) < 8 if len(result.boxes) else np.zeros(0, bool)
            )
            label = detector.classes.label(annotation.category_id)
            right += bool((near & (result.labels == label)).any())
    assert right >= 9  # of 18: half of what it learnt from


def test_exact_detection_agrees_with_evaluation(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    """The two paths, files one by one and a dataset in batches, give the same boxes."""
    detector = visionkit.load(tiny_run.result.best, device="cpu", threads=1, exact=True)
    saved = tmp_path / "predictions.json"
    options = {"batch": 1, "threads": 1, "workers": 0, "amp": False}
    visionkit.evaluate(tiny_run.result.best, tiny_data, save_predictions=saved, **options)
    truth = read_coco(tiny_data / "annotations" / "val.json")
    rows = json.loads(saved.read_text())
    for image in truth.images:
        (result,) = detector.detect(tiny_data / "images" / image.file_name, conf=0.001)
        of_image = [row for row in rows if row["image_id"] == image.id]
        assert len(of_image) == len(result.boxes) > 0
        corners = np.array([row["bbox"] for row in of_image])
        corners[:, 2:] += corners[:, :2]
        np.testing.assert_allclose(result.boxes, corners, atol=1e-3)
        np.testing.assert_allclose(result.scores, [row["score"] for row in of_image], atol=1e-6)
        assert [detector.classes.category_ids[label] for label in result.labels] == [r["category_id"] for r in of_image]


def test_options_reach_the_model(detector: visionkit.Detector, tiny_data: Path) -> None:
    image = tiny_data / "images" / "train_0.png"
    (every,) = detector.detect(image, conf=0.001)
    (few,) = detector.detect(image, conf=0.001, max_det=3)
    (red,) = detector.detect(image, conf=0.001, classes=["red block"])
    assert len(few.boxes) == 3
    np.testing.assert_array_equal(few.scores, every.scores[:3])
    assert set(red.labels) == {0} < set(every.labels)


def test_images_come_one_at_a_time_and_broken_ones_are_named(
    detector: visionkit.Detector, tiny_data: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_data / "images" / "train_0.png", tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"not a picture")
    shutil.copy(tiny_data / "images" / "train_2.png", tmp_path / "c.png")
    skipped: list[str] = []
    stream = detector.stream(tmp_path, on_skip=lambda path, error: skipped.append(path.name))
    assert Path(next(stream).path).name == "a.png"
    assert skipped == []
    assert [Path(result.path).name for result in stream] == ["c.png"]
    assert skipped == ["b.png"]
    with pytest.raises(DataError, match=r"b\.png"):
        detector.detect(tmp_path)


def test_the_detector_knows_its_model(detector: visionkit.Detector, tiny_run: TinyRun, tiny_data: Path) -> None:
    import hashlib

    (result,) = detector.detect(tiny_data / "images" / "val_0.png")
    assert detector.classes.names == ("red block", "blue block")
    assert result.model_name == "yolo/csp-light"
    assert result.model_sha256 == hashlib.sha256(tiny_run.result.best.read_bytes()).hexdigest()


def test_what_load_and_detect_refuse(detector: visionkit.Detector, tiny_run: TinyRun, tmp_path: Path) -> None:
    missing = tmp_path / "no.safetensors"
    assert str(missing) in refusal(CheckpointError, visionkit.load, missing)
    assert "device must be auto, cpu" in refusal(UsageError, visionkit.load, tiny_run.result.best, device="gpu")
    assert "image size must be divisible by 32, got 100" in refusal(
        UsageError, visionkit.load, tiny_run.result.best, imgsz=100
    )
    assert "does not exist" in refusal(DataError, detector.detect, tmp_path / "no.jpg")
    (tmp_path / "a.png").write_bytes(b"")
    message = refusal(UsageError, detector.detect, tmp_path / "a.png", classes=["green block"])
    assert message.endswith("choose from red block, blue block")
