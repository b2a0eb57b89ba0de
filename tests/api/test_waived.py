"""Errors in training data waived by code: their items are left out, any other error still stops."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from tiny import tiny_flags, tiny_settings, write_blocks

import visionkit
from visionkit.errors import ConfigError, DataError, UsageError


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """The tiny dataset, a copy."""
    copy = tmp_path / "data"
    shutil.copytree(tiny_data, copy)
    return copy


def change(data: Path, edit: Callable[[Any], None], split: str = "train") -> None:
    file = data / f"annotations/{split}.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def flatten_first(content: Any) -> None:
    content["annotations"][0]["bbox"][2] = 0


def unlist_second(content: Any) -> None:
    content["annotations"][1]["category_id"] = 99


def dry_run(data: Path, **options: Any) -> tuple[list[str], list[str]]:
    """The lines said, and the items left out."""
    said: list[str] = []
    left_out: list[str] = []
    visionkit.finetune(data, dry_run=True, say=said.append, on_skip=left_out.append, **tiny_settings(), **options)
    return said, left_out


def test_a_waived_error_is_left_out_by_name(data: Path) -> None:
    change(data, flatten_first)
    with pytest.raises(DataError, match="width and height of a box must be"):
        dry_run(data)
    said, (line,) = dry_run(data, waive="VK204")
    assert "Waived, and left out: 1 x VK204 (box without an area)" in said
    assert "annotation 1 of image 5 has bbox" in line


def test_another_error_still_stops(data: Path) -> None:
    change(data, flatten_first)
    change(data, unlist_second, "val")
    with pytest.raises(DataError) as caught:
        dry_run(data, waive=["VK204"])
    assert "holds errors that are not waived: 1 x VK105 (annotation of a category that is not listed); run " in str(
        caught.value
    )
    _, left_out = dry_run(data, waive=["VK204", "VK105"])
    assert len(left_out) == 2


def test_a_damaged_image_has_a_code_of_its_own(data: Path) -> None:
    change(data, flatten_first)
    name = json.loads((data / "annotations/train.json").read_text())["images"][3]["file_name"]
    (data / "images" / name).write_bytes((data / "images" / name).read_bytes()[:200])
    with pytest.raises(DataError, match="not waived: 1 x VK404"):
        dry_run(data, waive=["VK204"])


def test_sound_data_need_no_waiver(data: Path) -> None:
    said, left_out = dry_run(data, waive=["VK204"])
    assert left_out == []
    assert not [line for line in said if line.startswith("Waived")]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("VK999", "input should be codes of errors, and VK999 is none"),
        ("VK206", "VK206 is a warning, which stops nothing"),
    ],
)
def test_what_is_no_code_of_an_error_is_refused(data: Path, code: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        dry_run(data, waive=code)


def test_data_without_codes_are_refused(tmp_path: Path) -> None:
    yolo = tmp_path / "yolo"
    coco = write_blocks(tmp_path / "coco", {"train": 4, "val": 2})
    visionkit.convert(coco, yolo, to="yolo")
    label = next(file for file in sorted((yolo / "labels/train").iterdir()) if file.read_text().strip())
    label.write_text("7 0.5 0.5 0.1 0.1\n")
    with pytest.raises(UsageError, match="is not COCO, --waive goes by the codes of errors in COCO files"):
        dry_run(yolo, waive="VK105")


def test_as_a_user_types_it(command_line: CommandLine, data: Path, tmp_path: Path) -> None:
    change(data, flatten_first)
    out = tmp_path / "run"
    finished = command_line("finetune", "--data", data, *tiny_flags(epochs=1), "--waive", "VK204", "--out", out)
    assert finished.code == 3, finished.stderr
    assert "left out: " in finished.stderr
    assert "waive: [VK204]" in (out / "config.yaml").read_text()
    line = next(row for row in (out / "config.yaml").read_text().splitlines() if row.startswith("waive:"))
    assert line.endswith("# flag")
