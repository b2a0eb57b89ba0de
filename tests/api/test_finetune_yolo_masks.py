"""YOLO with masks through the same door as every other model."""

from pathlib import Path

import numpy as np
import pytest

import visionkit
from tests.api.test_finetune_masks import with_masks
from tests.api.test_resume import results_of, stopped
from tests.tiny import tiny_settings, write_blocks
from visionkit.api.layers import layers
from visionkit.build import load_model
from visionkit.imaging.reader import read_image
from visionkit.predict.masks import decoded_mask


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_masks(write_blocks(tmp_path_factory.mktemp("masks") / "blocks", {"train": 10, "val": 4}))


@pytest.fixture(scope="module")
def weights(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    settings = tiny_settings(epochs=20, augment="none", set=["train.evaluate_every=4", "grow_from=1"])
    return visionkit.finetune(data=data, model="yolo-masks", out=out, **settings).best


def test_is_judged_by_boxes_and_by_masks(data: Path, weights: Path) -> None:
    boxes = visionkit.evaluate(weights, data, workers=0)
    masks = visionkit.evaluate(weights, data, task="segm", workers=0)
    assert (boxes.task, masks.task) == ("bbox", "segm")
    assert boxes.AP50 is not None
    assert masks.AP50 is not None
    # Blocks fill their boxes: masks are found about as well.
    assert boxes.AP50 > 0.1
    assert masks.AP50 > 0.5 * boxes.AP50


def test_pictures_show_the_masks_that_are_judged(data: Path, weights: Path, tmp_path: Path) -> None:
    for task in ("bbox", "segm"):
        visionkit.evaluate(weights, data, task=task, workers=0, pictures=tmp_path / task)
    boxes, masks = (read_image(tmp_path / task / "val_0.png").astype(int) for task in ("bbox", "segm"))
    assert boxes.shape == masks.shape
    # Two blocks of 18 px a side at least fill 0.16 of 64 x 64 px: so much of the truth gets the colours of classes.
    truth = np.abs(boxes - masks)[:, : masks.shape[1] // 2]
    assert (truth.max(axis=2) > 20).mean() > 0.1


def test_results_have_a_mask_each(data: Path, weights: Path) -> None:
    # So short a training finds something in one picture or another.
    found = visionkit.load(weights).detect(data / "images" / "val_*.png", conf=0.1)
    result = max(found, key=lambda one: float(one.scores.max(initial=0)))
    assert result.masks is not None
    assert len(result.masks) == len(result) > 0
    best = decoded_mask(result.masks[0])
    assert best.shape == (result.height, result.width)
    x1, y1, x2, y2 = result.boxes[0].round().astype(int)
    assert best[y1:y2, x1:x2].sum() > 0.8 * best.sum() > 0


def test_stopped_and_resumed_it_ends_in_the_same_bytes(data: Path, tmp_path: Path) -> None:
    stopped(data, tmp_path / "stopped", saves=4, model="yolo-masks", augment="heavy")
    visionkit.finetune(resume=tmp_path / "stopped")
    settings = tiny_settings(epochs=2, imgsz=32, set=["train.save_minutes=0"], model="yolo-masks", augment="heavy")
    visionkit.finetune(data, out=tmp_path / "whole", **settings)
    assert results_of(tmp_path / "stopped") == results_of(tmp_path / "whole")


def test_only_the_mask_branch_learns_where_the_rest_is_frozen(data: Path, weights: Path, tmp_path: Path) -> None:
    options = {"freeze": ["backbone", "neck", "head"], "weights": weights, "augment": "none"}
    last = visionkit.finetune(
        data=data, model="yolo-masks", out=tmp_path / "run", **{**tiny_settings(epochs=1), **options}
    ).last
    before, after = (load_model(file).model.state_dict() for file in (weights, last))
    changed = {name.split(".")[0] for name in before if not before[name].equal(after[name])}
    assert changed == {"mask"}


def test_its_units_are_listed() -> None:
    found = layers("yolo-masks", imgsz=64, classes=3)
    rows = {row.name: row for row in found.rows}
    assert list(rows)[-4:] == ["mask.tower", "mask.enlarge", "mask.kernel_towers", "mask.kernel_predictors"]
    assert rows["mask.enlarge"].output == "8x16x16"
    assert rows["mask.kernel_predictors"].output == "97x8x8, 97x4x4, 97x2x2"
    # There are no regions: what is said of objects is said in no unit.
    assert (found.regions, found.masks) == (None, None)
