"""`visionkit.split`: which images go where, and that nothing else changes."""

import json
from pathlib import Path
from typing import Any

import pytest
from mixed_dataset import content, write_mixed
from six_layouts import LAYOUTS
from tiny import write_blocks

import visionkit
from visionkit.api.convert import Written
from visionkit.errors import DataError, UsageError
from visionkit.formats.layout import find_layout, read_split


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    return write_mixed(tmp_path / "mixed")


def where(written: Written) -> dict[int, str]:
    return {image.id: name for name, split in written.splits.items() for image in split.images}


def test_all_that_is_known_of_an_image_goes_with_it(mixed: Path, tmp_path: Path) -> None:
    visionkit.split(mixed, tmp_path / "out", val=0.25, test=0.25)
    files = [json.loads((tmp_path / f"out/annotations/{s}.json").read_text()) for s in ("train", "val", "test")]
    before = [content(split) for split in ("train", "val")]

    def rows(said: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
        return sorted((row for file in said for row in file[key]), key=lambda row: row["id"])

    assert rows(files, "images") == rows(before, "images")
    assert rows(files, "annotations") == rows(before, "annotations")
    for file in files:
        assert {row["image_id"] for row in file["annotations"]} <= {row["id"] for row in file["images"]}
        assert file["info"] == {"year": 2026}
        assert len(file["categories"]) == 3


@pytest.mark.parametrize("layout_name", LAYOUTS)
def test_the_format_stays(layout_name: str, tmp_path: Path) -> None:
    written = visionkit.split(LAYOUTS[layout_name][0](tmp_path / "data"), tmp_path / "out", val=0.5)
    kind = {"Pascal VOC": "voc", "YOLO": "yolo"}.get(layout_name, "coco")
    assert written.format == kind
    layout = find_layout(tmp_path / "out")
    assert list(layout.splits) == ["train", "val"]
    assert [len(read_split(layout, split).images) for split in layout.splits] == [2, 2]


@pytest.mark.parametrize("to", ["voc", "labelme", "cvat"])
def test_what_other_tools_drew_is_divided_as_it_is(to: str, mixed: Path, tmp_path: Path) -> None:
    visionkit.convert(mixed, tmp_path / to, to=to)
    written = visionkit.split(tmp_path / to, tmp_path / "out", val=0.25, test=0.25)
    assert written.format == to
    layout = find_layout(tmp_path / "out")
    assert list(layout.splits) == ["train", "val", "test"]
    images = [image for split in layout.splits for image in read_split(layout, split).images]
    assert {i.id: i.file_name for i in images} == {
        row["id"]: row["file_name"] for split in ("train", "val") for row in content(split)["images"]
    }
    assert {a.id: (i.id, a.category_id, list(a.bbox)) for i in images for a in i.annotations} == {
        row["id"]: (row["image_id"], row["category_id"], row["bbox"])
        for split in ("train", "val")
        for row in content(split)["annotations"]
    }


def test_ids_of_two_splits_that_are_the_same(tmp_path: Path) -> None:
    said: list[str] = []
    data = LAYOUTS["plain COCO"][0](tmp_path / "data")  # images 1, 2, 3 and 1; objects 1, 2, 3 and 1
    written = visionkit.split(data, tmp_path / "out", say=said.append)
    assert sorted(where(written)) == [1, 2, 3, 4]
    assert sorted(a.id for s in written.splits.values() for i in s.images for a in i.annotations) == [1, 2, 3, 4]
    assert said[3:] == [
        "train, val are put together and divided anew",
        "1 image has an id of another split, numbered anew",
        "1 object has an id of another split, numbered anew",
    ]


def test_files_that_say_different_things_of_themselves(mixed: Path, tmp_path: Path) -> None:
    file = mixed / "annotations/val.json"
    file.write_text(file.read_text().replace('{"year": 2026}', '{"year": 1999}'))
    said: list[str] = []
    visionkit.split(mixed, tmp_path / "out", say=said.append)
    assert "Further keys of the files, such as info, differ between the splits: those of train are written" in said
    assert json.loads((tmp_path / "out/annotations/val.json").read_text())["info"] == {"year": 2026}


def test_groups_by_a_column(mixed: Path, tmp_path: Path) -> None:
    said: list[str] = []
    written = visionkit.split(mixed, tmp_path / "out", val=0.4, group="extra.patient", say=said.append)
    # Images 40 and 33 are of p33, of both splits: 40, 33, 1040, 1033 stay together.
    assert "3 groups of images by column extra.patient" in said
    assert len({where(written)[i] for i in (40, 33, 1040, 1033)}) == 1
    assert len({where(written)[i] for i in (2, 1002)}) == 1


def test_groups_by_file_name(mixed: Path, tmp_path: Path) -> None:
    said: list[str] = []
    written = visionkit.split(mixed, tmp_path / "out", val=0.4, group=r"/(p\d)[^/]*$", say=said.append)
    assert r"3 groups of images by file_name /(p\d)[^/]*$" in said
    assert len({where(written)[i] for i in (40, 33, 1040, 1033)}) == 1
    # Without brackets the whole match is the group: each of the two folders.
    visionkit.split(mixed, tmp_path / "other", val=0.4, group=r"^\w+/", say=said.append)
    assert r"2 groups of images by file_name ^\w+/" in said


def test_the_column_is_there_after_a_conversion(mixed: Path, tmp_path: Path) -> None:
    visionkit.convert(mixed, tmp_path / "yolo", to="yolo")
    said: list[str] = []
    visionkit.split(tmp_path / "yolo", tmp_path / "out", val=0.4, group="extra.patient", say=said.append)
    assert "3 groups of images by column extra.patient" in said
    assert find_layout(tmp_path / "out").describe() == "YOLO layout: train, val of data.yaml, ids of visionkit_ids.json"


def test_the_seed_decides_alone(tmp_path: Path) -> None:
    data = write_blocks(tmp_path / "data", {"train": 20})
    first = where(visionkit.split(data, tmp_path / "a", seed=1))
    assert where(visionkit.split(data, tmp_path / "b", seed=1)) == first
    assert list(first.values()).count("val") == 4
    assert any(where(visionkit.split(data, tmp_path / f"c{s}", seed=s)) != first for s in (2, 3))


def test_crowds_are_no_objects_of_the_table(mixed: Path, tmp_path: Path) -> None:
    written = visionkit.split(mixed, tmp_path / "out")
    per_class = written.objects_per_class()
    # Of the 9 rows of a split the cat has 5, of which one is a crowd region.
    assert {name: sum(counts.values()) for name, counts in per_class.items()} == {
        "cat": 8,
        'a "b" & <c>': 8,
        "never seen": 0,
    }


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"group": "nothing"}, DataError, r"image 40 \('train/one/p1_a.png'\) has no column nothing \(and 7 more like"),
        ({"group": "extra"}, DataError, "has no column extra"),
        ({"group": "(x)"}, DataError, r"has nothing that --group '\(x\)' matches"),
        ({"group": "("}, UsageError, r"--group '\(' is neither a column nor a regular expression"),
        ({"group": "width"}, DataError, "there are 1 groups of images for 2 splits"),
        ({"val": 1.5}, UsageError, "--val must be a share"),
    ],
)
def test_what_split_refuses(
    mixed: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        visionkit.split(mixed, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
