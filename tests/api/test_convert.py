"""`visionkit.convert`: COCO to each format and back is what that format can hold, and what it cannot is counted."""

import json
import os
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from mixed_dataset import content, write_mixed
from six_layouts import LAYOUTS, OBJECTS, SPLITS, write_image, write_text, write_voc

import visionkit
from visionkit.errors import DataError, UsageError, VisionkitError
from visionkit.formats import new_dataset as new_dataset_module
from visionkit.formats.kept_ids import FILE, NEW_CLASSES_REMARK, NEW_IMAGES_REMARK, NEW_OBJECTS_REMARK
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.object_shapes import decoded

FORMATS = ("coco", "yolo", "voc", "labelme", "cvat")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    return write_mixed(tmp_path / "mixed")


def there_and_back(data: Path, to: str, tmp_path: Path) -> tuple[Any, dict[str, dict[str, Any]]]:
    """What the way there says, and the COCO files after the way back."""
    written = visionkit.convert(data, tmp_path / to, to=to)
    visionkit.convert(tmp_path / to, tmp_path / "back", to="coco")
    files = {split: json.loads((tmp_path / f"back/annotations/{split}.json").read_text()) for split in ("train", "val")}
    return written, files


def without_masks(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "segmentation"} for row in rows]


@pytest.mark.parametrize("to", FORMATS)
def test_there_and_back_the_records_are_equal(mixed: Path, to: str, tmp_path: Path) -> None:
    _, files = there_and_back(mixed, to, tmp_path)
    for split, back in files.items():
        before = content(split)
        assert {key: back[key] for key in ("info", "licenses", "images")} == {
            key: before[key] for key in ("info", "licenses", "images")
        }
        by_id = sorted(before["categories"], key=lambda category: category["id"])
        assert back["categories"] == by_id, "also the one that no object has"
        # YOLO has no crowds.
        held = [row for row in before["annotations"] if to != "yolo" or not row["iscrowd"]]
        assert without_masks(back["annotations"]) == without_masks(held)
        for file_name in (image["file_name"] for image in before["images"]):
            there, then = mixed / "images" / file_name, tmp_path / "back/images" / file_name
            assert then.samefile(there), "the same file, not a copy"


@pytest.mark.parametrize(("first", "to"), list(permutations(FORMATS[1:], 2)))
def test_from_any_format_to_any_other_and_back(mixed: Path, first: str, to: str, tmp_path: Path) -> None:
    visionkit.convert(mixed, tmp_path / "first", to=first)
    _, files = there_and_back(tmp_path / "first", to, tmp_path)
    for split, back in files.items():
        before = content(split)
        assert back["images"] == before["images"]
        held = [row for row in before["annotations"] if "yolo" not in (first, to) or not row["iscrowd"]]
        assert without_masks(back["annotations"]) == without_masks(held)
        if {first, to} == {"labelme", "cvat"}:
            assert back["annotations"] == held


@pytest.mark.parametrize("to", ["coco", "labelme", "cvat"])
def test_masks_come_back_from_what_can_hold_them(mixed: Path, to: str, tmp_path: Path) -> None:
    written, files = there_and_back(mixed, to, tmp_path)
    assert written.not_held == {}
    for split, back in files.items():
        assert back["annotations"] == content(split)["annotations"]


def test_yolo_holds_masks_of_one_part(mixed: Path, tmp_path: Path) -> None:
    written, files = there_and_back(mixed, "yolo", tmp_path)
    assert {what.split(":")[0]: count for what, count in written.not_held.items()} == {
        "crowd regions": 2,
        "masks of several parts or with holes": 4,  # the two triangles with a square, and the two rings
    }
    assert written.remarks == {
        "RLE masks written as polygons along their pixels": 2,
        "boxes or polygons that reach over the edge of their image, cut there": 2,
    }
    for split, back in files.items():
        before = {row["id"]: row.get("segmentation") for row in content(split)["annotations"]}
        masks = {row["id"] % 1000: row["segmentation"] for row in back["annotations"] if "segmentation" in row}
        assert set(masks) == {2, 5}
        (triangle,) = masks[2]
        base = min(before) - 2
        assert triangle == pytest.approx(before[base + 2][0], abs=1e-9)
        assert masks[5] == [pytest.approx([8, 8, 28, 8, 28, 28, 8, 28], abs=1e-9)]


def test_voc_has_no_masks(mixed: Path, tmp_path: Path) -> None:
    written, files = there_and_back(mixed, "voc", tmp_path)
    assert written.not_held == {"masks: the annotation files of VOC have boxes alone": 10}
    assert all("segmentation" not in row for back in files.values() for row in back["annotations"])
    assert sum(row["iscrowd"] for row in files["train"]["annotations"]) == 1, "difficult there, a crowd region here"


@pytest.mark.parametrize("to", FORMATS)
def test_every_model_and_evaluation_reads_the_same_ids(mixed: Path, to: str, tmp_path: Path) -> None:
    visionkit.convert(mixed, tmp_path / "out", to=to)
    first, then = (read_split(find_layout(root), "train") for root in (mixed, tmp_path / "out"))
    assert then.classes == first.classes
    assert [(i.id, i.file_name, i.width) for i in then.images] == [(i.id, i.file_name, i.width) for i in first.images]
    assert NEW_OBJECTS_REMARK not in then.remarks
    assert NEW_IMAGES_REMARK not in then.remarks


@pytest.mark.parametrize("layout_name", LAYOUTS)
@pytest.mark.parametrize("to", FORMATS)
def test_every_layout_to_every_format(layout_name: str, to: str, tmp_path: Path) -> None:
    data = LAYOUTS[layout_name][0](tmp_path / "data")
    written = visionkit.convert(data, tmp_path / "out", to=to)
    assert written.not_held == {}
    # A YOLO image is called by its path, images/train/a.jpg; COCO's lie in images/ anyway.
    assert list(written.remarks.values()) == ([4] if (layout_name, to) == ("YOLO", "coco") else [])
    for split, names in SPLITS.items():
        read = read_split(find_layout(tmp_path / "out"), split)
        for name, image in zip(names, read.images, strict=True):
            found = [(read.classes.names[read.classes.label(a.category_id)], a.bbox) for a in image.annotations]
            assert [(c, pytest.approx(box, abs=1e-3)) for c, box in OBJECTS[name]] == found


def test_without_the_side_file_names_and_boxes_are_left(mixed: Path, tmp_path: Path) -> None:
    visionkit.convert(mixed, tmp_path / "out", to="voc")
    (tmp_path / "out" / FILE).unlink()
    data = read_split(find_layout(tmp_path / "out"), "train")
    assert data.classes.names == ('a "b" & <c>', "cat")
    assert data.classes.category_ids == (1, 2)
    assert [i.id for i in data.images] == [1, 2, 3, 4]
    assert data.images[0].annotations[2].bbox == pytest.approx((1 / 3, 0.1, 10.7, 12.123456))


def test_an_edited_dataset_keeps_the_ids_of_the_rest(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    visionkit.convert(mixed, out, to="labelme")
    file = out / "train/p1_a.json"
    said = json.loads(file.read_text())
    del said["shapes"][0]  # the first of the two that are alike: the other goes by its id then
    box = {"shape_type": "rectangle", "points": [[5, 5], [9, 9]]}
    said["shapes"] += [{"label": "cat", **box}, {"label": "new", **box}]
    file.write_text(json.dumps(said))
    write_image(out / "train", "a")
    write_text(out / "train/a.json", json.dumps({"shapes": [{"label": "cat", **box}]}))
    data = read_split(find_layout(out), "train")
    assert [i.id for i in data.images] == [40, 33, 2, 5, 41], "after the highest that is kept"
    assert data.images[-1].file_name == "a.jpg"
    # Kept objects go up to 14. Images are read by name, a before p1_a.
    assert [a.id for a in data.images[-1].annotations] == [15]
    assert [a.id for a in data.images[0].annotations] == [12, 14, 16, 17]
    assert dict(zip(data.classes.names, data.classes.category_ids, strict=True))["new"] == 91
    assert data.remarks[NEW_IMAGES_REMARK] == data.remarks[NEW_CLASSES_REMARK] == 1
    assert data.remarks[NEW_OBJECTS_REMARK] == 3


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"schema": "visionkit.ids/1", "splits": {"train": {"categories": [], "images": [{}]}}}'],
)
def test_a_broken_side_file(mixed: Path, tmp_path: Path, text: str) -> None:
    visionkit.convert(mixed, tmp_path / "out", to="yolo")
    (tmp_path / "out" / FILE).write_text(text)
    layout = find_layout(tmp_path / "out")
    with pytest.raises(
        DataError, match=r"is not what visionkit wrote, it must keep the ids of train; convert again, or"
    ):
        read_split(layout, "train")


def test_the_side_file_is_part_of_the_content(mixed: Path, tmp_path: Path) -> None:
    visionkit.convert(mixed, tmp_path / "out", to="yolo")
    split = find_layout(tmp_path / "out").splits["train"]
    before = b"".join(split.content())
    file = tmp_path / "out" / FILE
    file.write_text(file.read_text() + " ")
    assert b"".join(split.content()) != before


def test_pictures_of_one_name(tmp_path: Path) -> None:
    # Roboflow's folders may have the same name in each; COCO's here is one folder.
    data = LAYOUTS["Roboflow"][0](tmp_path / "data")
    file = data / "valid/_annotations.coco.json"
    file.write_text(file.read_text().replace("v.jpg", "A.jpg"))
    (data / "valid/v.jpg").rename(data / "valid/A.jpg")
    written = visionkit.convert(data, tmp_path / "out", to="coco")
    assert written.remarks == {"pictures renamed, because another has their name": 1}
    assert [i.file_name for i in read_split(find_layout(tmp_path / "out"), "val").images] == ["A-2.jpg"]
    assert visionkit.convert(data, tmp_path / "voc", to="voc").remarks == {}
    assert sorted(os.listdir(tmp_path / "voc/JPEGImages")) == ["A-2.jpg", "a.jpg", "b.jpg", "c.jpg"]
    assert [i.file_name for i in read_split(find_layout(tmp_path / "voc"), "val").images] == ["A.jpg"]


@pytest.mark.parametrize("to", ["yolo", "voc", "labelme", "cvat"])
def test_names_that_lists_cannot_have(tmp_path: Path, to: str) -> None:
    names = ["ab:c.jpg", ".hidden.jpg", "_under.jpg", "x.jpg.jpg", "no suffix", " blank .jpg", "rare.JFIF"]
    images, annotations = [], []
    for number, name in enumerate(names, 1):
        write_image(tmp_path / "data/images", "a")
        (tmp_path / "data/images/a.jpg").rename(tmp_path / "data/images" / name)
        images.append({"id": number, "file_name": name, "width": 100, "height": 80})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": [number, 1, 5, 5]})
    said = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    write_text(tmp_path / "data/annotations/train.json", json.dumps(said))
    visionkit.convert(tmp_path / "data", tmp_path / "out", to=to)
    read = read_split(find_layout(tmp_path / "out"), "train")
    assert [(i.id, i.file_name, i.annotations[0].bbox[0]) for i in read.images] == [
        (number, name, number) for number, name in enumerate(names, 1)
    ]
    # Which other tools would pass over.
    assert {path.suffix for path in (tmp_path / "out").rglob("*rare*")} >= {".jpg"}
    assert not list((tmp_path / "out").rglob("*.JFIF"))


def test_pictures_are_copied_where_there_are_no_links(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    written = visionkit.convert(mixed, tmp_path / "out", to="yolo")
    assert (written.linked, written.copied) == (0, 8)
    here, there = mixed / "images/train/p3.png", tmp_path / "out/images/train/p3.png"
    assert here.read_bytes() == there.read_bytes()
    assert not here.samefile(there)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), OSError(28, "No space left on device")])
def test_what_is_interrupted_leaves_nothing(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(self: object, name: str, text: str) -> None:
        raise error

    monkeypatch.setattr(new_dataset_module.NewDataset, "write", fail)
    with pytest.raises(VisionkitError if isinstance(error, OSError) else type(error)) as caught:
        visionkit.convert(mixed, tmp_path / "new" / "out", to="yolo")
    if isinstance(error, OSError):
        assert "cannot be written (No space left on device), nothing is left of" in str(caught.value)
    assert os.listdir(tmp_path / "new") == []


def test_a_dataset_with_errors_is_refused_or_left_out_by_name(mixed: Path, tmp_path: Path) -> None:
    file = mixed / "annotations/train.json"
    said = json.loads(file.read_text())
    said["annotations"][0]["bbox"] = [3, 4, 0, 12]
    file.write_text(json.dumps(said))
    with pytest.raises(DataError, match="annotation 12 of image 40 has bbox"):
        visionkit.convert(mixed, tmp_path / "out", to="yolo")
    assert not (tmp_path / "out").exists()
    written = visionkit.convert(mixed, tmp_path / "out", to="yolo", skip_bad=True)
    assert len(written.left_out) == 1
    assert "annotation 12 of image 40" in written.left_out[0]


def test_what_convert_refuses(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"exists and nothing is overwritten; name a new folder"):
        visionkit.convert(mixed, mixed, to="yolo")
    with pytest.raises(UsageError, match=r"unknown format 'coc', datasets are written as one of coco, yolo, voc, lab"):
        visionkit.convert(mixed, tmp_path / "out", to="coc")
    write_image(tmp_path / "classes/train/cat", "a")
    with pytest.raises(DataError, match=r"has no boxes or outlines of objects \(Folder-per-class layout: train/\)"):
        visionkit.convert(tmp_path / "classes", tmp_path / "out", to="voc")
    for split in ("train", "val"):
        file = mixed / f"annotations/{split}.json"
        file.write_text(file.read_text().replace("never seen", "cat "))
    with pytest.raises(DataError, match=r"has classes that differ only in blanks, which voc loses; rename them"):
        visionkit.convert(mixed, tmp_path / "out", to="voc")
    assert not (tmp_path / "out").exists()


def test_masks_beside_objects_are_said_not_to_be_read(tmp_path: Path) -> None:
    data = write_voc(tmp_path / "data")
    (data / "SegmentationClass").mkdir()
    said: list[str] = []
    visionkit.convert(data, tmp_path / "out", say=said.append)
    assert said[1].startswith("Not read, as it has no objects: Pascal VOC masks")


def test_an_rle_of_one_region_stays_the_same_pixels(mixed: Path) -> None:
    # What `there and back` compares as text is this square of 20 x 20.
    (square,) = (a for i in read_split(find_layout(mixed), "train").images for a in i.annotations if a.id == 5)
    assert isinstance(square.segmentation, dict)
    assert decoded(square.segmentation).sum() == 400
