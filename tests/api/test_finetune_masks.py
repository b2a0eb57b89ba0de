"""Mask R-CNN through the same door as every other model: it learns masks, says them, and is judged by them."""

import json
from pathlib import Path

import pytest

import visionkit
from tests.tiny import tiny_settings, write_blocks
from visionkit.errors import ConfigError, DataError, UsageError
from visionkit.predict.masks import decoded_mask


def with_masks(root: Path) -> Path:
    """The segmentation of each block is the block; crowds are RLE."""
    for file in (root / "annotations").glob("*.json"):
        content = json.loads(file.read_text())
        sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        for row in content["annotations"]:
            x, y, w, h = row["bbox"]
            row["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            if row["iscrowd"]:
                height, width = sizes[row["image_id"]]
                row["segmentation"] = {"size": [height, width], "counts": [0, height * width]}
        file.write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_masks(write_blocks(tmp_path_factory.mktemp("masks") / "blocks", {"train": 8, "val": 4}))


@pytest.fixture(scope="module")
def weights(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    settings = tiny_settings(epochs=12, augment={"flip_left_right": 0.5, "affine": 0.5, "scale": 0.2, "mosaic": 0.3})
    return visionkit.finetune(data=data, model="mask-rcnn", out=out, **settings).best


def test_is_judged_by_boxes_and_by_masks(data: Path, weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    boxes = visionkit.evaluate(weights, data, workers=0)
    masks = visionkit.evaluate(weights, data, task="segm", workers=0, save_predictions=file)
    assert (boxes.task, masks.task) == ("bbox", "segm")
    # Blocks fill their boxes: masks are found about as well.
    assert boxes.AP50 is not None
    assert masks.AP50 is not None
    assert boxes.AP50 > 0.1
    assert masks.AP50 > 0.5 * boxes.AP50
    # The file says the same again.
    again = visionkit.evaluate_predictions(file, data / "annotations" / "val.json", task="segm")
    assert again.AP == masks.AP


def test_results_have_a_mask_each(data: Path, weights: Path) -> None:
    image = data / "images" / "val_0.png"
    (result,) = visionkit.load(weights).detect(image, conf=0.1)
    assert result.masks is not None
    assert len(result.masks) == len(result) > 0
    best = decoded_mask(result.masks[0])
    assert best.shape == (result.height, result.width)
    x1, y1, x2, y2 = result.boxes[0].round().astype(int)
    assert best[y1:y2, x1:x2].sum() > 0.8 * best.sum() > 0
    item = result.to_json()["items"][0]
    assert item["mask"] == result.masks[0]
    assert set(item["mask"]) == {"size", "counts"}


def test_a_model_of_boxes_has_no_masks_to_compare(data: Path, tmp_path: Path) -> None:
    last = visionkit.finetune(data=data, model="faster-rcnn", out=tmp_path / "run", **tiny_settings(epochs=1)).last
    message = r"last.safetensors is a faster-rcnn, task segm compares masks of objects; use task bbox"
    with pytest.raises(UsageError, match=message):
        visionkit.evaluate(last, data, task="segm", workers=0)


def test_data_without_masks_and_an_augmentation_that_loses_them_are_refused(data: Path, tmp_path: Path) -> None:
    plain = write_blocks(tmp_path / "plain", {"train": 4, "val": 2})
    with pytest.raises(DataError, match=r"train.json has no masks, learning them needs objects with a segmentation"):
        visionkit.finetune(data=plain, model="mask-rcnn", out=tmp_path / "run", **tiny_settings(epochs=1))
    message = r"augment.copy_paste goes by boxes, model mask-rcnn learns masks; leave it at 0"
    settings = tiny_settings(epochs=1, augment={"copy_paste": 0.5})
    with pytest.raises(ConfigError, match=message):
        visionkit.finetune(data=data, model="mask-rcnn", out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
