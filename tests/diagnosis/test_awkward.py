"""Files with one thing wrong or unusual each: the right code, and a repair that pycocotools can live with.

Every case meets the table twice: as a file of the reference data `awkward`, where that is here, and as made by
`tests/awkward_annotations.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from awkward_annotations import CHANGES, TEXTS, write_awkward
from coco_referee import own_boxes, pycocotools_scores, truth_of
from reference_data import reference_data

from visionkit.diagnosis.coco import examine_coco
from visionkit.imaging.reader import read_image

# Errors and warnings; notes are left out of the table. Codes in brackets of a comment are what is nobody's fault.
CODES: dict[str, set[str]] = {
    "annotation_without_bbox": {"VK201"},
    "annotation_without_category": {"VK105"},
    "annotation_without_id": {"VK101"},
    "annotation_without_image": {"VK104"},
    "box_outside": {"VK205"},
    "box_partly_outside": {"VK206"},
    "broken_files": {"VK404"},
    "category_gaps": set(),
    "category_ids_from_zero": set(),
    "crowd_rle": set(),
    "crowd_rle_compressed": set(),
    "crowd_without_mask": set(),
    "duplicate_annotation_ids": {"VK102"},
    "duplicate_category_ids": {"VK102", "VK105"},  # and what was of the id that is nobody's now
    "duplicate_image_ids": {"VK102", "VK104"},
    "duplicate_image_names": {"VK109"},
    "empty_annotations": set(),
    "empty_images": {"VK002"},
    "exif_size": set(),
    "extra_keys": set(),
    "good": set(),
    "image_ids_from_zero": set(),
    "image_without_file_name": {"VK401"},
    "image_without_size": set(),
    "missing_files": {"VK402"},
    "nan_box": {"VK202"},
    "negative_box": {"VK203"},
    "negative_category_id": set(),
    "no_annotations": {"VK002"},
    "no_categories": {"VK002"},
    "no_images": {"VK002"},
    "no_iscrowd_no_area": set(),
    "null_box": {"VK201"},
    "one_empty_image": set(),
    "path_traversal": {"VK403"},
    "paths_in_names": set(),
    "polygon_empty": set(),
    "polygon_outside": {"VK302"},
    "polygon_two_points": {"VK301"},
    "short_box": {"VK201"},
    "string_ids": {"VK103"},
    "truncated": {"VK001"},
    "empty_file": {"VK001"},
    "unknown_category": {"VK105"},
    "unknown_image": {"VK104"},
    "unused_category": set(),
    "utf8_names": set(),
    "wrong_size": {"VK405"},
    "zero_area_box": {"VK204"},
}
NOTES = {
    "no_iscrowd_no_area": {"VK211", "VK212"},
    "image_without_size": {"VK407"},
    "polygon_empty": {"VK308"},
    "unused_category": {"VK108"},
}
# What only the author knows: whose the annotations are; or no image is left.
HOPELESS = {"duplicate_category_ids", "duplicate_image_ids", "broken_files"}
# A change to one object may bring up more: its box and its mask, or its area, no longer go together.
FOLLOW = {"VK209", "VK210"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_awkward(tmp_path_factory.mktemp("awkward") / "data")


def folder_of(kind: str, made: Path) -> Path:
    return made if kind == "made" else reference_data("awkward")


def test_the_table_is_complete() -> None:
    assert set(CODES) == {*CHANGES, *TEXTS}


@pytest.mark.parametrize("kind", ["made", "reference"])
@pytest.mark.parametrize("name", sorted(CODES))
def test_each_file_gets_its_code(name: str, kind: str, made: Path) -> None:
    folder = folder_of(kind, made)
    examination = examine_coco(folder / f"annotations/{name}.json", folder / "images", look=read_image)
    told = {finding.code for finding in examination.findings if finding.severity != "note"}
    assert told - FOLLOW == CODES[name] - FOLLOW, examination.findings
    notes = {finding.code for finding in examination.findings if finding.severity == "note"}
    assert NOTES.get(name, set()) <= notes


@pytest.mark.parametrize("kind", ["made", "reference"])
@pytest.mark.parametrize("name", sorted(set(CODES) - HOPELESS))
def test_perfect_detections_of_a_repaired_file_score_1(name: str, kind: str, made: Path, tmp_path: Path) -> None:
    folder = folder_of(kind, made)
    repaired = examine_coco(folder / f"annotations/{name}.json", folder / "images", look=read_image).repaired
    if CODES[name] & {"VK001", "VK002"}:
        assert repaired is None
        return
    assert repaired is not None
    file = tmp_path / "repaired.json"
    file.write_text(json.dumps(repaired, allow_nan=False))
    again = examine_coco(file, folder / "images", look=read_image)
    assert [finding for finding in again.findings if finding.severity == "error"] == []
    if repaired["annotations"]:
        stats, _ = pycocotools_scores(repaired, own_boxes(truth_of(repaired)), "bbox")
        assert stats[0] == pytest.approx(1.0)


@pytest.mark.parametrize("name", sorted(HOPELESS))
def test_what_only_the_author_can_repair_is_still_an_error_afterwards(name: str, made: Path, tmp_path: Path) -> None:
    repaired = examine_coco(made / f"annotations/{name}.json", made / "images", look=read_image).repaired
    file = tmp_path / "repaired.json"
    file.write_text(json.dumps(repaired))
    again = examine_coco(file, made / "images", look=read_image)
    assert any(finding.severity == "error" and not finding.repaired for finding in again.findings)


def test_the_two_broken_boxes_of_blood_cells_and_nothing_else() -> None:
    folder = reference_data("blood-cells")
    found = [
        finding
        for split in ("train", "val", "test")
        for finding in examine_coco(folder / f"annotations_raw/{split}.json", folder / "images").findings
        if finding.severity == "error"
    ]
    known = json.loads((folder / "broken_boxes.json").read_text())
    assert len(found) == 2
    assert {finding.code for finding in found} == {"VK204"}
    assert known
