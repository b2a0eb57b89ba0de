"""What the doctor says of VOC's annotation files and lists: by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnosis_files import write_text
from pictures import exif
from PIL import Image

from visionkit.diagnosis.findings import Examination
from visionkit.diagnosis.splits import examine_split
from visionkit.formats.layout import find_layout

SIZE = "<size><width>100</width><height>80</height><depth>3</depth></size>"


def thing(*sides: object, name: str = "cat", extra: str = "") -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{tag}>{side}</{tag}>" for tag, side in zip(tags, sides, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


SOUND = thing(1, 1, 20, 20)


def dataset(root: Path, *things: str, size: str = SIZE) -> Path:
    """One picture of 100 x 80 px with these objects."""
    write_text(root / "Annotations/a.xml", f"<annotation>{size}{''.join(things)}</annotation>")
    write_text(root / "ImageSets/Main/train.txt", "a\n")
    (root / "JPEGImages").mkdir()
    Image.new("RGB", (100, 80)).save(root / "JPEGImages/a.png")
    return root


def examined(root: Path) -> Examination:
    return examine_split(find_layout(root).splits["train"])


def repaired(found: Examination, name: str = "a.xml") -> str | None:
    assert found.copy is not None
    of_file = [repair.after for repair in found.copy.repairs if repair.file.name == name]
    return of_file[0].decode() if of_file and of_file[0] is not None else None


@pytest.mark.parametrize(
    ("said", "code", "after"),
    [
        (thing(60, 50, 31, 21), "VK203", thing(31, 21, 60, 50)),
        # 0.3 of 100 px is 30: the box begins behind the 30th pixel, VOC's 31.
        (thing(0.3, 0.25, 0.6, 0.625), "VK207", thing(31, 21, 60, 50)),
        (thing(31, 21, 109, 50), "VK206", thing(31, 21, 100, 50)),
        (thing(31, 21, 30, 50), "VK204", ""),
        (thing(131, 21, 160, 50), "VK205", ""),
        (thing(31, 21, "inf", 50), "VK202", ""),
        (thing(31, 21, "", 50), "VK201", ""),
        ("<object><name>cat</name></object>", "VK201", ""),
        (thing(31, 21, 60, 50, name=" "), "VK105", ""),
        (
            thing(31, 21, 60, 50, extra="<difficult>yes</difficult>"),
            "VK215",
            thing(31, 21, 60, 50, extra="<difficult>0</difficult>"),
        ),
    ],
)
def test_an_object(tmp_path: Path, said: str, code: str, after: str) -> None:
    found = examined(dataset(tmp_path, SOUND, said))
    (finding,) = found.findings
    assert (finding.code, finding.item, finding.repaired) == (code, "object 2", True)
    assert finding.file == tmp_path / "Annotations/a.xml"
    assert repaired(found) == f"<annotation>{SIZE}{SOUND}{after}</annotation>"


def test_a_box_of_one_pixel_may_be_meant(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, SOUND, thing(31, 21, 31, 50)))
    assert [(f.code, f.severity, f.repaired) for f in found.findings] == [("VK220", "warning", False)]
    assert repaired(found) is None


def test_boxes_that_count_from_0_are_noted_once(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, thing(0, 5, 20, 20), thing(30, 0, 60, 40), SOUND))
    assert [(f.code, f.fact) for f in found.findings] == [("VK219", "has 2 of 3 boxes with xmin or ymin 0")]


def test_width_and_height_in_place_of_corners(tmp_path: Path) -> None:
    # Eight boxes of 10 x 10 px, from 5, 10, ... 40 on: beyond 10 they would end before they begin.
    found = examined(dataset(tmp_path, *[thing(5 * i, 5 * i, 10, 10) for i in range(1, 9)]))
    assert {finding.code for finding in found.findings} == {"VK221"}
    # The pixels 40 .. 49, counted from 1.
    assert (repaired(found) or "").endswith(f"{thing(40, 40, 49, 49)}</annotation>")


@pytest.mark.parametrize(
    ("size", "code"),
    [
        ("<size><width>80</width><height>80</height><depth>3</depth></size>", "VK405"),
        ("<size><width>wide</width><height>80</height><depth>3</depth></size>", "VK408"),
        ("<size><width>wide</width><height>0</height><depth>3</depth></size>", "VK408"),
        ("<size><width>0</width><height>0</height><depth>3</depth></size>", "VK407"),
        ("<size/>", "VK407"),
        ("", "VK407"),
    ],
)
def test_the_stated_size(tmp_path: Path, size: str, code: str) -> None:
    found = examined(dataset(tmp_path, SOUND, size=size))
    (finding,) = found.findings
    assert (finding.code, finding.file.name, finding.repaired) == (code, "a.xml", True)
    assert repaired(found) == f"<annotation>{SIZE}{SOUND}</annotation>"


def test_annotations_of_the_picture_as_stored_are_turned_with_it(tmp_path: Path) -> None:
    root = dataset(tmp_path, thing(11, 1, 30, 5))
    (root / "JPEGImages/a.png").unlink()
    # Stored 100 x 80, shown a quarter turn clockwise, 80 x 100: x' = 80 - y - height, y' = x.
    Image.new("RGB", (100, 80)).save(root / "JPEGImages/a.jpg", exif=exif(6))
    found = examined(root)
    assert [f.code for f in found.findings] == ["VK406"]
    size = SIZE.replace("100", "W").replace("80", "100").replace("W", "80")
    # Pixels 10 .. 29 from the left and 0 .. 4 from above: 75 .. 79 and 10 .. 29.
    assert repaired(found) == f"<annotation>{size}{thing(76, 11, 80, 30)}</annotation>"


def test_files_that_lack_each_other(tmp_path: Path) -> None:
    root = dataset(tmp_path, SOUND)
    write_text(root / "ImageSets/Main/train.txt", "a\nb\nc\n../d\n")
    Image.new("RGB", (100, 80)).save(root / "JPEGImages/b.png")  # listed, not annotated
    write_text(root / "Annotations/c.xml", f"<annotation>{SOUND}</annotation>")  # listed, no image
    write_text(root / "Annotations/e.xml", f"<annotation>{SOUND}</annotation>")  # neither
    Image.new("RGB", (100, 80)).save(root / "JPEGImages/f.png")  # neither
    found = examined(root)
    assert [(f.code, f.file.name, f.item, f.repaired) for f in found.findings] == [
        ("VK403", "train.txt", "line 4", True),
        ("VK005", "train.txt", "line 2", True),
        ("VK402", "train.txt", "line 3", True),
        ("VK007", "e.xml", "", True),
        ("VK006", "f.png", "", False),
    ]
    assert repaired(found, "train.txt") == "a\n"


def test_a_dataset_without_names(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, thing(1, 1, 9, 9, name="")))
    assert [finding.code for finding in found.findings] == ["VK002"]
    assert found.copy is None


def test_quotes_and_comments_of_a_file_stay(tmp_path: Path) -> None:
    root = dataset(tmp_path, SOUND)
    odd = f"<!-- <object> --><annotation verified='a > b'>\n{SIZE}\n  {SOUND}\n  {thing(5, 5, 4, 9)}\n</annotation>\n"
    write_text(root / "Annotations/a.xml", odd)
    assert repaired(examined(root)) == odd.replace(f"\n  {thing(5, 5, 4, 9)}", "")
