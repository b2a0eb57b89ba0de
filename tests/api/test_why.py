"""`detect --why` and `evaluate --why`, end to end, on a model that learnt to see something."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import CommandLine
from tiny import TinyRun, learnt_in_tiles

import visionkit
from visionkit.api.why_objects import find_image, why_objects
from visionkit.errors import UsageError
from visionkit.formats.coco import read_coco
from visionkit.predict.tiling import Tiling
from visionkit.predict.why_drawing import draw_why
from visionkit.predict.why_tables import objects_table, why_table


@pytest.fixture(scope="module")
def detector(tiny_run: TinyRun) -> visionkit.Detector:
    return visionkit.load(tiny_run.result.best, device="cpu", threads=1)


def images(tiny_data: Path) -> list[Path]:
    return sorted((tiny_data / "images").glob("*.png"))


@pytest.mark.parametrize("options", [{}, {"conf": 0.05}, {"conf": 0.01, "iou": 0.2, "max_det": 2}])
def test_what_is_kept_is_what_is_detected(
    detector: visionkit.Detector, tiny_data: Path, options: dict[str, float]
) -> None:
    plain = detector.detect(*images(tiny_data), **options)
    explained = detector.detect(*images(tiny_data), **options, why=True)
    fates = set()
    for result, other in zip(explained, plain, strict=True):
        np.testing.assert_array_equal(result.boxes, other.boxes)
        assert other.why is None
        assert "why" not in other.to_json()
        assert result.why is not None
        line = json.loads(json.dumps(result.to_json(), allow_nan=False))
        candidates = line["why"]["candidates"]
        kept = [one for one in candidates if one["fate"] == "kept"]
        assert candidates[: len(kept)] == kept
        told = [{key: one[key] for key in item} for one, item in zip(kept, line["items"], strict=True)]
        assert told == line["items"]
        assert line["why"]["counts"]["kept"] == len(kept)
        # 64 px: 8 * 8 + 4 * 4 + 2 * 2 cells, two classes.
        assert sum(line["why"]["counts"].values()) == 84 * 2
        for one in candidates:
            if one["fate"] == "suppressed":
                by = candidates[one["by"]]
                assert by["name"] == one["name"]
                assert by["score"] >= one["score"]
                assert one["iou"] > line["why"]["settings"]["iou"]
            column, row = one["from"]["cell"]
            assert 0 <= column * one["from"]["stride"] < 64
            assert 0 <= row * one["from"]["stride"] < 64
            fates.add(one["fate"])
    if options:
        assert {"kept", "suppressed", "below_conf"} <= fates


def test_only_classes_that_were_asked_for(detector: visionkit.Detector, tiny_data: Path) -> None:
    for result in detector.detect(*images(tiny_data), conf=0.01, classes=["blue block"], why=True):
        assert result.why is not None
        assert {one["name"] for one in result.why["candidates"]} == {"blue block"}
        assert sum(result.why["counts"].values()) == 84


@pytest.mark.parametrize("classes", [None, ["blue block"]])
def test_in_tiles_what_is_kept_is_what_is_detected_too(
    detector: visionkit.Detector, tiny_data: Path, classes: list[str] | None
) -> None:
    options = {"conf": 0.05, "max_det": 5, "tile": 48, "overlap": 0.25, "classes": classes}
    plain = detector.detect(*images(tiny_data)[:4], **options)
    explained = detector.detect(*images(tiny_data)[:4], **options, why=True)
    fates = set()
    for result, other in zip(explained, plain, strict=True):
        np.testing.assert_array_equal(result.boxes, other.boxes)
        line = result.to_json()
        candidates = line["why"]["candidates"]
        fates |= {one["fate"] for one in candidates}
        told = [{key: one[key] for key in item} for one, item in zip(candidates, line["items"], strict=False)]
        assert told == line["items"]
        assert [one["fate"] for one in candidates].count("kept") == len(result) == line["why"]["counts"]["kept"]
        for one in candidates:
            assert classes is None or one["name"] in classes
            assert "by" not in one or candidates[one["by"]]["name"] == one["name"]
        # 84 points in each view, of the classes that are told.
        assert sum(line["why"]["counts"].values()) == len(line["why"]["views"]) * 84 * (1 if classes else 2)
        draw_why(cv2.imread(str(images(tiny_data)[0])), result)
        why_table(result.why or {})
    assert {"kept", "gave_way"} <= fates


def test_what_cannot_be_explained(detector: visionkit.Detector, tiny_data: Path) -> None:
    elsewhere = visionkit.Detector(object(), "detect")  # type: ignore[arg-type]
    elsewhere.backend = type("Other", (), {"classes": detector.classes})()
    with pytest.raises(UsageError, match=r"why is told by models in PyTorch; name a \.safetensors file by --weights"):
        elsewhere.detect(tiny_data / "images", why=True)


def test_the_command_prints_a_table_and_draws(
    tiny_run: TinyRun, tiny_data: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    image = tiny_data / "images" / "train_0.png"
    arguments = ["detect", image, "--weights", tiny_run.result.best, "--threads", "1", "--device", "cpu"]
    finished = command_line(*arguments, "--conf", "0.01", "--why", "--out", "out", folder=tmp_path)
    assert finished.code == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert any(" kept" in line and line.startswith("why: ") for line in lines)
    assert any(" suppressed, each by a better one of its class at IoU > 0.7" in line for line in lines)
    assert any("below 0.01" in line for line in lines)
    assert any("--json has " in line for line in lines)
    assert max(map(len, lines[1:])) <= 100
    drawn = cv2.imread(str(tmp_path / "out" / "train_0.png"))
    assert drawn.shape[0] > cv2.imread(str(image)).shape[0]
    as_json = command_line(*arguments, "--conf", "0.01", "--why", "--no-save", "--json", folder=tmp_path)
    assert as_json.json["schema"] == "visionkit.result/1"
    assert as_json.json["why"]["settings"] == {"conf": 0.01, "iou": 0.7, "max_det": 300, "candidates": 3000}


# Objects --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conf", [0.02, 0.9])
def test_what_became_of_each_object(tiny_run: TinyRun, tiny_data: Path, conf: float) -> None:
    steps: set[str] = set()
    for record in read_coco(tiny_data / "annotations" / "train.json").images:
        document = why_objects(
            tiny_run.result.best, tiny_data, record.file_name, split="train", conf=conf, device="cpu", threads=1
        )
        json.dumps(document, allow_nan=False)
        assert [one["id"] for one in document["objects"]] == [one.id for one in record.annotations]
        kept = [one for one in document["why"]["candidates"] if one["fate"] == "kept"]
        for annotation, one in zip(record.annotations, document["objects"], strict=True):
            x, y, w, h = annotation.bbox
            assert one["bbox"] == [x, y, x + w, y + h]
            assert one["ignored"] == annotation.iscrowd
            (points,) = one["assigned"]
            assert points["what"] == "points"
            if annotation.iscrowd:
                assert "step" not in one
                assert not points["positives"]
                continue
            assert points["positives"]
            if one["step"] == "found":
                assert one["candidate"] in [found["bbox"] for found in kept]
                assert one["score"] >= conf
            elif one["step"] == "scored_low":
                assert one["score"] < conf
            steps.add(one["step"])
    assert "found" in steps if conf < 0.5 else steps - {"found"}


def test_it_is_the_image_that_evaluation_sees(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    saved, best = tmp_path / "predictions.json", tiny_run.result.best
    visionkit.evaluate(best, tiny_data, batch=1, threads=1, workers=0, device="cpu", save_predictions=saved)
    rows = json.loads(saved.read_text())
    for record in read_coco(tiny_data / "annotations" / "val.json").images:
        document = why_objects(best, tiny_data, str(record.id), conf=0.001, device="cpu", threads=1)
        kept = [one for one in document["why"]["candidates"] if one["fate"] == "kept"]
        of_image = [row for row in rows if row["image_id"] == record.id]
        assert [one["score"] for one in kept] == pytest.approx([row["score"] for row in of_image], abs=1e-5)


def test_a_model_that_learnt_from_tiles_is_explained_in_them(
    tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    tiled, saved = learnt_in_tiles(tiny_run.result.best, tmp_path / "tiled.safetensors"), tmp_path / "predictions.json"
    visionkit.evaluate(tiled, tiny_data, batch=1, threads=1, workers=0, device="cpu", save_predictions=saved)
    record = read_coco(tiny_data / "annotations" / "val.json").images[0]
    said: list[str] = []
    options = {"conf": 0.001, "device": "cpu", "threads": 1}
    document = why_objects(tiled, tiny_data, record.file_name, say=said.append, **options)
    json.dumps(document, allow_nan=False)
    assert "Tiles of 48 px, overlapping by 0.25, as trained" in said
    grid = Tiling(48, 0.25).grid(record.height, record.width)
    assert grid is not None
    assert document["why"]["views"] == [list(window) for window in grid.views]
    kept = [one for one in document["why"]["candidates"] if one["fate"] == "kept"]
    rows = [row for row in json.loads(saved.read_text()) if row["image_id"] == record.id]
    assert [one["score"] for one in kept] == pytest.approx([row["score"] for row in rows], abs=1e-5)
    assert len(kept) == document["why"]["counts"]["kept"]
    assert document["why"]["counts"]["gave_way"] > 0  # each object is seen in the whole image too
    for one in document["why"]["candidates"]:
        left, top, right, bottom = document["why"]["views"][one["view"]]
        x1, y1, x2, y2 = one["bbox"]
        assert left <= x1 <= x2 <= right
        assert top <= y1 <= y2 <= bottom
        assert "by" not in one or document["why"]["candidates"][one["by"]]["score"] > 0
    found = [one for one in document["objects"] if one.get("step") == "found"]
    assert found
    assert all(one["candidate"] in [row["bbox"] for row in kept] for one in found)
    assert all(tuple(one["view"]) in grid.views for one in document["objects"])
    assert "views" not in why_objects(tiled, tiny_data, record.file_name, tile=0, **options)["why"]
    assert any(line.strip().startswith("in the ") for line in objects_table(document).splitlines())


def test_an_image_by_name_path_and_id(tiny_data: Path) -> None:
    truth = read_coco(tiny_data / "annotations" / "val.json")
    first = truth.images[0]
    for words in (first.file_name, f"somewhere/{first.file_name}", str(first.id)):
        assert find_image(truth, words, "val") is first
    there = replace(first, path=Path("/data/images/a.png"))
    assert find_image(replace(truth, images=(there, *truth.images)), "/data/images/a.png", "val") is there
    with pytest.raises(UsageError) as error:
        find_image(truth, "nowhere.png", "val")
    assert str(error.value) == (
        f"val of {truth.source} has no image 'nowhere.png'; give the file name or the id of one, such as val_0.png"
    )
    twice = replace(truth, images=(replace(first, file_name="a/x.png"), replace(first, file_name="b/x.png")))
    with pytest.raises(UsageError, match=r"has 2 images x\.png: a/x\.png, b/x\.png; give a longer path or an id"):
        find_image(twice, "x.png", "val")


def test_the_command_tells_and_draws_objects(
    tiny_run: TinyRun, tiny_data: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    arguments = [
        "evaluate",
        "--weights",
        tiny_run.result.best,
        "--data",
        tiny_data,
        "--threads",
        "1",
        "--device",
        "cpu",
    ]
    finished = command_line(*arguments, "--why", "val_0.png", "--pictures", "drawn", folder=tmp_path)
    assert finished.code == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert "2 objects: " in lines[0]
    assert lines[1] == "found: a detection of its class, score at least 0.25, overlaps it by IoU at least 0.5"
    assert sum("points learn it" in line for line in lines) == 2
    assert max(map(len, lines[1:])) <= 100
    assert (tmp_path / "drawn" / "val_0.png").is_file()
    as_json = command_line(*arguments, "--why", "val_0.png", "--conf", "0.1", "--json", folder=tmp_path)
    assert as_json.json["why"]["settings"]["conf"] == 0.1
    assert len(as_json.json["objects"]) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--conf", "0.3"], "--conf has no meaning without --why: scores count detections of any score; leave it out"),
        (
            ["--why", "a.png", "--batch", "2"],
            "--batch has no meaning with --why, which is about one image; leave it out",
        ),
        (["--why", "a.png", "--conf", "2"], "conf must be between 0 and 1, got 2.0; choose a value such as 0.5"),
    ],
)
def test_flags_that_do_not_go_together(
    flags: list[str], message: str, tiny_run: TinyRun, tiny_data: Path, command_line: CommandLine
) -> None:
    finished = command_line("evaluate", "--weights", tiny_run.result.best, "--data", tiny_data, *flags)
    assert (finished.code, finished.error) == (2, message)


def test_a_model_that_is_no_detector(tiny_data: Path) -> None:
    import torch

    from visionkit.engine.explain import require_explainable

    classifier = torch.nn.Linear(1, 1)
    classifier.task = "classify"  # type: ignore[assignment]
    with pytest.raises(UsageError) as error:
        require_explainable(classifier)
    assert str(error.value) == (
        "why is told of boxes, and this model's task is classify; leave out --why, or use a detector"
    )
