"""What the doctor says of single rows: by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from awkward_annotations import sound
from PIL import Image

from visionkit.diagnosis.coco import examine_coco
from visionkit.diagnosis.findings import Examination

Row = dict[str, Any]


@pytest.fixture
def examine(tmp_path: Path) -> Any:
    """The examination of a sound file in which the first annotation is changed; other rows by their list."""

    def run(annotation: Row | None = None, images_dir: Path | None = None, **rows: Row) -> Examination:
        coco = copy.deepcopy(sound())
        coco["annotations"][0].update(annotation or {})
        for name, values in rows.items():
            coco[name][0].update(values)
        file = tmp_path / "file.json"
        file.write_text(json.dumps(coco))
        return examine_coco(file, images_dir)

    return run


def first(examination: Examination) -> Row:
    """The first annotation as the repair leaves it."""
    assert examination.repaired is not None
    return dict(examination.repaired["annotations"][0])


def codes(examination: Examination) -> list[str]:
    return [finding.code for finding in examination.findings]


# The first annotation is a square with corners (5, 5) and (65, 65), with the outline of the same.
SQUARE = [5.0, 5.0, 60.0, 60.0]


@pytest.mark.parametrize(
    ("annotation", "code", "bbox"),
    [
        ({"bbox": [65, 65, -60, -60]}, "VK203", SQUARE),
        ({"bbox": [5 / 320, 5 / 212, 60 / 320, 60 / 212]}, "VK207", SQUARE),
        ({"bbox": [35 / 320, 35 / 212, 60 / 320, 60 / 212]}, "VK207", SQUARE),  # of the centre
        ({"bbox": [20, 5, 60, 60]}, "VK209", SQUARE),
        ({"bbox": None}, "VK201", SQUARE),
        ({"bbox": [5, 5, 0, 60]}, "VK204", SQUARE),
        ({"bbox": [5, 5, "60", 60]}, "VK201", SQUARE),
        # Without an outline nothing says where the object is.
        ({"bbox": [5, 5, 400, 60], "segmentation": [], "area": 24000}, "VK206", [5, 5, 315, 60]),
        ({"bbox": [100, 100, 180, 170], "segmentation": [], "area": 80 * 70}, "VK208", [100, 100, 80, 70]),
    ],
)
def test_a_box_is_mended(examine: Any, annotation: Row, code: str, bbox: list[float]) -> None:
    examination = examine(annotation)
    assert codes(examination)[0] == code
    assert first(examination)["bbox"] == pytest.approx(bbox)
    assert examination.findings[0].repaired


@pytest.mark.parametrize(
    ("annotation", "code", "segmentation"),
    [
        ({"segmentation": [5, 5, 65, 5, 65, 65, 5, 65]}, "VK303", [[5, 5, 65, 5, 65, 65, 5, 65]]),
        ({"segmentation": [[5, 5, 65, 5, 65, 65, 5, 65], [1, 2, 3]]}, "VK303", [[5, 5, 65, 5, 65, 65, 5, 65]]),
        ({"segmentation": [[5, 5, 65, 5, 65, 65, 5, 65], [1, 2, 3, 4]]}, "VK301", [[5, 5, 65, 5, 65, 65, 5, 65]]),
        ({"segmentation": [[5, 5, 65, 5, 65, 65, 5, 65], []]}, "VK308", [[5, 5, 65, 5, 65, 65, 5, 65]]),
        ({"segmentation": {"size": [320, 212], "counts": [0, 67840]}}, "VK305", []),
        ({"segmentation": {"size": [212, 320], "counts": [1, 2]}}, "VK306", []),
        ({"segmentation": "polygon"}, "VK303", []),
    ],
)
def test_a_mask_is_mended(examine: Any, annotation: Row, code: str, segmentation: Any) -> None:
    examination = examine(annotation)
    assert codes(examination) == [code]
    assert first(examination)["segmentation"] == segmentation


def test_corners_near_0_are_no_evidence(examine: Any) -> None:
    # As x y w h the box [5, 5, 65, 65] overlaps the square by 3600 / 4225 = 0.85: its side is 5 px off, no more.
    assert codes(examine({"bbox": [5, 5, 65, 65]})) == []


def test_a_polygon_that_crosses_itself_is_noted_and_kept(examine: Any) -> None:
    bow = [[5, 5, 65, 65, 65, 5, 5, 65]]
    examination = examine({"segmentation": bow, "area": 1800})
    assert codes(examination) == ["VK304"]
    assert first(examination)["segmentation"] == bow


@pytest.mark.parametrize(
    ("annotation", "code", "key", "value"),
    [
        ({"area": 36000}, "VK210", "area", 3600),
        ({"area": -1}, "VK214", "area", 3600),
        ({"area": None}, "VK211", "area", 3600),
        ({"iscrowd": 2}, "VK215", "iscrowd", 0),
        ({"iscrowd": True}, "VK215", "iscrowd", 1),
        ({"iscrowd": None}, "VK212", "iscrowd", 0),
        ({"id": "1"}, "VK103", "id", 1),
        ({"category_id": "1"}, "VK103", "category_id", 1),
        ({"category_id": 1.0}, "VK103", "category_id", 1),
        ({"category_id": 77}, "VK105", "id", 2),  # nobody knows the class: the annotation goes
    ],
)
def test_the_rest_is_mended(examine: Any, annotation: Row, code: str, key: str, value: Any) -> None:
    examination = examine(annotation)
    assert codes(examination)[0] == code
    assert first(examination)[key] == value


def test_areas_of_box_and_of_mask_are_both_right(examine: Any) -> None:
    # A triangle: half of its box. Datasets of boxes write the box's area, those of masks the mask's.
    triangle = [[5, 5, 65, 5, 65, 65]]
    for area in (3600, 1800):
        assert codes(examine({"segmentation": triangle, "area": area})) == []


def test_an_annotation_with_the_same_box_twice(examine: Any, tmp_path: Path) -> None:
    coco = sound()
    twin = {**copy.deepcopy(coco["annotations"][0]), "id": 20}
    near = {**copy.deepcopy(coco["annotations"][0]), "id": 21, "bbox": [5, 5, 60, 61]}
    coco["annotations"] += [twin, near]
    file = tmp_path / "twins.json"
    file.write_text(json.dumps(coco))
    examination = examine_coco(file)
    assert [(f.code, f.annotation_id, f.repaired) for f in examination.findings] == [
        ("VK213", 20, True),  # says the same: one goes
        ("VK213", 21, False),  # nobody knows which of the two is better
    ]


def test_a_file_that_writes_corners_throughout(tmp_path: Path) -> None:
    coco = sound()
    for row in coco["annotations"]:
        x, y, w, h = row["bbox"]
        row["bbox"] = [x + 100, y, x + 100 + w, y + h]
        del row["segmentation"], row["area"]
    file = tmp_path / "corners.json"
    file.write_text(json.dumps(coco))
    examination = examine_coco(file)
    corners = [finding for finding in examination.findings if finding.code == "VK208"]
    assert len(corners) == 19
    assert first(examination)["bbox"] == [105, 5, 60, 60]


def test_annotations_of_the_picture_as_stored_are_turned_with_it(tmp_path: Path) -> None:
    # Stored 212 x 320, upright 320 x 212 after a quarter turn clockwise: (x, y) -> (320 - y, x).
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (212, 320)).save(tmp_path / "ok_1.jpg", exif=turned)
    coco = sound()
    coco["images"] = [{"id": 1, "file_name": "ok_1.jpg", "width": 212, "height": 320}]
    coco["annotations"] = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 290], "area": 8700, "iscrowd": 0,
         "segmentation": [[10, 20, 40, 20, 40, 310, 10, 310]]}
    ]  # fmt: skip
    file = tmp_path / "stored.json"
    file.write_text(json.dumps(coco))
    examination = examine_coco(file, tmp_path)
    assert "VK406" in codes(examination)
    assert examination.repaired is not None
    assert examination.repaired["images"][0]["width"] == 320
    assert first(examination)["bbox"] == [10, 10, 290, 30]
    assert first(examination)["segmentation"] == [[300, 10, 300, 40, 10, 40, 10, 10]]


def test_what_findings_say(examine: Any) -> None:
    finding = examine({"bbox": [5, 5, 0, 60]}).findings[0]
    assert finding.item == "annotation 1 of image 1"
    assert finding.fact == "has bbox [5, 5, 0, 60]"
    assert (finding.image_id, finding.annotation_id, finding.severity) == (1, 1, "error")
    assert finding.to_json()["title"] == "box without an area"
