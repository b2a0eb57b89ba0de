"""What the doctor says of masks: by hand."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnosis_files import PALETTE, scene, write_text, write_voc_masks
from pictures import encoded, exif
from PIL import Image

from visionkit.diagnosis.balance import weigh_classes
from visionkit.diagnosis.findings import Examination
from visionkit.diagnosis.masks import voc_colours
from visionkit.diagnosis.splits import examine_split
from visionkit.formats.layout import find_layout
from visionkit.formats.mask_images import BLACK_AND_WHITE_REMARK

Pixels = np.ndarray[Any, Any]

LABELS = np.array([[0] * 20, [1] * 20, [2] * 20] * 4, np.uint8)  # 20 x 12 px
COLOURS = np.array(PALETTE, np.uint8)[LABELS]
NUMBERS = {"names": ["ground", "cat", "dog"], "palette": [list(colour) for colour in PALETTE]}
BY_COLOUR = {"names": NUMBERS["names"], "colours": NUMBERS["palette"], "ignored_colours": [[9, 9, 9]]}


def dataset(root: Path, mask: Any, classes: dict[str, Any] | None = None, **image: Any) -> Path:
    """One picture of 20 x 12 px and its mask, an array, a picture or the bytes of a file."""
    write_text(root / "classes.json", json.dumps(classes or NUMBERS))
    for kind in ("images", "masks"):
        (root / kind / "train").mkdir(parents=True)
    Image.new("RGB", (20, 12)).save(root / "images/train/a.png", **image)
    if mask is not None:
        (root / "masks/train/a.png").write_bytes(mask if isinstance(mask, bytes) else encoded(mask, "PNG"))
    return root


def examined(root: Path) -> Examination:
    return examine_split(find_layout(root).splits["train"])


def told(found: Examination) -> list[tuple[str, str, bool]]:
    return [(f.code, f.fact, f.repaired) for f in found.findings if f.severity != "note"]


def repaired(found: Examination) -> Pixels | None:
    assert found.copy is not None
    (repair,) = [each for each in found.copy.repairs if each.file.name == "a.png"]
    return None if repair.after is None else np.array(Image.open(BytesIO(repair.after)))


def with_square(values: Pixels, value: Any) -> Pixels:
    changed = values.copy()
    changed[3:9, 3:9] = value
    return changed


def test_numbers_that_no_class_has_become_ignored(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, with_square(LABELS, 7)))
    assert told(found) == [("VK309", "has 36 pixels of 1 values that no class has, such as label 7", True)]
    assert repaired(found).tolist() == with_square(LABELS, 255).tolist()  # type: ignore[union-attr]


def test_colours_that_no_class_has_become_the_ignored_colour(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, with_square(COLOURS, (1, 2, 3)), BY_COLOUR))
    assert told(found) == [("VK309", "has 36 pixels of 1 values that no class has, such as colour 1 2 3", True)]
    assert repaired(found).tolist() == with_square(COLOURS, (9, 9, 9)).tolist()  # type: ignore[union-attr]


def test_without_an_ignored_colour_they_stay(tmp_path: Path) -> None:
    classes = {key: value for key, value in BY_COLOUR.items() if key != "ignored_colours"}
    found = examined(dataset(tmp_path, with_square(COLOURS, (1, 2, 3)), classes))
    assert [(code, mended) for code, _, mended in told(found)] == [("VK309", False)]


def test_smooth_edges(tmp_path: Path) -> None:
    # Three values between two classes, in a line of a pixel's width.
    smooth = COLOURS.copy()
    smooth[0, :9] = np.repeat([[30, 0, 0], [60, 0, 0], [90, 0, 0]], 3, axis=0)
    found = examined(dataset(tmp_path, smooth, BY_COLOUR))
    assert told(found) == [("VK310", "has 9 pixels of 3 values that no class has, such as colour 30 0 0", True)]
    # Nine values, 100 to 108, wherever they lie.
    many = with_square(LABELS, np.arange(36).reshape(6, 6) // 4 + 100)
    assert [code for code, _, _ in told(examined(dataset(tmp_path / "many", many)))] == ["VK310"]


@pytest.mark.parametrize(
    ("mask", "mended"),
    [
        (COLOURS, LABELS),
        (np.repeat(LABELS[..., None], 3, axis=2), LABELS),  # grey as three equal channels
        (LABELS.astype(np.uint16), LABELS),
        (with_square(COLOURS, (1, 2, 3)), None),  # not of the palette
    ],
)
def test_other_pixels_than_numbers(tmp_path: Path, mask: Pixels, mended: Pixels | None) -> None:
    found = examined(dataset(tmp_path, mask))
    assert [(code, done) for code, _, done in told(found)] == [("VK313", mended is not None)]
    if mended is not None:
        assert repaired(found).tolist() == mended.tolist()  # type: ignore[union-attr]


def test_numbers_where_colours_are_meant(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, with_square(LABELS, 255), BY_COLOUR))
    assert [(code, done) for code, _, done in told(found)] == [("VK313", True)]
    assert repaired(found).tolist() == with_square(COLOURS, (9, 9, 9)).tolist()  # type: ignore[union-attr]


def test_another_size(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, LABELS[:-3]))
    assert told(found) == [("VK305", "is 20x9 and the upright picture 20x12", False)]


def test_a_mask_of_the_picture_as_stored_is_turned_with_it(tmp_path: Path) -> None:
    # Stored 20 x 12 and shown a quarter turn clockwise, 12 x 20: the first row becomes the last column.
    found = examined(dataset(tmp_path, LABELS, exif=exif(6)))
    assert [(code, done) for code, _, done in told(found)] == [("VK406", True)]
    assert repaired(found).tolist() == np.rot90(LABELS, -1).tolist()  # type: ignore[union-attr]


def test_a_format_that_changes_values(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, encoded(LABELS, "JPEG")))
    assert told(found) == [("VK311", "is a JPEG", False)]


def test_a_mask_in_which_all_is_ignored(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, np.full_like(LABELS, 255)))
    assert told(found) == [("VK312", "has no pixel of a class", False)]


def test_a_mask_that_cannot_be_read_goes_with_its_image(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, encoded(LABELS, "PNG")[:60]))
    assert [(code, done) for code, _, done in told(found)] == [("VK306", True)]
    assert found.copy is not None
    assert found.copy.pictures == ()
    assert repaired(found) is None


def test_images_and_masks_that_lack_each_other(tmp_path: Path) -> None:
    root = dataset(tmp_path, None)
    Image.fromarray(LABELS).save(root / "masks/train/b.png")
    assert told(examined(root)) == [("VK007", "has no image", True), ("VK005", "has no mask", True)]


def test_a_class_that_no_mask_has(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, np.where(LABELS == 2, 1, LABELS).astype(np.uint8)))
    assert [(f.code, f.item, f.fact) for f in found.findings] == [("VK108", "class 2", "(dog) has no pixel")]


def test_masks_in_black_and_white(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, with_square(np.zeros_like(LABELS), 255)))
    why = f"has no pixel; {BLACK_AND_WHITE_REMARK}"
    assert [(f.code, f.item, f.fact) for f in found.findings] == [
        ("VK108", "class 1", f"(cat) {why}"),
        ("VK108", "class 2", f"(dog) {why}"),
    ]


def test_a_palette_mask_keeps_its_palette(tmp_path: Path) -> None:
    data = {"train": scene(2, "t")}
    root = write_voc_masks(tmp_path, data)
    file = root / "SegmentationClass/t000.png"
    labels = np.array(Image.open(file))
    labels[:3, :3] = 7
    spoilt = Image.frombytes("P", Image.open(file).size, labels.tobytes())
    spoilt.putpalette([10, 20, 30] * 256)
    spoilt.save(file)
    found = examined(root)
    assert [(f.code, f.repaired) for f in found.findings] == [("VK309", True)]
    assert found.copy is not None
    (repair,) = found.copy.repairs
    after = Image.open(BytesIO(repair.after or b""))
    assert after.mode == "P"
    assert (after.getpalette() or [])[:3] == [10, 20, 30]
    assert np.array(after)[:3, :3].tolist() == [[255] * 3] * 3


def test_voc_masks_in_the_colours_of_the_challenge(tmp_path: Path) -> None:
    data = {"train": scene(2, "t")}
    root = write_voc_masks(tmp_path, data)
    write_text(root / "ImageSets/Segmentation/train.txt", "t000\nt001\ngone\n../t000\n")
    labels = data["train"][0].labels()
    known = {number: colour for colour, number in voc_colours(3).items()}
    colours = np.zeros((*labels.shape, 3), np.uint8)
    for number, colour in known.items():
        colours[labels == number] = colour
    Image.fromarray(colours).save(root / "SegmentationClass/t000.png")
    found = examined(root)
    assert [(f.code, f.item, f.repaired) for f in found.findings] == [
        ("VK403", "line 4", True),
        ("VK402", "line 3", True),
        ("VK313", "", True),
    ]
    assert found.copy is not None
    after = {repair.file.name: repair.after or b"" for repair in found.copy.repairs}
    assert np.array(Image.open(BytesIO(after["t000.png"]))).tolist() == labels.tolist()
    assert after["train.txt"] == b"t000\nt001\n"


def test_classes_of_masks_are_weighed_by_images_and_pixels(tmp_path: Path) -> None:
    labels = np.zeros((12, 20), np.uint8)
    labels[0, :2] = 1
    # 238 of 240 pixels are ground, two are cat: 119 to 1; no dog. One image is few.
    found = examined(dataset(tmp_path, labels))
    assert found.truth is not None
    assert [(f.code, f.item, f.fact) for f in weigh_classes({"train": found.truth}, tmp_path, 640)] == [
        ("VK501", "class cat", "has 1 image in train"),
        ("VK501", "class ground", "has 1 image in train"),
        ("VK503", "class ground", "has 238 pixels in train, cat has 2"),
    ]


def test_classes_that_cannot_be_read(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, LABELS, {"names": []}))
    assert [finding.code for finding in found.findings] == ["VK001"]
    assert found.copy is None
