"""COCO annotations read column by column give what reading row by row gives, or leave it to that."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionkit.errors import DataError
from visionkit.formats import coco
from visionkit.formats.coco import read_coco
from visionkit.formats.findings import Findings
from visionkit.formats.json_file import LARGE, read_json
from visionkit.formats.plain_annotations import plain_annotations
from visionkit.formats.records import AnnotatedImages, ImageRecord


def row(number: int = 1, **values: Any) -> dict[str, Any]:
    usual = {"id": number, "image_id": 7, "category_id": 3, "bbox": [1, 2, 30, 40.5], "area": 1215, "iscrowd": 0}
    return usual | values


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in row().items() if name != key}


TRIANGLE, SPECK = [0, 0, 9, 0, 9, 9], [1, 1, 5, 5]
PLAIN = [
    [row(1), row(2, image_id=8, category_id=5, iscrowd=1)],
    [row(1, segmentation=[TRIANGLE]), row(2, segmentation=[TRIANGLE, SPECK]), row(3, segmentation=[])],
    [row(1, bbox=[90, 70, 30, 40]), row(2, bbox=[-0.5, -0.5, 20, 20]), row(3, bbox=[-1.5, 0, 20, 20])],
    [row(1, image_id=9, bbox=[5000, 5000, 1, 1]), row(2, area=0, colour="red")],
    [row(-5), row(2**62)],
]
LEFT_TO_THE_OTHER = [
    [],
    [7],
    [without("area")],
    [without("iscrowd")],
    [without("id")],
    [row(1), row(1)],
    [row(2**63)],
    [row(True)],
    [row(image_id=99)],
    [row(category_id=99)],
    [row(iscrowd=2)],
    [row(iscrowd=False)],
    [row(area=-1)],
    [row(area=float("inf"))],
    [row(area="9")],
    [row(bbox=[1, 2, 3])],
    [row(bbox=[1, 2, 0, 3])],
    [row(bbox=[1, 2, 3, 10**400])],
    [row(bbox=[1e7, 2, 3, 4])],
    [row(bbox=[200, 2, 3, 4])],
    [row(segmentation=[[0, 0, 9, float("nan"), 9, 9]])],
]


IMAGES = {7: (100, 80), 8: (100, 80), 9: (0, 0)}
"""Width and height by id; of the last they are not known."""
CATEGORIES = {3: "car", 5: "cat"}


def read(file: Path, skip_bad: bool) -> AnnotatedImages | str:
    try:
        return read_coco(file, skip_bad=skip_bad)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("rows", PLAIN + LEFT_TO_THE_OTHER)
def test_both_ways_of_reading_agree(
    rows: list[Any], skip_bad: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [
        {"id": number, "file_name": f"{number}.jpg", **({"width": width, "height": height} if width else {})}
        for number, (width, height) in IMAGES.items()
    ]
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    file = tmp_path / "truth.json"
    file.write_text(json.dumps({"images": images, "categories": categories, "annotations": rows}))
    quickly = read(file, skip_bad)
    monkeypatch.setattr(coco, "plain_annotations", lambda *given: None)
    assert quickly == read(file, skip_bad)


@pytest.mark.parametrize("rows", PLAIN + LEFT_TO_THE_OTHER)
def test_the_usual_case_alone_is_decided_at_once(rows: list[Any]) -> None:
    images = {
        number: ImageRecord(number, f"{number}.jpg", None, width, height) for number, (width, height) in IMAGES.items()
    }
    findings = Findings(Path("truth.json"))
    said = plain_annotations(rows, images, CATEGORIES, findings)
    assert (said is not None) == (rows in PLAIN)
    if said is None:
        assert not findings.remarks


def test_large_files_hold_the_same_as_json_has_it(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**63, 30_000, dtype=np.int64).view(np.float64)
    numbers = [*bits[np.isfinite(bits)].tolist(), 0.1, 1e308, 5e-324, -0.0, 2**70, 1e22, float("inf")]
    content = {"numbers": numbers, "text": 'é\u2028"\\', "nothing": None, "yes": True, "deep": [[[[{}]]]]}
    file = tmp_path / "large.json"
    for ascii_only in (True, False):
        file.write_text(json.dumps(content, ensure_ascii=ascii_only), encoding="utf-8")
        assert file.stat().st_size < LARGE  # a small file goes another way, and says the same
        small = read_json(file)
        file.write_text(json.dumps(content, ensure_ascii=ascii_only) + " " * LARGE, encoding="utf-8")
        assert repr(read_json(file)) == repr(small) == repr(content)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_large_files_in_other_encodings_are_read_too(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    file.write_text(json.dumps(["é"]) + " " * LARGE, encoding=encoding)
    assert read_json(file) == ["é"]


def test_a_large_file_that_is_no_json_is_refused_in_jsons_words(tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    file.write_text("[1, 2" + " " * LARGE)
    with pytest.raises(DataError, match=r"is not whole, valid JSON \(Expecting ',' delimiter"):
        read_json(file)
    file.write_text("[" * LARGE)
    with pytest.raises(DataError, match="is nested too deeply"):
        read_json(file)
