"""Index masks and palette masks, and the maps that are drawn from polygons and RLEs."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from masks import NAMES, write_masks
from PIL import Image

from tests.reference_data import reference_data
from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.held_out import with_val
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.mask_folders import VOC_CLASSES
from visionkit.formats.mask_images import BLACK_AND_WHITE_REMARK
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.formats.semantic_map import (
    BACKGROUND,
    BOXES_REMARK,
    label_counts,
    require_judged_pixels,
    semantic_map,
    with_background,
)
from visionkit.imaging.mask import read_mask


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_masks(tmp_path / "data", {"train": 3, "val": 2})


# reading masks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_mask_is_its_values_whatever_its_palette(tmp_path: Path, mode: str) -> None:
    labels = np.array([[0, 1, 2], [255, 7, 0]], np.uint8)
    picture = Image.fromarray(labels, mode)
    if mode == "P":
        picture.putpalette([200, 10, 10] * 256)
    picture.save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        (
            "m.png",
            "RGB",
            "m.png has pixels of kind RGB, a mask has one value of 8 bits, its label; save it as a grey or palette "
            "PNG, or name the colours in classes.json$",
        ),
        ("m.png", "1", "m.png has pixels of kind 1, .*; save it as a grey or palette PNG$"),  # has no colours to name
        ("m.jpg", "L", "m.jpg is a JPEG, which changes labels; save masks as PNG"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, name: str, mode: str, message: str) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / name)
    with pytest.raises(DataError, match=message):
        read_mask(tmp_path / name)


def test_a_damaged_mask_is_refused(tmp_path: Path) -> None:
    Image.new("L", (400, 300)).save(tmp_path / "m.png")
    content = bytearray((tmp_path / "m.png").read_bytes())
    content[60] ^= 0xFF
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(DataError, match=r"m.png"):
        read_mask(tmp_path / "m.png")


# the project's own folders --------------------------------------------------------------------------------------------


def test_the_layout_is_recognised_and_read(data: Path) -> None:
    layout = find_layout(data)
    assert layout.describe() == "Masks: train, val of images/ and masks/"
    train = read_split(layout, "train")
    assert train.classes == ClassTable((0, 1, 2), NAMES)
    assert [image.file_name for image in train.images] == ["0.png", "1.png", "2.png"]
    assert [image.id for image in train.images] == [1, 2, 3]
    first = train.images[0]
    labels = cv2.imread(str(data / "masks/train/0.png"), cv2.IMREAD_UNCHANGED)
    assert first.mask is not None
    assert first.mask.pixels == tuple((labels == i).sum() for i in range(3))
    assert (semantic_map(first, train.classes) == labels).all()
    assert label_counts(train).sum() == 3 * 46 * 64


def test_camvid_is_read_as_its_readme_says() -> None:
    layout = find_layout(reference_data("camvid"))
    assert list(layout.splits) == ["train", "val", "test"]
    val = read_split(layout, "val")
    assert len(val.images) == 101
    counts = label_counts(val).sum(0)
    assert val.classes.names[3] == "road"
    assert counts[3] / (101 * 480 * 360) == pytest.approx(0.2895, abs=1e-4)  # the table of the data's README
    assert 1 - counts.sum() / (101 * 480 * 360) == pytest.approx(0.0170, abs=1e-4)  # void
    assert not val.remarks


def test_without_a_val_split_one_is_held_out(tmp_path: Path) -> None:
    layout = with_val(find_layout(write_masks(tmp_path / "data", {"train": 5})), seed=0)
    assert [len(read_split(layout, split).images) for split in ("train", "val")] == [4, 1]


def test_another_ignore_index_becomes_ours(data: Path) -> None:
    (data / "classes.json").write_text(json.dumps({"names": [*NAMES], "ignore_index": 3}))
    labels = cv2.imread(str(data / "masks/val/0.png"), cv2.IMREAD_UNCHANGED)
    labels[:2] = 3
    cv2.imwrite(str(data / "masks/val/0.png"), labels)
    val = read_split(find_layout(data), "val")
    assert (semantic_map(val.images[0], val.classes)[:2] == 255).all()


def test_masks_in_black_and_white_are_told_from_classes(tmp_path: Path) -> None:
    data = write_masks(tmp_path / "data", {"train": 2}, names=("ground", "crack"))
    for number in range(2):
        drawn = np.zeros((48, 64), np.uint8)
        drawn[10:20, 10 + number :] = 255
        cv2.imwrite(str(data / f"masks/train/{number}.png"), drawn)
    remarks = read_split(find_layout(data), "train").remarks
    assert remarks == {"classes without a pixel": 1, BLACK_AND_WHITE_REMARK: 2}
    # What the remark says to do makes the white a class.
    content = {"names": ["ground", "crack"], "colours": [[0, 0, 0], [255, 255, 255]]}
    (data / "classes.json").write_text(json.dumps(content))
    split = read_split(find_layout(data), "train")
    assert not split.remarks
    assert label_counts(split).tolist() == [[48 * 64 - 540, 540], [48 * 64 - 530, 530]]  # 10 rows of 54 and 53


@pytest.mark.parametrize("values", [(0, 1, 255), (0, 0), (1, 255), (255, 255)])
def test_other_masks_are_not_taken_for_black_and_white(tmp_path: Path, values: tuple[int, ...]) -> None:
    data = write_masks(tmp_path / "data", {"train": 1}, names=("ground", "crack"))
    cv2.imwrite(str(data / "masks/train/0.png"), np.resize(np.array(values, np.uint8), (48, 64)))
    assert BLACK_AND_WHITE_REMARK not in read_split(find_layout(data), "train").remarks


def test_masks_in_which_all_is_ignored_teach_nothing(data: Path) -> None:
    require_judged_pixels(read_split(find_layout(data), "val"))
    for number in range(2):
        cv2.imwrite(str(data / f"masks/val/{number}.png"), np.full((48, 64), 255, np.uint8))
    val = read_split(find_layout(data), "val")
    with pytest.raises(DataError) as error:
        require_judged_pixels(val)
    assert str(error.value) == (
        f"no mask of {data / 'images/val'} has a pixel of a class, all is ignored, and learning needs some; correct "
        "the masks, or what classes.json says of them"
    )
    require_judged_pixels(split_of())  # objects are drawn on background, which is a class


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"classes": ["a"]}, "has no list of class names"),
        ([], "has no list of class names"),
        (["a", 3], "has no list of class names"),
        (["a", "a"], "each category name must occur once, a occurs more often"),
        ({"names": ["a", "b"], "ignore_index": 1}, "has ignore_index 1, it must be a whole number from 2, which no"),
        ({"names": [str(i) for i in range(256)]}, "names 256 classes, masks of 8 bits hold at most 255"),
    ],
)
def test_class_files_that_say_too_little_are_refused(data: Path, content: Any, message: str) -> None:
    (data / "classes.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_split(find_layout(data), "train")


def damage(data: Path, kind: str) -> None:
    mask = data / "masks/train/1.png"
    if kind == "missing":
        mask.unlink()
    elif kind == "size":
        cv2.imwrite(str(mask), np.zeros((48, 60), np.uint8))
    elif kind == "label":
        cv2.imwrite(str(mask), np.full((48, 64), 9, np.uint8))
    elif kind == "colour":
        cv2.imwrite(str(mask), np.zeros((48, 64, 3), np.uint8))
    else:
        (data / "images/train/1.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "image '1.png' has no mask, every image needs a mask of its name"),
        ("size", "the mask of image '1.png' is 60x48 and the picture 64x48, a mask must have the size of its upright"),
        ("label", "the mask of image '1.png' has the label 9, of which there is no class, a mask holds the numbers"),
        ("colour", r"the mask of image '1.png' cannot be read \(.*has pixels of kind RGB"),
        ("picture", r"image '1.png' cannot be read \(.*is not an image of a known format"),
    ],
)
def test_errors_are_told_or_leave_out_the_image(data: Path, kind: str, message: str) -> None:
    damage(data, kind)
    split = find_layout(data).splits["train"]
    with pytest.raises(DataError, match=message + r".*\| --skip-bad leaves them out"):
        split.read()
    rest = split.read(skip_bad=True)
    assert [image.file_name for image in rest.images] == ["0.png", "2.png"]
    assert len(rest.left_out) == 1


def test_nothing_left_is_an_error_and_lonely_masks_are_counted(data: Path) -> None:
    (data / "images/val/0.png").unlink()
    assert read_split(find_layout(data), "val").remarks == {"masks without an image, not read": 1}
    (data / "masks/val/1.png").unlink()
    with pytest.raises(DataError, match="no images would be left"):
        find_layout(data).splits["val"].read(skip_bad=True)


def test_the_content_changes_with_a_mask_and_with_the_classes(data: Path) -> None:
    split = find_layout(data).splits["train"]
    before = b"".join(split.content())
    labels = cv2.imread(str(data / "masks/train/0.png"), cv2.IMREAD_UNCHANGED)
    labels[0, 0] = 2
    cv2.imwrite(str(data / "masks/train/0.png"), labels)
    assert b"".join(split.content()) != before


def test_a_mask_that_changed_since_is_refused(data: Path) -> None:
    val = read_split(find_layout(data), "val")
    cv2.imwrite(str(data / "masks/val/0.png"), np.zeros((10, 10), np.uint8))
    with pytest.raises(DataError, match="is 10x10, its picture 64x48; put back the mask"):
        semantic_map(val.images[0], val.classes)
    cv2.imwrite(str(data / "masks/val/0.png"), np.full((48, 64), 77, np.uint8))
    with pytest.raises(DataError, match="has the label 77, of which there is no class, unlike before"):
        semantic_map(val.images[0], val.classes)


# Pascal VOC -----------------------------------------------------------------------------------------------------------


def write_voc_masks(root: Path, annotations: bool = False) -> Path:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (6, 4)).save(root / "JPEGImages" / f"{name}.jpg")
        labels = np.zeros((4, 6), np.uint8)
        labels[1, 1], labels[2, 2] = 15, 255
        mask = Image.fromarray(labels, "P")
        mask.putpalette(list(range(256)) * 3)
        mask.save(root / "SegmentationClass" / f"{name}.png")
    (root / "ImageSets/Segmentation/train.txt").write_text("a\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("b\n")
    if annotations:
        (root / "Annotations").mkdir()
        (root / "ImageSets/Main").mkdir()
        (root / "ImageSets/Main/train.txt").write_text("a\n")
    return root


def test_voc_masks_are_read_by_their_indices(tmp_path: Path) -> None:
    layout = find_layout(write_voc_masks(tmp_path / "voc"))
    assert layout.describe() == "Pascal VOC masks: train, val of SegmentationClass/"
    train = read_split(layout, "train")
    assert train.classes.names == VOC_CLASSES
    assert train.remarks == {"classes without a pixel": 19}
    labels = semantic_map(train.images[0], train.classes)
    assert train.classes.names[labels[1, 1]] == "person"
    assert labels[2, 2] == 255
    assert labels[0, 0] == 0


def test_a_voc_folder_with_boxes_too_has_both(tmp_path: Path) -> None:
    layout = find_layout(write_voc_masks(tmp_path / "voc", annotations=True))
    assert layout.describe().startswith("Pascal VOC layout")
    assert layout.masks is not None
    assert [image.file_name for image in read_split(layout.masks, "val").images] == ["b.jpg"]


def test_voc_without_lists_is_all_train_and_a_listed_image_must_be_there(tmp_path: Path) -> None:
    root = write_voc_masks(tmp_path / "voc")
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nmissing\n../b\n")
    with pytest.raises(DataError, match=r"line 3 of train.txt is '../b'.*image 'missing' has no file"):
        read_split(find_layout(root), "train")
    for name in ("train", "val"):
        (root / f"ImageSets/Segmentation/{name}.txt").unlink()
    assert len(read_split(find_layout(root), "train").images) == 2


# maps of objects ------------------------------------------------------------------------------------------------------


def split_of(*objects: Annotation, names: tuple[str, ...] = ("car", "cat")) -> AnnotatedImages:
    image = ImageRecord(1, "a.jpg", None, 8, 6, objects)
    return AnnotatedImages(ClassTable(tuple(range(3, 3 + len(names))), names), (image,), Path("train.json"))


def rectangle(x: float, y: float, w: float, h: float) -> list[list[float]]:
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def test_objects_become_a_map_with_the_small_ones_on_top() -> None:
    large = Annotation(1, 3, (0, 0, 6, 6), 36.0, segmentation=rectangle(0, 0, 6, 6))
    small = Annotation(2, 4, (1, 1, 2, 2), 4.0, segmentation=rectangle(1, 1, 2, 2))
    split = with_background(split_of(small, large))
    assert split.classes == ClassTable((3, 4, 0), ("car", "cat", BACKGROUND))
    labels = semantic_map(split.images[0], split.classes)
    expected = np.full((6, 8), 2)
    expected[:, :6] = 0
    expected[1:3, 1:3] = 1
    assert labels.tolist() == expected.tolist()
    assert label_counts(split).tolist() == [[32, 4, 12]]


@pytest.mark.parametrize("counts", [[6, 12, 30], "6<n0"])
def test_rles_become_maps(counts: Any) -> None:
    # Column by column: 6 of background, the first column; then two columns of the object.
    rle = {"size": [6, 8], "counts": counts}
    split = with_background(split_of(Annotation(1, 3, (1, 0, 2, 6), 12.0, segmentation=rle)))
    labels = semantic_map(split.images[0], split.classes)
    assert (labels == 0).sum() == 12
    assert (labels[:, 1:3] == 0).all()


def test_crowds_and_boxes_without_a_mask_are_ignored_but_not_what_lies_on_them() -> None:
    crowd = Annotation(1, 3, (0, 0, 3, 6), 18.0, iscrowd=True, segmentation=rectangle(0, 0, 3, 6))
    box = Annotation(2, 3, (5, 0, 3, 6), 18.0)
    cat = Annotation(3, 4, (0, 0, 1, 1), 1.0, segmentation=rectangle(0, 0, 1, 1))
    split = with_background(split_of(cat, crowd, box))
    assert split.remarks == {BOXES_REMARK: 1}
    labels = semantic_map(split.images[0], split.classes)
    assert labels[0].tolist() == [1, 255, 255, 2, 2, 255, 255, 255]


def test_a_background_of_the_data_is_used_and_boxes_alone_are_refused() -> None:
    split = split_of(Annotation(1, 3, (0, 0, 2, 2), 4.0, segmentation=rectangle(0, 0, 2, 2)), names=("car", BACKGROUND))
    assert with_background(split).classes == split.classes
    with pytest.raises(DataError, match="has boxes alone, a segmenter learns from masks, polygons or RLEs; add them"):
        with_background(split_of(Annotation(1, 3, (0, 0, 2, 2), 4.0)))


@pytest.mark.parametrize("count", [254, 255])
def test_no_more_classes_than_labels(count: int) -> None:
    # Background is one more, and 255 is the label that no one judges.
    split = split_of(names=tuple(f"class {number}" for number in range(count)))
    if count == 254:
        assert len(with_background(split).classes) == 255
        assert (semantic_map(split.images[0], with_background(split).classes) == 254).all()
        return
    with pytest.raises(DataError) as error:
        with_background(split)
    assert str(error.value) == (
        "train.json has 256 classes with background, a map of 8 bits tells at most 255 apart; merge some"
    )


def test_an_image_without_objects_is_all_background() -> None:
    split = with_background(split_of())
    assert (semantic_map(split.images[0], split.classes) == 2).all()
