"""Files of results: complete, exact, and nothing lost or overwritten."""

import io
import json

import cv2
import numpy as np
import pytest

from visionkit.classes import ClassTable
from visionkit.errors import UsageError, VisionkitError
from visionkit.predict.writers import CocoResultsFile, OutputNames, coco_rows, save_picture, write_json_line
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


def test_a_coco_file_counts_images_from_one(tmp_path):
    path = tmp_path / "new" / "results.json"
    with CocoResultsFile(path) as file:
        file.add(result_of([[1, 2, 3, 4]] * 2, path="a.jpg"))
        file.add(result_of([], path="b.jpg"))
        file.add(result_of([[1, 2, 3, 4]], path="c.jpg"))
        assert not path.exists()
    rows = json.loads(path.read_text())
    assert [(row["image_id"], row["file_name"]) for row in rows] == [(1, "a.jpg"), (1, "a.jpg"), (3, "c.jpg")]
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_a_coco_file_without_a_detection_is_an_empty_list(tmp_path):
    with CocoResultsFile(tmp_path / "results.json") as file:
        file.add(result_of([]))
    assert json.loads((tmp_path / "results.json").read_text()) == []


def interrupted_run(path):
    with CocoResultsFile(path) as file:
        file.add(result_of([[1, 2, 3, 4]]))
        raise KeyboardInterrupt


def test_an_interrupted_coco_file_keeps_what_it_has(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(KeyboardInterrupt):
        interrupted_run(path)
    assert len(json.loads(path.read_text())) == 1


def test_a_coco_file_is_not_overwritten(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"results\.json exists, nothing is overwritten; choose another name"):
        CocoResultsFile(path).__enter__()
    assert path.read_text() == "mine"


def test_output_names_are_given_once(tmp_path):
    (tmp_path / "c.png").touch()
    names = OutputNames(tmp_path)
    sources = ["x/a.jpg", "y/a.jpg", "A.JPG", "b.webp", "b.bmp", "c.tif", "photo.v2.jpeg", "a-2.jpg", ""]
    assert [names.take(source).name for source in sources] == [
        *("a.jpg", "a-2.jpg", "A-3.JPG"),
        *("b.png", "b-2.png"),
        "c-2.png",
        "photo.v2.jpeg",
        "a-2-2.jpg",
        "image.png",
    ]
    assert names.take("x/a.jpg").parent == tmp_path


@pytest.mark.parametrize(("name", "tolerance"), [("a.png", 0), ("a.jpg", 12), ("ü 图.JPEG", 12)])
def test_pictures_are_saved_as_rgb(tmp_path, name, tolerance):
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, :15] = (250, 100, 10)
    save_picture(tmp_path / "new" / name, picture)
    data = np.fromfile(tmp_path / "new" / name, np.uint8)
    assert (data[:2].tolist() == [0xFF, 0xD8]) == (tolerance > 0)
    back = cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(back.astype(int) - picture).max() <= tolerance


def test_a_picture_is_not_overwritten(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"a\.png exists, nothing is overwritten; choose another name or move it"):
        save_picture(path, np.zeros((2, 2, 3), np.uint8))
    assert path.read_text() == "mine"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    wanted = r"cannot be written \(.+\), results are saved there; free space or choose another folder"
    with pytest.raises(VisionkitError, match=wanted):
        save_picture(tmp_path / "file" / "a.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(VisionkitError, match=wanted):
        CocoResultsFile(tmp_path / "file" / "results.json").__enter__()
