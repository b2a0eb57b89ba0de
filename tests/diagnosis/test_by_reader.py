"""Formats that are judged by what their readers refuse: the code of each rule, and no repair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from diagnosis_files import write_text
from PIL import Image

from visionkit.api.doctor import doctor
from visionkit.diagnosis.findings import Examination
from visionkit.diagnosis.splits import examine_split
from visionkit.errors import UsageError
from visionkit.formats.layout import find_layout

BOX = {"label": "cat", "shape_type": "rectangle", "points": [[10, 10], [30, 40]]}


def labelme(root: Path, *shapes: Any, **others: Any) -> Path:
    """A picture of 100 x 80 px and a file of these shapes, beside one that is sound."""
    for name, content in (("a", {"shapes": [BOX]}), ("b", {"shapes": shapes, **others})):
        write_text(root / f"{name}.json", json.dumps({"imageWidth": 100, "imageHeight": 80, **content}))
        Image.new("RGB", (100, 80)).save(root / f"{name}.png")
    return root


def cvat(root: Path, *shapes: str, image: str = 'name="b.png" width="100" height="80"') -> Path:
    box = '<box label="cat" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    sound = f'<image id="0" name="a.png" width="100" height="80">{box}</image>'
    write_text(root / "annotations.xml", f"<annotations>{sound}<image {image}>{''.join(shapes)}</image></annotations>")
    (root / "images").mkdir()
    for name in "ab":
        Image.new("RGB", (100, 80)).save(root / f"images/{name}.png")
    return root


def examined(root: Path) -> Examination:
    return examine_split(find_layout(root).splits["train"])


def codes(found: Examination) -> list[str]:
    return [finding.code for finding in found.findings if finding.severity != "note"]


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ({**BOX, "label": " "}, "VK105"),
        ({**BOX, "points": [[10, 10]]}, "VK303"),
        ({**BOX, "points": [[10, 10], [10, 40]]}, "VK204"),
        ({**BOX, "points": [[110, 10], [130, 40]]}, "VK205"),
        ({**BOX, "points": [[50, 10], [130, 40]]}, "VK206"),
        ({**BOX, "shape_type": "mask", "mask": "none"}, "VK306"),
        ({**BOX, "shape_type": "polygon", "points": [[10, 10], [1e300, 10], [10, 40]]}, "VK303"),
    ],
)
def test_shapes_of_labelme(tmp_path: Path, shape: dict[str, Any], code: str) -> None:
    found = examined(labelme(tmp_path, BOX, shape))
    assert codes(found) == [code]
    assert not any(finding.repaired for finding in found.findings)


def test_files_of_labelme(tmp_path: Path) -> None:
    root = labelme(tmp_path, BOX, imageWidth=90)
    Image.new("RGB", (9, 9)).save(root / "c.png")  # without a file
    write_text(root / "d.json", json.dumps({"shapes": [BOX], "imagePath": "gone.png"}))
    write_text(root / "e.json", "{")
    Image.new("RGB", (9, 9)).save(root / "e.png")
    found = examined(root)
    assert sorted(finding.code for finding in found.findings) == ["VK001", "VK006", "VK402", "VK405"]


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ('<box label="" xtl="1" ytl="1" xbr="9" ybr="9"/>', "VK105"),
        ('<box label="cat" xtl="nan" ytl="1" xbr="9" ybr="9"/>', "VK201"),
        ('<box label="cat" xtl="9" ytl="1" xbr="9" ybr="9"/>', "VK204"),
        ('<polygon label="cat" points="1,1;2"/>', "VK303"),
        ('<mask label="cat" left="0" top="0" width="2" height="2" rle="1"/>', "VK306"),
    ],
)
def test_shapes_of_cvat(tmp_path: Path, shape: str, code: str) -> None:
    assert codes(examined(cvat(tmp_path, shape))) == [code]


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ('name="gone.png"', "VK402"),
        ('name="../b.png"', "VK403"),
        ('name=""', "VK401"),
        ('name="b.png" width="wide" height="80"', "VK408"),
    ],
)
def test_images_of_cvat(tmp_path: Path, image: str, code: str) -> None:
    assert codes(examined(cvat(tmp_path, image=image))) == [code]


def test_class_folders(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / f"train/{name}").mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / f"train/{name}/a.png")
    write_text(tmp_path / "train/cat/b.png", "nothing")
    (tmp_path / "train/cow").mkdir()
    assert [finding.code for finding in examined(tmp_path).findings] == ["VK404", "VK108"]


def test_what_is_not_repaired_is_said_in_a_line(tmp_path: Path) -> None:
    root = labelme(tmp_path / "data", {**BOX, "label": ""})
    with pytest.raises(UsageError, match="is of a format that is not repaired; mend it in the tool that wrote it") as e:
        doctor(root, fix=tmp_path / "copy", look_at_images=False)
    assert "\n" not in str(e.value)
    assert not (tmp_path / "copy").exists()
