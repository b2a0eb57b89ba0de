"""Faults put in on purpose are found, nothing else is called one, and the repaired file is sound."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from coco_referee import own_boxes, pycocotools_scores, truth_of
from diagnosis_faults import KINDS, Coco, damage, score
from reference_data import reference_data

from visionkit.diagnosis.coco import examine_coco
from visionkit.diagnosis.findings import repair_diff, undo


def outlined_objects(images: int) -> Coco:
    """Images of 320 x 240 px with eight-sided objects of three classes, away from the edges."""
    random = np.random.default_rng(5)
    angles = np.arange(8) * np.pi / 4
    annotations = []
    for image_id in range(1, images + 1):
        for place in range(4):
            side_x, side_y = random.uniform(20, 60, 2)
            x, y = 20 + 75 * place + random.uniform(0, 10), random.uniform(15, 160)
            outline = np.stack((x + side_x / 2 * (1 + np.cos(angles)), y + side_y / 2 * (1 + np.sin(angles))), axis=1)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(random.integers(1, 4)),
                    "bbox": [x, y, side_x, side_y],
                    "area": 0.9 * side_x * side_y,
                    "iscrowd": 0,
                    "segmentation": [outline.ravel().tolist()],
                }
            )
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 320, "height": 240} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in ((1, "a"), (2, "b"), (3, "c"))],
    }


def written(coco: Coco, file: Path) -> Path:
    file.write_text(json.dumps(coco))
    return file


def check(coco: Coco, count: int, folder: Path, *, masks: bool = True) -> tuple[float, float]:
    """Recall and precision over all kinds; those of each kind are printed."""
    damaged, faults = damage(coco, count, masks=masks)
    before = examine_coco(written(coco, folder / "sound.json"))
    after = examine_coco(written(damaged, folder / "damaged.json"))
    kinds, precision = score(faults, before.findings, after.findings)
    for kind, result in kinds.items():
        if result.faults:
            found, right = f"{result.found:>3} of {result.faults:>3}", f"{result.right:>3} of {result.told:>3}"
            print(f"{kind:30} {KINDS[kind]}  found {found}  told rightly {right}")
    recall = sum(result.found for result in kinds.values()) / len(faults)
    print(f"recall {recall:.3f}, precision {precision:.3f}")
    return recall, precision


def test_nothing_is_found_in_what_is_sound(tmp_path: Path) -> None:
    assert examine_coco(written(outlined_objects(50), tmp_path / "sound.json")).findings == []


@pytest.mark.parametrize("masks", [True, False])
def test_500_faults_of_12_kinds_and_2_of_masks(tmp_path: Path, masks: bool) -> None:
    coco = outlined_objects(300)
    for row in coco["annotations"] if not masks else ():
        row.update(segmentation=[], area=row["bbox"][2] * row["bbox"][3])
    recall, precision = check(coco, 500, tmp_path, masks=masks)
    assert recall >= 0.99
    assert precision >= 0.99


@pytest.mark.parametrize("seed", range(3))
def test_every_kind_is_repaired_to_where_the_mask_is(tmp_path: Path, seed: int) -> None:
    coco = outlined_objects(60)
    damaged, faults = damage(coco, 48, seed)
    examination = examine_coco(written(damaged, tmp_path / "damaged.json"))
    assert examination.repaired is not None
    before = {row["id"]: row for row in coco["annotations"]}
    after = {row["id"]: row for row in examination.repaired["annotations"]}
    lost = {fault.annotation_id for fault in faults if fault.kind == "unlisted category"}
    assert set(before) - set(after) == lost  # whose class nobody knows; every other annotation is kept
    for annotation_id in set(before) & set(after):
        row = after[annotation_id]
        # An outline of eight corners at multiples of 45 degrees touches all four sides of its box.
        assert row["bbox"] == pytest.approx(before[annotation_id]["bbox"], abs=1e-6), annotation_id
    again = examine_coco(written(examination.repaired, tmp_path / "repaired.json"))
    assert again.findings == []
    stats, _ = pycocotools_scores(examination.repaired, own_boxes(truth_of(examination.repaired)), "bbox")
    assert stats[0] == pytest.approx(1.0)


def test_a_repair_can_be_undone(tmp_path: Path) -> None:
    damaged, _ = damage(outlined_objects(30), 36)
    del damaged["annotations"][7]["iscrowd"]
    examination = examine_coco(written(damaged, tmp_path / "damaged.json"))
    assert examination.repaired is not None
    diff = json.loads(json.dumps(repair_diff(examination, "", "")))
    repaired = json.loads(json.dumps(examination.repaired))
    # As text, because NaN is not equal to itself.
    assert json.dumps(undo(repaired, diff)) == json.dumps(damaged)


@pytest.mark.parametrize(("name", "masks"), [("train", False), ("coco80seg_train", True)])
def test_500_faults_in_real_photos(tmp_path: Path, name: str, masks: bool) -> None:
    file = reference_data("general-photos") / f"annotations/{name}.json"
    recall, precision = check(json.loads(file.read_text()), 500, tmp_path, masks=masks)
    assert recall >= 0.95
    assert precision >= 0.98
