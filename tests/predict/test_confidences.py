"""Confidences beside scores: of a calibrated detector, and of nobody else."""

import csv
from dataclasses import dataclass, replace

import numpy as np
import pytest

from visionkit.classes import ClassTable
from visionkit.cli.detect import result_table
from visionkit.predict import drawing
from visionkit.predict.backend import RawClasses, RawDetections
from visionkit.predict.csv_writer import COLUMNS, csv_writer
from visionkit.predict.detect import LoadedImage, detect_loaded
from visionkit.predict.tiling import chosen_tiling
from visionkit.score_map import ScoreMap

HALVES = ScoreMap("isotonic", points=((0.0, 0.0), (1.0, 0.5)))


CLASSES = ClassTable((3, 17), ("car", "cat"))


@dataclass
class Backend:
    """Finds two boxes in every image, with scores 0.9 and 0.5."""

    name: str = "constant"
    sha256: str = ""
    classes: ClassTable = CLASSES
    image_size: int = 64

    def run(self, images, *, score, iou, max_det):
        boxes = np.array([[16, 24, 48, 40], [0, 16, 64, 48]], np.float32)
        scores = np.array([0.9, 0.5], np.float32)
        keep = scores >= score
        return [RawDetections(boxes[keep], scores[keep], np.array([1, 0])[keep])] * len(images)


@dataclass
class CalibratedBackend(Backend):
    score_map: ScoreMap | None = None


class Classifier(CalibratedBackend):
    def run(self, images, *, score, iou, max_det):
        return [RawClasses(np.array([0.9, 0.1], np.float32), np.array([1, 0]))] * len(images)


def result(backend, **options):
    image = LoadedImage("photo", np.zeros((64, 128, 3), np.uint8))
    ((_, found),) = detect_loaded(backend, [image], **options)
    return found


def test_each_detection_has_its_confidence():
    found = result(CalibratedBackend(score_map=HALVES))
    assert found.confidences.dtype == np.float32
    assert found.confidences.tolist() == pytest.approx([0.45, 0.25])
    items = found.to_json()["items"]
    assert [(item["score"], item["confidence"]) for item in items] == [(0.9, 0.45), (0.5, 0.25)]


def test_thresholds_and_choices_go_by_scores():
    assert result(CalibratedBackend(score_map=HALVES), score=0.6).confidences.tolist() == pytest.approx([0.45])
    assert result(CalibratedBackend(score_map=HALVES), classes=["car"]).confidences.tolist() == pytest.approx([0.25])
    nothing = result(CalibratedBackend(score_map=HALVES), score=0.95)
    assert nothing.confidences.shape == (0,)
    assert nothing.to_json()["items"] == []


def test_tiles_have_them_too():
    found = result(CalibratedBackend(score_map=HALVES), tiling=chosen_tiling(64, 0.2))
    assert len(found) > 0
    assert found.confidences == pytest.approx(found.scores / 2)


@pytest.mark.parametrize("backend", [Backend(), CalibratedBackend(), Classifier(score_map=HALVES)])
def test_who_was_not_calibrated_has_none(backend):
    found = result(backend)
    assert found.confidences is None
    assert all("confidence" not in item for item in found.to_json()["items"])


# What people see ------------------------------------------------------------------------------------------------------


def test_the_table_has_a_column_of_percents():
    lines = result_table(result(CalibratedBackend(score_map=HALVES))).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["cat", "0.90", "45%"], ["car", "0.50", "25%"]]
    plain = result_table(result(Backend())).splitlines()
    assert [line.replace("   45%", "").replace("   25%", "") for line in lines[1:]] == plain[1:]


def test_a_label_says_it_where_there_is_room(monkeypatch):
    drawn = []
    monkeypatch.setattr(drawing, "draw_label", lambda canvas, label, colour, letters: drawn.append(label.text))
    found = result(CalibratedBackend(score_map=HALVES))
    wide = replace(found, width=1280, height=640, boxes=found.boxes * 10)
    drawing.draw(np.zeros((640, 1280, 3), np.uint8), wide)
    assert sorted(drawn) == ["car 0.50 (25%)", "cat 0.90 (45%)"]
    drawn.clear()
    drawing.draw(np.zeros((640, 1280, 3), np.uint8), replace(wide, confidences=None))
    assert sorted(drawn) == ["car 0.50", "cat 0.90"]
    drawn.clear()
    # In a picture too narrow for it the score stays: what thresholds go by.
    drawing.draw(
        np.zeros((400, 80, 3), np.uint8), replace(wide, width=80, height=400, boxes=found.boxes[:, [1, 0, 3, 2]])
    )
    assert set(drawn) <= {"car 0.50", "cat 0.90", "car", "cat"}
    assert drawn


@pytest.mark.parametrize("calibrated", [True, False])
def test_csv_has_a_last_column(tmp_path, calibrated):
    found = result(CalibratedBackend(score_map=HALVES if calibrated else None))
    nothing = result(CalibratedBackend(score_map=HALVES if calibrated else None), score=0.95)
    with csv_writer(tmp_path) as add:
        for number, one in enumerate((nothing, found), start=1):
            add(one, number=number, name="n", pixels=np.zeros((64, 128, 3), np.uint8))
    with (tmp_path / "detections.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == [*COLUMNS, *(["confidence"] if calibrated else [])]
    assert [row[len(COLUMNS) :] for row in rows] == ([["0.45"], ["0.25"]] if calibrated else [[], []])


def test_without_an_image_csv_is_a_header(tmp_path):
    with csv_writer(tmp_path):
        pass
    assert (tmp_path / "detections.csv").read_text() == ",".join(COLUMNS) + "\n"
