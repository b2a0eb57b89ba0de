"""Colour-coded masks: the same labels as index masks, whatever file holds the colours."""

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from masks import NAMES, write_masks
from PIL import Image

from tests.reference_data import reference_data
from visionkit.errors import DataError
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.mask_colours import MaskColours
from visionkit.formats.mask_images import read_mask_classes
from visionkit.formats.semantic_map import semantic_map
from visionkit.imaging.mask import read_colour_mask

COLOURS = [[128, 64, 128], [255, 0, 0], [0, 0, 255]]
VOID = [0, 0, 0]


def coloured(labels: np.ndarray, mode: str = "RGB") -> Image.Image:
    palette = np.zeros((256, 3), np.uint8)
    palette[:3] = COLOURS
    if mode == "P":
        image = Image.fromarray(np.where(labels == 255, 3, labels).astype(np.uint8), "P")
        image.putpalette(palette[:4].tobytes())
        return image
    return Image.fromarray(palette[labels]).convert(mode)


def write_coloured(root: Path, mode: str = "RGB", **classes: Any) -> Path:
    """As `write_masks`, with colours; the two rows that are not judged are black."""
    write_masks(root, {"train": 2, "val": 1})
    for path in root.glob("masks/*/*.png"):
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        coloured(labels, mode).save(path)
    content = {"names": list(NAMES), "colours": COLOURS, "ignored_colours": [VOID], **classes}
    (root / "classes.json").write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return root


def test_colours_by_hand() -> None:
    colours = MaskColours(classes=((9, 0, 0), (0, 0, 9)), ignored=((1, 2, 3),))
    pixels = np.array([[[0, 0, 9], [9, 0, 0]], [[1, 2, 3], [9, 0, 0]]], np.uint8)
    labels, stray = colours.labels(pixels, 255)
    assert labels.tolist() == [[1, 0], [255, 0]]
    assert labels.dtype == np.uint8
    assert stray is None
    pixels[0, 1] = (255, 254, 253)
    labels, stray = colours.labels(pixels, 255)
    assert labels.tolist() == [[1, 255], [255, 0]]
    assert stray == (255, 254, 253)
    assert pickle.loads(pickle.dumps(colours)) == colours  # loader processes get it


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_give_the_labels_of_index_masks(tmp_path: Path, mode: str) -> None:
    write_masks(tmp_path / "index", {"train": 2, "val": 1})
    write_coloured(tmp_path / "colour", mode)
    for split in ("train", "val"):
        index, colour = (read_split(find_layout(tmp_path / kind), split) for kind in ("index", "colour"))
        assert index.classes == colour.classes
        for ours, theirs in zip(colour.images, index.images, strict=True):
            assert ours.mask is not None
            assert theirs.mask is not None
            assert ours.mask.pixels == theirs.mask.pixels
            assert (semantic_map(ours, colour.classes) == semantic_map(theirs, index.classes)).all()


def test_a_colour_of_no_class_is_named_or_leaves_out_the_image(tmp_path: Path) -> None:
    root = write_coloured(tmp_path / "data")
    mask = root / "masks/train/1.png"
    pixels = np.array(Image.open(mask))
    pixels[5, 5] = (7, 8, 9)
    Image.fromarray(pixels).save(mask)
    split = find_layout(root).splits["train"]
    with pytest.raises(DataError, match=r"the mask of image '1.png' has the colour 7 8 9, of which there is no class"):
        split.read()
    assert [image.file_name for image in split.read(skip_bad=True).images] == ["0.png"]


def test_black_is_no_class_unless_it_is_said(tmp_path: Path) -> None:
    root = write_coloured(tmp_path / "data", ignored_colours=None)
    with pytest.raises(DataError, match="has the colour 0 0 0, of which there is no class"):
        read_split(find_layout(root), "train")


def test_a_mask_that_changed_since_is_refused(tmp_path: Path) -> None:
    root = write_coloured(tmp_path / "data")
    val = read_split(find_layout(root), "val")
    Image.new("RGB", (64, 48), (1, 2, 3)).save(root / "masks/val/0.png")
    with pytest.raises(DataError, match="has the colour 1 2 3, of which there is no class, unlike before; put it back"):
        semantic_map(val.images[0], val.classes)


@pytest.mark.parametrize(
    ("colours", "ignored", "message"),
    [
        ([[1, 2, 3]], [], "has 1 colours for 3 names, each name needs one; correct it"),
        ("red", [], "has colours 'red', they must be a list of"),
        ([[1, 2], [1, 2, 3], [4, 5, 6]], [], "has colours .*, each 0 to 255; correct it"),
        ([[1, 2, 256], [1, 2, 3], [4, 5, 6]], [], "has colours .*, each 0 to 255; correct it"),
        ([[1, 2, True], [1, 2, 3], [4, 5, 6]], [], "has colours .*, each 0 to 255; correct it"),
        (COLOURS, [0, 0, 0], r"has ignored_colours \[0, 0, 0\], they must be a list of \[red, green, blue\]"),
        (COLOURS, [COLOURS[1]], r"has the colour \[255, 0, 0\] twice, each stands for one class; correct it"),
    ],
)
def test_colours_that_cannot_be_told_apart_are_refused(
    tmp_path: Path, colours: Any, ignored: Any, message: str
) -> None:
    file = tmp_path / "classes.json"
    file.write_text(json.dumps({"names": list(NAMES), "colours": colours, "ignored_colours": ignored}))
    with pytest.raises(DataError, match=message):
        read_mask_classes(file)


def test_the_american_spelling_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "classes.json"
    file.write_text(json.dumps({"names": list(NAMES), "colors": COLOURS, "ignored_colors": [VOID]}))
    assert read_mask_classes(file).colours == MaskColours(tuple(map(tuple, COLOURS)), ((0, 0, 0),))


def test_without_colours_a_coloured_mask_is_refused_with_a_way_out(tmp_path: Path) -> None:
    root = write_coloured(tmp_path / "data", colours=None, ignored_colours=None)
    with pytest.raises(DataError, match=r"has pixels of kind RGB, a mask .* or name the colours in classes.json"):
        read_split(find_layout(root), "train")


def test_pixels_that_are_no_colours_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="a colour-coded mask has red, green and blue of 8 bits; save it as an RGB PNG"):
        read_colour_mask(tmp_path / "deep.png")
    Image.new("RGB", (4, 3)).save(tmp_path / "lossy.jpg")
    with pytest.raises(DataError, match="is a JPEG, which changes labels; save masks as PNG"):
        read_colour_mask(tmp_path / "lossy.jpg")


def test_camvid_in_its_own_colours(tmp_path: Path) -> None:
    data = reference_data("camvid")
    content = json.loads((data / "classes.json").read_text())
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(content["palette"])] = content["palette"]
    for folder in ("images/val", "masks/val"):
        (tmp_path / folder).mkdir(parents=True)
    for mask in sorted((data / "masks/val").iterdir())[:2]:
        labels = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
        Image.fromarray(palette[labels]).save(tmp_path / "masks/val" / mask.name)
        (image,) = (data / "images/val").glob(f"{mask.stem}.*")
        (tmp_path / "images/val" / image.name).symlink_to(image)
    classes = {"names": content["names"], "colours": content["palette"], "ignored_colours": [VOID]}
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    ours, theirs = (read_split(find_layout(root), "val") for root in (tmp_path, data))
    for record, same in zip(ours.images, theirs.images, strict=False):
        assert record.file_name == same.file_name
        assert (semantic_map(record, ours.classes) == semantic_map(same, theirs.classes)).all()
