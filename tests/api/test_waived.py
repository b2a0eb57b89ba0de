"""Errors in training data waived by code: their items are left out, any other error still stops."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from masks import write_masks
from tiny import tiny_flags, tiny_settings, write_blocks

import visionkit
from visionkit.api.waived import waives_errors, with_codes
from visionkit.errors import ConfigError, DataError
from visionkit.formats.layout import find_layout, read_split


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


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("coco") / "data", {"train": 6, "val": 3})


def spoil_yolo(data: Path) -> None:
    file = next(file for file in sorted((data / "labels/train").iterdir()) if file.read_text().strip())
    file.write_text(f"{file.read_text()}7 0.5 0.5 0.1 0.1\n")


def spoil_voc(data: Path) -> None:
    file = next(file for file in sorted((data / "Annotations").iterdir()) if "<object>" in file.read_text())
    file.write_text(file.read_text().replace("</object>", "</object><object><name/></object>", 1))


def spoil_labelme(data: Path) -> None:
    files = sorted((data / "train").glob("*.json"))
    file, content = next((f, c) for f in files if (c := json.loads(f.read_text()))["shapes"])
    content["shapes"].append({**content["shapes"][0], "label": ""})
    file.write_text(json.dumps(content))


def spoil_cvat(data: Path) -> None:
    file = data / "train/annotations.xml"
    text = file.read_text()
    file.write_text(text.replace("</image>", '<box label="" xtl="1" ytl="1" xbr="9" ybr="9"/></image>', 1))


SPOIL = {"yolo": spoil_yolo, "voc": spoil_voc, "labelme": spoil_labelme, "cvat": spoil_cvat}
NO_CLASS = "VK105 (annotation of a category that is not listed)"


@pytest.mark.parametrize("name", SPOIL)
def test_errors_of_other_formats_are_named_and_waived_too(name: str, coco: Path, tmp_path: Path) -> None:
    visionkit.convert(coco, tmp_path / name, to=name)
    SPOIL[name](tmp_path / name)
    layout = find_layout(tmp_path / name)
    with pytest.raises(DataError) as caught:
        read_split(layout, "train")
    assert f" | in all 1 x {NO_CLASS}" in str(with_codes(caught.value, layout))
    said: list[str] = []
    waived = ["VK105", "VK201"]  # of VOC's object without a name there is no box either
    assert waives_errors(layout, waived, said.append)
    assert NO_CLASS in said[0]
    assert len(read_split(layout, "train", skip_bad=True).left_out) == 1


def test_masks_too(tmp_path: Path) -> None:
    data = write_masks(tmp_path / "data", {"train": 4, "val": 2})
    (data / "masks/train/1.png").unlink()
    options = {"model": "fcn8s"}
    with pytest.raises(DataError, match=r"in all 1 x VK005 \(image without its annotation file\)"):
        dry_run(data, **options)
    with pytest.raises(DataError, match="holds errors that are not waived: 1 x VK005"):
        dry_run(data, waive="VK306", **options)
    said, left_out = dry_run(data, waive="VK005", **options)
    assert "Waived, and left out: 1 x VK005 (image without its annotation file)" in said
    assert len(left_out) == 1


def test_a_refusal_names_the_codes_of_all_errors(data: Path) -> None:
    change(data, flatten_first)
    change(data, unlist_second, "val")
    with pytest.raises(DataError) as caught:
        dry_run(data)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(
        f" | in all 1 x {NO_CLASS}, 1 x VK204 (box without an area): visionkit doctor {data} --fix OUT repairs, "
        "--waive CODE leaves out | --skip-bad leaves them out"
    )


def test_as_a_user_types_it(command_line: CommandLine, data: Path, tmp_path: Path) -> None:
    change(data, flatten_first)
    out = tmp_path / "run"
    finished = command_line("finetune", "--data", data, *tiny_flags(epochs=1), "--waive", "VK204", "--out", out)
    assert finished.code == 3, finished.stderr
    assert "left out: " in finished.stderr
    assert "waive: [VK204]" in (out / "config.yaml").read_text()
    line = next(row for row in (out / "config.yaml").read_text().splitlines() if row.startswith("waive:"))
    assert line.endswith("# flag")
