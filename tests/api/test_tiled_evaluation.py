"""`evaluate` in tiles: the scores of what `detect` shows with them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from masks import write_masks
from tiny import TinyRun

import visionkit
from visionkit.build import build_model, save_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.engine.events import EvaluationProgress, Event
from visionkit.errors import UsageError
from visionkit.formats.coco import read_coco
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.semantic_map import semantic_map
from visionkit.metrics.coco_map import coco_scores
from visionkit.metrics.mean_iou import MapCounts
from visionkit.predict.coco_writer import coco_rows


def saved(model: str, path: Path, names: tuple[str, ...] = ("ground", "red block", "blue block")) -> Path:
    """A model that was trained nowhere."""
    recipe, classes = Recipe(model=model, imgsz=64, backbone="csp-light"), ClassTable(tuple(range(len(names))), names)
    save_model(path, build_model(recipe, classes), classes, recipe, {})
    return path


def test_a_tile_that_no_image_exceeds_changes_no_score(tiny_run: TinyRun, tiny_data: Path) -> None:
    best = tiny_run.result.best
    plain = visionkit.evaluate(best, tiny_data, threads=1, batch=1, amp=False)
    tiled = visionkit.evaluate(best, tiny_data, threads=1, batch=1, amp=False, tile=64)
    assert tiled.to_json()["AP"] == pytest.approx(plain.to_json()["AP"], abs=1e-6)
    assert tiled.to_json()["AR100"] == pytest.approx(plain.to_json()["AR100"], abs=1e-6)


def test_the_scores_are_those_of_what_detect_shows(tiny_run: TinyRun, tiny_data: Path) -> None:
    best, events = tiny_run.result.best, list[Event]()
    scores = visionkit.evaluate(best, tiny_data, threads=1, tile=40, overlap=0.5, amp=False, listen=events.append)
    assert events[-1] == EvaluationProgress(4, 4)
    model = visionkit.load(best, device="cpu", exact=True)
    truth = read_coco(tiny_data / "annotations" / "val.json")
    rows = []
    for record in truth.images:
        (result,) = model.detect(tiny_data / "images" / record.file_name, conf=0.001, max_det=300, tile=40, overlap=0.5)
        rows += coco_rows(result, record.id)
    assert scores.to_json()["AP"] == pytest.approx(coco_scores(truth, rows).AP, abs=1e-6)


def test_maps_in_tiles_are_scored_and_drawn(tmp_path: Path) -> None:
    data = write_masks(tmp_path / "data", {"val": 3})
    weights = saved("fcn8s", tmp_path / "fcn.safetensors")
    scores = visionkit.evaluate(
        weights, data, tile=32, overlap=0.3, threads=1, amp=False, pictures=tmp_path / "pictures"
    )
    val = read_split(find_layout(data), "val")
    model, counts = (
        visionkit.load(weights, device="cpu", exact=True),
        MapCounts(val.classes, boundaries=True, intervals=True),
    )
    for record in val.images:
        (result,) = model.detect(data / "images/val" / record.file_name, tile=32, overlap=0.3)
        assert result.semantic is not None
        counts.add(semantic_map(record, val.classes), result.semantic)
    assert scores == counts.scores()
    assert len(list((tmp_path / "pictures").iterdir())) == 3


def test_what_has_no_tiles_is_refused(tmp_path: Path, tiny_data: Path) -> None:
    classifier = saved("classifier", tmp_path / "classifier.safetensors")
    with pytest.raises(UsageError, match="is a classifier, tiles are for detectors and segmenters; leave out --tile"):
        visionkit.evaluate(classifier, tiny_data, tile=64)
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((100, 100, 3), np.uint8))
    with pytest.raises(UsageError, match="is a classifier, tiles are for detectors and segmenters; leave out --tile"):
        visionkit.load(classifier, device="cpu").detect(tmp_path / "large.png", tile=64)
    fast = saved("fast-rcnn", tmp_path / "fast.safetensors")
    with pytest.raises(UsageError, match="is a fast-rcnn, which is fed by proposals on whole images; leave out --tile"):
        visionkit.evaluate(fast, tiny_data, tile=64)
