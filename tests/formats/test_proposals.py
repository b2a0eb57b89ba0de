"""Proposals files: what they may hold, in what order it comes, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.proposals import read_proposals, split_file, write_proposals
from visionkit.formats.records import AnnotatedImages, ImageRecord

SPLIT = AnnotatedImages(
    ClassTable((7,), ("cell",)),
    tuple(ImageRecord(i, f"{i}.png", None, 64, 64) for i in (3, 5, 9)),
    Path("val.json"),
)


def written(folder: Path, rows: object) -> Path:
    file = folder / "found.json"
    file.write_text(json.dumps(rows))
    return file


def test_boxes_by_image_best_first(tmp_path: Path) -> None:
    rows = [
        {"image_id": 5, "bbox": [0, 0, 8, 8], "score": 0.2, "category_id": 1},
        {"image_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 5, "bbox": [4, 4, 2.5, 2], "score": 0.9},
        {"image_id": 8, "bbox": [4, 4, 2.5, 2], "score": 0.9},  # of another split
    ]
    found = read_proposals(written(tmp_path, rows), SPLIT)
    assert {i: boxes.tolist() for i, boxes in found.items()} == {
        3: [[1, 2, 3, 4]],
        5: [[4, 4, 2.5, 2], [0, 0, 8, 8]],
    }


def test_without_scores_the_order_is_that_of_the_file(tmp_path: Path) -> None:
    rows = [{"image_id": 5, "bbox": [x, 0, 8, 8]} for x in (4, 1, 3)]
    assert read_proposals(written(tmp_path, rows), SPLIT)[5][:, 0].tolist() == [4, 1, 3]


def test_arrays_say_the_same(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "found.npz",
        image_id=np.array([5, 3, 5]),
        bbox=np.array([[0, 0, 8, 8], [1, 2, 3, 4], [4, 4, 2.5, 2]], np.float32),
        score=np.array([0.2, 0.5, 0.9]),
    )
    found = read_proposals(tmp_path / "found.npz", SPLIT)
    assert found[5].tolist() == [[4, 4, 2.5, 2], [0, 0, 8, 8]]


REFUSED = {
    "not a list": ({"images": []}, r"found.json is not a list, proposals are a list of objects with image_id and bbox"),
    "no box": ([{"image_id": 3}], r"\[0\] is \{'image_id': 3\}, a proposal must have an image_id and a bbox"),
    "nan": ([{"image_id": 3, "bbox": [0, 0, float("nan"), 1]}], r"\[0\] is .*a bbox of four finite numbers"),
    "a score": ([{"image_id": 3, "bbox": [0, 0, 1, 1], "score": "high"}], r"\[0\] has score 'high', it must be"),
    "some scores": (
        [{"image_id": 3, "bbox": [0, 0, 1, 1], "score": 1}, {"image_id": 3, "bbox": [0, 0, 1, 1]}],
        r"has 1 scores of 2 proposals, all need one or none; complete them",
    ),
    "no side": (
        [{"image_id": 3, "bbox": [0, 0, 1, 1]}, {"image_id": 3, "bbox": [5, 5, 0, 1]}],
        r"\[1\] has bbox \[5.0, 5.0, 0.0, 1.0\], it must be finite x, y and a width and height above 0 \(1 in all",
    ),
    "another split": (
        [{"image_id": 4, "bbox": [0, 0, 1, 1]}],
        r"has no proposals of images of val.json, at least one is needed; give the file of this split",
    ),
    "none": ([], r"has no proposals of images of val.json"),
}


@pytest.mark.parametrize(("rows", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(rows: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_proposals(written(tmp_path, rows), SPLIT)


def test_arrays_that_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "found.npz"
    with pytest.raises(DataError, match=r"found.npz cannot be read \(No such file or directory\)"):
        read_proposals(file, SPLIT)
    file.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(DataError, match=r"found.npz cannot be read \(it is damaged, or not of NumPy's arrays\)"):
        read_proposals(file, SPLIT)
    np.savez(file, image_id=np.array([{"a": 1}], object), bbox=np.zeros((1, 4)))
    with pytest.raises(DataError, match=r"found.npz cannot be read \(it is damaged, or not of NumPy's arrays\)"):
        read_proposals(file, SPLIT)
    np.savez(file, image_id=np.array([3.0]), bbox=np.ones((1, 4)))
    with pytest.raises(DataError, match=r"must have image_id, whole numbers \[N\], and bbox \[N, 4\]; make it anew"):
        read_proposals(file, SPLIT)


def test_a_folder_has_one_file_a_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must have train.json or train.npz, it has neither; put one there"):
        split_file(tmp_path, "train")
    (tmp_path / "train.npz").touch()
    assert split_file(tmp_path, "train").name == "train.npz"
    (tmp_path / "train.json").touch()
    with pytest.raises(DataError, match=r"it has both; put one there"):
        split_file(tmp_path, "train")


@pytest.mark.parametrize("name", ["found.npz", "found.json"])
def test_what_is_written_is_read_again_in_its_order(name: str, tmp_path: Path) -> None:
    boxes = {9: np.array([[4.25, 4, 2.5, 2], [0, 0, 8, 8]]), 3: np.array([[1.0, 2, 3, 4]]), 5: np.empty((0, 4))}
    write_proposals(tmp_path / name, boxes)
    found = read_proposals(tmp_path / name, SPLIT)
    assert {i: rows.tolist() for i, rows in found.items()} == {i: rows.tolist() for i, rows in boxes.items() if i != 5}
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["found.npz", "found.json"])
def test_a_folder_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{name} cannot be written \(No such file or directory\); check folder"):
        write_proposals(tmp_path / "absent" / name, {3: np.array([[1.0, 2, 3, 4]])})
