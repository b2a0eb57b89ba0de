"""Results files read column by column give what reading row by row gives, or leave it to that."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats import coco_results
from visionkit.formats.coco_results import read_results
from visionkit.formats.coco_segmentation import are_sound_rles, checked_segmentation
from visionkit.formats.records import AnnotatedImages, ImageRecord
from visionkit.formats.sound_results import sound_results

TRUTH = AnnotatedImages(
    classes=ClassTable((3, 17), ("car", "cat")),
    images=(ImageRecord(1, "a.jpg", None, 100, 80), ImageRecord(2, "b.jpg", None, 0, 0)),
    source=Path("val.json"),
)


def row(**values: Any) -> dict[str, Any]:
    return {"image_id": 1, "category_id": 3, "bbox": [1.0, 2.0, 3.0, 4.5], "score": 0.5} | values


def rle(seed: int, height: int = 80, width: int = 100) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(3):
        y, x = random.integers(0, height - 9), random.integers(0, width - 9)
        mask[y : y + random.integers(1, 9), x : x + random.integers(1, 9)] = 1
    said = coco_mask.encode(np.asfortranarray(mask))
    return {"size": [height, width], "counts": said["counts"].decode()}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in row().items() if name != key}


SOUND = [
    [row(), row(image_id=2, category_id=17, score=1)],
    [row(bbox=[1, 2, 3, 4]), row(id=9, area=12, bbox=[-5, 90, 0, 30])],
    [row(segmentation=rle(0)), row(segmentation=None), row(segmentation=[]), row(segmentation=rle(1))],
    [row(score=-7)],
]
LEFT_TO_THE_OTHER = [
    [],
    [7],
    [row(), without("score")],
    [row(image_id=9)],
    [row(image_id=True)],
    [row(image_id=[1])],
    [row(category_id="3")],
    [row(score=float("nan"))],
    [row(score=10**400)],
    [row(score=True)],
    [row(bbox=None)],
    [row(bbox=[1, 2, 3])],
    [row(bbox=[1, 2, 3, "4"])],
    [row(bbox=[1, 2, -3, 4])],
    [row(bbox=[1, 2, 3, 1e9])],
    [row(segmentation=[[0, 0, 9, 0, 9, 9]])],
    [row(segmentation="")],
    [row(image_id=2, segmentation=rle(0))],  # of an image whose size is not known
    [row(segmentation=rle(0, 100, 80))],
    [row(segmentation={"size": [80, 100], "counts": [8000]})],
    [row(segmentation={"size": [80.0, 100.0], "counts": rle(0)["counts"]})],
]


def slowly(file: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]] | str:
    """What reading row by row gives, or its message."""
    with monkeypatch.context() as patch:
        patch.setattr(coco_results, "sound_results", lambda content, truth: None)
        try:
            return read_results(file, TRUTH)
        except DataError as error:
            return str(error)


@pytest.mark.parametrize("rows", SOUND + LEFT_TO_THE_OTHER)
def test_both_ways_of_reading_agree(rows: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "found.json"
    file.write_text(json.dumps(rows))
    expected = slowly(file, monkeypatch)
    try:
        said: Any = read_results(file, TRUTH)
    except DataError as error:
        said = str(error)
    assert said == expected
    assert json.dumps(said) == json.dumps(expected) or rows in SOUND  # whole numbers among boxes too


@pytest.mark.parametrize("rows", SOUND)
def test_the_usual_case_is_decided_at_once(rows: list[Any]) -> None:
    before = json.dumps(rows)
    said = sound_results(rows, TRUTH)
    assert said is not None
    assert all(type(value) is float for found in said for value in found["bbox"])
    assert json.dumps(rows) == before  # nothing is written into what was given


@pytest.mark.parametrize("rows", LEFT_TO_THE_OTHER)
def test_anything_else_is_not(rows: list[Any]) -> None:
    assert sound_results(rows, TRUTH) is None


# Run lengths by the thousand


def slowly_sound(mask: dict[str, Any], size: list[int]) -> bool:
    try:
        checked_segmentation(mask, size[1], size[0])
    except DataError:
        return False
    return True


def test_masks_of_many_kinds_are_sound() -> None:
    masks = [rle(seed) for seed in range(300)]
    whole, nothing = (coco_mask.encode(np.full((80, 100), value, np.uint8, order="F")) for value in (1, 0))
    masks += [{"size": [80, 100], "counts": said["counts"].decode()} for said in (whole, nothing)]
    stripes = coco_mask.encode(np.asfortranarray(np.indices((80, 100))[0] % 2, dtype=np.uint8))
    masks.append({"size": [80, 100], "counts": stripes["counts"].decode()})
    assert are_sound_rles(masks, [[80, 100]] * len(masks))
    assert are_sound_rles([], [])


@pytest.mark.parametrize("seed", range(200))
def test_a_broken_mask_among_sound_ones_is_found(seed: int) -> None:
    random = np.random.default_rng(seed)
    text = rle(seed)["counts"]
    place = int(random.integers(len(text)))
    letter = chr(int(random.integers(40, 125)))
    broken = {"size": [80, 100], "counts": (text[:place] + letter + text[place + int(random.integers(2)) :])}
    masks = [rle(1), broken, rle(2)]
    assert are_sound_rles(masks, [[80, 100]] * 3) == slowly_sound(broken, [80, 100])


@pytest.mark.parametrize("counts", ["", "0", "ooooooooo0", "é", b"0", None, 7])
def test_what_is_no_run_length_is_not_sound(counts: Any) -> None:
    assert not are_sound_rles([rle(1), {"size": [80, 100], "counts": counts}], [[80, 100]] * 2)
