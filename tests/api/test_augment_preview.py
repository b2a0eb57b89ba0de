"""`visionkit.augment_preview`: the picture shows what training would see; nothing is overwritten."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import visionkit
from visionkit.api.training_samples import sample_sheet
from visionkit.classes import ClassTable
from visionkit.data.augment import PRESETS, AugmentSettings
from visionkit.errors import ConfigError, DataError, UsageError, VisionkitError
from visionkit.imaging.reader import read_image
from visionkit.types import Sample


def test_the_picture_is_the_first_batch_of_a_run_with_the_same_seed(tiny_data: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"imgsz": 64, "augment": {"mixup": 0.5, "copy_paste": 0.5}, "seed": 3}
    visionkit.finetune(
        tiny_data, weights="scratch", epochs=1, batch=4, workers=0, threads=1, out=tmp_path / "run", **settings
    )
    preview = visionkit.augment_preview(tiny_data, count=4, out=tmp_path / "sheet.png", **settings)
    assert preview.picture == tmp_path / "sheet.png"
    sheet = read_image(preview.picture)
    assert sheet.shape == (64, 4 * 64, 3)
    np.testing.assert_array_equal(sheet, read_image(tmp_path / "run" / "first_batch.png"))


def test_another_epoch_or_seed_is_another_picture_and_the_same_one_is_the_same(tiny_data: Path, tmp_path: Path) -> None:
    pictures = []
    for i, options in enumerate([{}, {}, {"epoch": 2}, {"seed": 1}]):
        preview = visionkit.augment_preview(tiny_data, imgsz=64, count=2, out=tmp_path / f"{i}.png", **options)
        pictures.append(preview.picture.read_bytes())
    assert pictures[0] == pictures[1]
    assert len(set(pictures)) == 3


def test_without_augmentation_it_shows_the_data_as_it_is(tiny_data: Path, tmp_path: Path) -> None:
    # Ten pictures with 18 objects; 12 samples are each image once and the first two of the order again.
    preview = visionkit.augment_preview(tiny_data, augment="none", imgsz=64, count=10, out=tmp_path / "ten.png")
    assert (preview.samples, preview.objects, preview.settings.mosaic) == (10, 18, 0.0)
    assert read_image(preview.picture).shape == (3 * 64, 4 * 64, 3)  # rows of four, the last one filled with black
    more = visionkit.augment_preview(tiny_data, augment="none", imgsz=64, count=12, out=tmp_path / "more.png")
    sheet = read_image(more.picture)
    np.testing.assert_array_equal(sheet[128:, 128:], sheet[:64, :128])


def test_a_folder_per_class_is_shown_as_a_classifier_learns_it(tmp_path: Path) -> None:
    for name, colour in (("red", 200), ("blue", 40)):
        for number in range(4):
            path = tmp_path / "data" / "train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((48, 64, 3), colour + number, np.uint8))
    settings: dict[str, Any] = {"imgsz": 32, "augment": {"base": "none", "crop": 1, "mixup": 1}}
    said: list[str] = []
    run = visionkit.finetune(
        tmp_path / "data", model="classifier", weights="scratch", epochs=1, batch=4, workers=0, threads=1,
        out=tmp_path / "run", say=said.append, **settings,
    )  # fmt: skip
    assert run is not None
    assert any(line.endswith(", augment none with crop 1, seed 0") for line in said)  # what is in force, no more
    preview = visionkit.augment_preview(tmp_path / "data", count=4, out=tmp_path / "sheet.png", **settings)
    assert (preview.objects, preview.settings.mixup) == (4, 0)  # a picture of one class is not mixed with another
    np.testing.assert_array_equal(read_image(preview.picture), read_image(run.folder / "first_batch.png"))


def test_ignored_regions_look_different() -> None:
    grey = np.full((96, 96, 3), 90, np.uint8)
    box = np.array([[10, 30, 80, 90]], np.float32)
    table = ClassTable((1, 2), ("cat", "dog"))
    sheets = [
        sample_sheet([Sample(grey, box, np.array([1]), np.array([ignored]), 1)], table) for ignored in (False, True)
    ]
    assert (sheets[0] != sheets[1]).any()


def test_files_are_numbered_and_never_overwritten(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("runs") / "augment-preview"
    for number in (1, 2):
        preview = visionkit.augment_preview(tiny_data, imgsz=32, count=1)
        assert preview.picture == folder / f"data-{number}.png"
    before = preview.picture.read_bytes()
    with pytest.raises(UsageError) as error:
        visionkit.augment_preview(tiny_data, imgsz=32, count=1, seed=8, out=preview.picture)
    assert str(error.value) == f"{preview.picture} exists and nothing is overwritten; give another --out"
    assert preview.picture.read_bytes() == before


def test_settings_come_from_a_file_a_mapping_or_settings(tiny_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("base: light\nmixup: 1\n")
    forms = (file, str(file), {"base": "light", "mixup": 1})
    previews = [
        visionkit.augment_preview(tiny_data, augment=form, imgsz=32, count=2, out=tmp_path / f"{i}.png")
        for i, form in enumerate(forms)
    ]
    assert [p.settings for p in previews] == [previews[0].settings] * 3
    assert previews[0].settings.mixup == 1
    assert previews[0].settings.flip_left_right == PRESETS["light"].flip_left_right
    whole = visionkit.augment_preview(
        tiny_data, augment=AugmentSettings(blur=1), imgsz=32, count=2, out=tmp_path / "whole.png"
    )
    assert whole.to_json()["augment"] == {**whole.to_json()["augment"], "base": "none", "blur": 1.0, "mosaic": 0.0}


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"count": 0}, UsageError, "count must be at least 1, got 0; use 1"),
        ({"count": 401}, UsageError, "count must be at most 400 for one picture, got 401; use 400"),
        (
            {"count": 65, "imgsz": 2048},  # 2**28 pixels are 64 times 2048 * 2048
            UsageError,
            "count must be at most 64 at 2048 px, got 65; use 64 or a smaller imgsz",
        ),
        ({"epoch": 0}, UsageError, "epoch must be at least 1, got 0; use 1"),
        ({"imgsz": 100}, ConfigError, "imgsz = 100: input should be a multiple of 32"),
        ({"seed": -1}, ConfigError, "train.seed = -1: input should be greater than or equal to 0"),
        ({"model": "fcn8s"}, DataError, "has boxes alone, a segmenter learns from masks, polygons or RLEs; add them"),
        ({"augment": "strong"}, ConfigError, "augment = 'strong': input should be 'none', 'light' or 'heavy', or "),
        ({"augment": "no.yaml"}, ConfigError, "augment file no.yaml cannot be read (No such file or directory)"),
        (
            {"model": "mask-rcnn", "augment": {"copy_paste": 0.5}},
            ConfigError,
            "augment.copy_paste goes by boxes, model mask-rcnn learns masks; leave it at 0",
        ),
        ({"split": "tset"}, DataError, "has no split 'tset'; it has train, val, test"),
    ],
)
def test_what_it_refuses(
    options: dict[str, Any],
    kind: type[VisionkitError],
    words: str,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as error:
        visionkit.augment_preview(tiny_data, **options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
