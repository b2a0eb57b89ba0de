"""The formats of detections: each file exact, whole after every image, and its image to be told."""

import csv
import io
import json

import numpy as np
import pytest

from visionkit.classes import ClassTable
from visionkit.errors import UsageError
from visionkit.predict.coco_writer import coco_rows, coco_writer
from visionkit.predict.csv_writer import csv_writer
from visionkit.predict.json_writer import json_writer, write_json_line
from visionkit.predict.output_formats import FORMATS, chosen_formats
from visionkit.predict.yolo_writer import yolo_text, yolo_writer
from visionkit.result import Result


def result_of(boxes, scores=None, path="photo.jpg"):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Result(
        path=path,
        width=640,
        height=480,
        classes=ClassTable((3, 17), ("car", "kočka")),
        boxes=boxes,
        scores=np.array(scores if scores is not None else [0.9] * len(boxes), np.float32),
        labels=np.ones(len(boxes), np.int64),
    )


PIXELS = np.zeros((480, 640, 3), np.uint8)
ONE, NONE, TWO = result_of([[1, 2, 3, 4]], path="x/a.jpg"), result_of([], path="b.jpg"), result_of([[0, 0, 1, 1]] * 2)


# One format or several ------------------------------------------------------------------------------------------------


def test_formats_are_chosen_by_name_each_once():
    assert chosen_formats(["csv", "coco", "csv"]) == (FORMATS["csv"], FORMATS["coco"])
    assert chosen_formats([]) == ()
    with pytest.raises(UsageError) as error:
        chosen_formats(["csv", "xml"])
    assert str(error.value) == (
        "unknown format 'xml', detections are written as one or several of json, coco, yolo, csv, labelme, cvat, "
        "masks, crops; choose among these"
    )


def run_that_is_interrupted(writer, folder):
    with writer(folder) as add:
        add(ONE, number=1, name="a", pixels=PIXELS)
        raise KeyboardInterrupt


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [name for name, chosen in FORMATS.items() if "detect" in chosen.tasks])
def test_all_formats_lie_side_by_side_and_an_interrupted_run_keeps_what_it_has(name, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_that_is_interrupted(FORMATS[name].writer, tmp_path / "interrupted")
    with FORMATS[name].writer(tmp_path / "done") as add:
        add(ONE, number=1, name="a", pixels=PIXELS)
        # Already now, before the end, as after a SIGKILL.
        now = contents(tmp_path / "done")
    for folder in ("interrupted", "done"):
        assert contents(tmp_path / folder) == now
    assert sum(map(len, now.values())) > 20


# JSON lines -----------------------------------------------------------------------------------------------------------


def test_json_lines_are_ascii_and_one_a_result():
    stream = io.StringIO()
    odd = result_of([[1, 2, 3, 4]], path="odd\udcff name.jpg")  # how Python names a file that is not UTF-8
    write_json_line(stream, odd)
    write_json_line(stream, result_of([]))
    first, second = stream.getvalue().splitlines()
    assert first.isascii()
    assert json.loads(first) == odd.to_json()
    assert json.loads(first)["items"][0]["name"] == "kočka"
    assert json.loads(second)["items"] == []


def test_the_json_file_has_the_lines_of_stdout(tmp_path):
    stream = io.StringIO()
    with json_writer(tmp_path) as add:
        for number, result in enumerate([ONE, NONE, TWO], start=1):
            add(result, number=number, name="n", pixels=PIXELS)
            write_json_line(stream, result)
    assert (tmp_path / "detections.jsonl").read_text() == stream.getvalue()


# COCO -----------------------------------------------------------------------------------------------------------------


def test_coco_rows_have_category_ids_and_sizes():
    assert coco_rows(result_of([[10, 20, 40, 60]], [0.5]), image_id=7) == [
        {"image_id": 7, "category_id": 17, "bbox": [10, 20, 30, 40], "score": 0.5, "file_name": "photo.jpg"}
    ]
    assert coco_rows(result_of([]), image_id=1) == []


def test_coco_rows_lose_no_bit():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 300, (500, 2))
    boxes = np.hstack([corners, corners + rng.uniform(1, 300, (500, 2))]).astype(np.float32)
    scores = rng.uniform(0, 1, 500).astype(np.float32)
    rows = json.loads(json.dumps(coco_rows(result_of(boxes, scores), 1)))
    assert (np.array([row["score"] for row in rows], np.float32) == scores).all()
    expected = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    assert (np.array([row["bbox"] for row in rows], np.float32) == expected).all()
    assert coco_rows(result_of([[0, 0, 1, 1]], [0.1]), 1)[0]["score"] == 0.1


def test_the_coco_file_is_an_array_after_every_image(tmp_path):
    path = tmp_path / "new" / "results.json"
    with coco_writer(path.parent) as add:
        assert json.loads(path.read_text()) == []
        for number, (result, rows) in enumerate([(NONE, 0), (ONE, 1), (NONE, 1), (TWO, 3)], start=1):
            add(result, number=number, name="n", pixels=PIXELS)
            assert len(json.loads(path.read_text())) == rows
    rows = json.loads(path.read_text())
    assert [(row["image_id"], row["file_name"]) for row in rows] == [(2, "x/a.jpg"), (4, "photo.jpg"), (4, "photo.jpg")]


# CSV ------------------------------------------------------------------------------------------------------------------


def test_a_csv_row_a_box_under_a_header(tmp_path):
    odd = result_of([[1, 2, 3.5, 4]], [0.1], path='say "a, b".jpg')
    with csv_writer(tmp_path) as add:
        for number, result in enumerate([odd, NONE, TWO], start=1):
            add(result, number=number, name="n", pixels=PIXELS)
    with (tmp_path / "detections.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "image_id": "1",
        "file_name": 'say "a, b".jpg',
        "width": "640",
        "height": "480",
        "category_id": "17",
        "name": "kočka",
        "score": "0.1",
        "x1": "1.0",
        "y1": "2.0",
        "x2": "3.5",
        "y2": "4.0",
    }
    assert [row["image_id"] for row in rows] == ["1", "3", "3"]


# YOLO -----------------------------------------------------------------------------------------------------------------


def test_yolo_lines_are_shares_of_the_image():
    # x: (64 + 128) / 2 / 640 = 0.15, (128 - 64) / 640 = 0.1; y: (48 + 240) / 2 / 480 = 0.3, (240 - 48) / 480 = 0.4.
    assert yolo_text(result_of([[64, 48, 128, 240]], [0.5])) == "1 0.150000 0.300000 0.100000 0.400000 0.500000\n"
    assert yolo_text(result_of([])) == ""


def test_yolo_shares_place_corners_within_a_hundredth_of_a_pixel():
    boxes = np.random.default_rng(0).uniform(0, 240, (200, 4)).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    table = np.array([line.split() for line in yolo_text(result_of(boxes)).splitlines()], np.float64)
    centres, sizes = table[:, 1:3] * (640, 480), table[:, 3:5] * (640, 480)
    np.testing.assert_allclose(np.hstack([centres - sizes / 2, centres + sizes / 2]), boxes, atol=0.01)


def test_yolo_files_are_named_by_image_and_say_whose_they_are(tmp_path):
    with yolo_writer(tmp_path) as add:
        add(ONE, number=1, name="a", pixels=PIXELS)
        add(NONE, number=2, name="b", pixels=PIXELS)
        add(TWO, number=4, name="a-2", pixels=PIXELS)
    assert {path.name: path.read_text(encoding="utf-8").count("\n") for path in tmp_path.iterdir()} == {
        "a.txt": 1,
        "b.txt": 0,
        "a-2.txt": 2,
        "classes.txt": 2,
        "sources.csv": 4,
    }
    assert (tmp_path / "classes.txt").read_text(encoding="utf-8") == "car\nkočka\n"
    assert (tmp_path / "sources.csv").read_text().splitlines() == [
        *("labels,image", "a.txt,x/a.jpg", "b.txt,b.jpg", "a-2.txt,photo.jpg"),
    ]
