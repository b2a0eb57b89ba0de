"""The COCO reader against damaged files: DataError in one line, or records that both evaluators take.

Hypothesis makes 400 examples in every run, always the same ones; VISIONKIT_FUZZ_EXAMPLES=5000 makes so many, new ones.
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from awkward_annotations import sound
from coco_referee import own_boxes, pycocotools_scores, twelve
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from visionkit.data.dataset import DetectionDataset
from visionkit.errors import DataError
from visionkit.formats.coco import read_coco
from visionkit.formats.coco_segmentation import segmentation_area
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_map import Task, coco_scores
from visionkit.metrics.referee import coco_file

EXAMPLES = int(os.environ.get("VISIONKIT_FUZZ_EXAMPLES", "400"))
common = settings(
    derandomize="VISIONKIT_FUZZ_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
# Of 5: 4 files with changed values, 1 with damaged bytes.
of_values = settings(common, max_examples=EXAMPLES * 4 // 5)
of_bytes = settings(common, max_examples=EXAMPLES // 5)

EXTREME: list[Any] = [
    None, True, False, 0, 1, -1, 2, 77, 0.5, 1.0, -0.0, 1e-300, 1e6, -1e6, 1e300, 2**31, 2**32, 2**63, -(2**63),
    10**400, float("nan"), float("inf"), -float("inf"), "", "1", " ", "x" * 2000, "\ud800", "a\nb", "..", "ok_2.jpg",
    [], {}, [[]], [1], [0, 0, 1, 1], [0, 0, 0, 0], [[0, 0, 9, 0, 9, 9]], [[1, 2, 3]],
    {"size": [212, 320], "counts": [67840]}, {"size": [212, 320], "counts": "0"},
    {"size": [2, 2], "counts": [1, 1]}, [{"id": 1}], {"id": 1},
]  # fmt: skip
# JSON numbers and text of any kind, beside those that are known to be trouble.
VALUES = st.one_of(st.sampled_from(EXTREME), st.floats(), st.integers(-400, 400), st.floats(-400, 400), st.text())


def base() -> dict[str, Any]:
    """The sound file, with a crowd region of each kind of RLE and an object without mask."""
    coco = sound()
    coco["annotations"][7]["segmentation"] = []
    row = {"category_id": 3, "bbox": [250, 0, 10, 212], "area": 2120, "iscrowd": 1}
    # 250 x 212 = 53000 pixels before the region, 10 x 212 in it
    for image_id, counts in ((1, [53000, 2120, 12720]), (2, "Xhc1XR2`]<")):
        mask = {"size": [212, 320], "counts": counts}
        annotation_id = len(coco["annotations"]) + 1
        coco["annotations"].append({"id": annotation_id, "image_id": image_id, **row, "segmentation": mask})
    return coco


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside a JSON value."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


@st.composite
def changed_files(draw: st.DrawFn) -> str:
    """The text of the base file after one to four changes: a value removed, replaced, repeated or moved elsewhere."""
    coco: dict[str, Any] = copy.deepcopy(base())
    for _ in range(draw(st.integers(1, 4))):
        found = list(places(coco))
        if not found:
            break
        container, key = found[draw(st.integers(0, len(found) - 1))]
        change = draw(st.sampled_from(["remove", "replace", "replace", "replace", "repeat", "move", "scale"]))
        if change == "remove":
            del container[key]
        elif change == "replace":
            container[key] = draw(VALUES)
        elif change == "repeat" and isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        elif change == "move":
            other, at = found[draw(st.integers(0, len(found) - 1))]
            container[key] = copy.deepcopy(other[at])
        elif change == "scale" and type(container[key]) in (int, float):
            container[key] *= draw(st.sampled_from([-1, 0, 0.5, 1 + 1e-9, 2, 10, 1e-9, 1e9]))
    return json.dumps(coco)


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """The bytes of the base file after one to six of them were changed, cut out, put in, or all behind one lost."""
    data = bytearray(json.dumps(base()).encode())
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data)))
        damage = draw(st.sampled_from(["change", "change", "change", "cut", "put", "lose"]))
        if damage == "change":
            data[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif damage == "cut":
            del data[place : place + draw(st.integers(1, 40))]
        elif damage == "put":
            data[place:place] = draw(
                st.sampled_from([b'"', b"{", b"]", b",", b"9", b"-", b"e9", b"null", b"\xff", b"\\"])
            )
        elif draw(st.booleans()):
            del data[place:]
    return bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the images of the base file."""
    root = tmp_path_factory.mktemp("fuzz")
    (root / "images").mkdir()
    for image in sound()["images"]:
        Image.new("L", (image["width"], image["height"])).save(root / "images" / image["file_name"])
    return root


@of_values
@given(text=changed_files(), with_images=st.booleans(), judged=st.integers(0, 9))
def test_a_file_with_changed_values_is_refused_or_read_right(
    folder: Path, text: str, with_images: bool, judged: int
) -> None:
    (folder / "train.json").write_text(text, encoding="utf-8")
    check(folder, with_images, judged)


@of_bytes
@given(data=damaged_files(), with_images=st.booleans(), judged=st.integers(0, 9))
def test_a_file_with_damaged_bytes_is_refused_or_read_right(
    folder: Path, data: bytes, with_images: bool, judged: int
) -> None:
    (folder / "train.json").write_bytes(data)
    check(folder, with_images, judged)


# --- what right is ---------------------------------------------------------------------------------------------------


def check(folder: Path, with_images: bool, judged: int) -> None:
    """Read with and without `skip_bad`, and check what comes back; in one of ten examples the evaluators do too."""
    file, images = folder / "train.json", folder / "images" if with_images else None
    strict = read(file, images, skip_bad=False)
    kept = read(file, images, skip_bad=True)
    event("read" if strict else "read without the bad items" if kept else "refused")
    if strict is not None:
        assert kept == strict, "where nothing is wrong there is nothing to skip"
        assert not strict.left_out
    if kept is None:
        return
    assert (strict is None) == bool(kept.left_out)
    for line in kept.left_out:
        assert line.startswith(f"{file}: ")
        assert line.isprintable()
    check_records(kept)
    if with_images:
        check_training_boxes(kept)
    if judged == 0:
        check_judges(kept)


def read(file: Path, images: Path | None, *, skip_bad: bool) -> AnnotatedImages | None:
    try:
        return read_coco(file, images, skip_bad=skip_bad)
    except DataError as error:
        message = str(error)
        assert message.startswith(str(file))
        assert message.isprintable()
        assert len(message) < 2000
        return None


def check_records(data: AnnotatedImages) -> None:
    listed = json.loads(data.source.read_bytes())
    ids = [image.id for image in data.images]
    assert len(set(ids)) == len(ids) > 0
    assert set(ids) <= {row["id"] for row in listed["images"] if isinstance(row, dict) and type(row.get("id")) is int}
    assert len(set(data.classes.names)) == len(data.classes) > 0
    known = {row["id"]: row for row in listed["annotations"] if isinstance(row, dict) and type(row.get("id")) is int}
    annotation_ids = [annotation.id for image in data.images for annotation in image.annotations]
    assert len(set(annotation_ids)) == len(annotation_ids)
    for image in data.images:
        for annotation in image.annotations:
            assert annotation.category_id in data.classes.category_ids
            x, y, width, height = annotation.bbox
            assert all(map(math.isfinite, (x, y, width, height, annotation.area)))
            assert min(width, height) > 0
            assert annotation.area >= 0
            if image.width:
                assert x < image.width
                assert y < image.height
                assert x + width > 0
                assert y + height > 0
            if annotation.segmentation:
                assert math.isfinite(segmentation_area(annotation.segmentation))
            if [row.get("id") for row in listed["annotations"] if isinstance(row, dict)].count(annotation.id) == 1:
                row = known[annotation.id]
                assert (row["image_id"], row["category_id"]) == (image.id, annotation.category_id)
                assert row["bbox"] == list(annotation.bbox), "not a number is changed"


def check_training_boxes(data: AnnotatedImages) -> None:
    dataset = DetectionDataset(data)
    for index, image in enumerate(data.images):
        boxes = dataset.read(index).boxes
        assert np.isfinite(boxes).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all(), "an area is left inside the image"
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= (image.width, image.height)).all()


def check_judges(data: AnnotatedImages) -> None:
    """Both evaluators take a file's own boxes, to the same twelve numbers; and its masks, where all have one."""
    rows = own_boxes(data)
    scores = coco_scores(data, rows)
    annotations = [annotation for image in data.images for annotation in image.annotations]
    if any(not annotation.iscrowd for annotation in annotations):
        assert scores.AP is not None
        assert scores.AP > 0
    else:
        assert scores.AP is None
    if not rows:  # pycocotools takes no empty list
        return
    truth = coco_file(data)
    tasks: list[Task] = ["bbox"]
    if all(annotation.segmentation for annotation in annotations) and all(image.width for image in data.images):
        tasks.append("segm")
        for row, annotation in zip(rows, annotations, strict=True):
            row["segmentation"] = annotation.segmentation
    for task in tasks:
        assert twelve(coco_scores(data, rows, task)) == pycocotools_scores(truth, rows, task)[0]
