"""CVAT's "for images 1.1": read by hand-written examples; damaged ones refused by name."""

from pathlib import Path

import numpy as np
import pytest
from six_layouts import CLASSES, OBJECTS, SIZES, SPLITS, write_image, write_text

from visionkit.errors import DataError
from visionkit.formats.cvat import CROWD_REMARK, IDS_REMARK, OTHER_SHAPES_REMARK, ROTATED_REMARK
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.object_shapes import decoded


def box(label: str, x: float, y: float, w: float, h: float, more: str = "") -> str:
    return f'<box label="{label}" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}" {more}/>'


def image(name: str, shapes: str = "", image_id: str = "0", more: str = "") -> str:
    width, height = SIZES[name]
    said = f'id="{image_id}" name="{name}.jpg" width="{width}" height="{height}" {more}'
    return f"<image {said}>{shapes}</image>"


def write_cvat(folder: Path, images: str, labels: tuple[str, ...] = ()) -> None:
    listed = "".join(f"<label><name>{name}</name></label>" for name in labels)
    meta = f"<meta><task><labels>{listed}</labels></task></meta>"
    write_text(folder / "annotations.xml", f"<annotations><version>1.1</version>{meta}{images}</annotations>")


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A folder with image a, 100 x 80, and no annotations yet."""
    write_image(tmp_path / "images", "a")
    return tmp_path


def test_a_dataset(tmp_path: Path) -> None:
    for split, names in SPLITS.items():
        elements = [
            image(name, "".join(box(c, *b) for c, b in OBJECTS[name]), str(7 + n)) for n, name in enumerate(names)
        ]
        write_cvat(tmp_path / split, "".join(elements), ("dog", "mouse") if split == "train" else ())
        for name in names:
            write_image(tmp_path / split / "images", name)
    layout = find_layout(tmp_path)
    assert layout.describe() == "CVAT layout: train/annotations.xml, val/annotations.xml"
    for split, names in SPLITS.items():
        data = read_split(layout, split)
        assert data.classes.names == ("dog", "mouse", "cat"), "listed ones in their order, then the others"
        assert data.classes.category_ids == (1, 2, 3)
        assert [(i.id, i.file_name) for i in data.images] == [(7 + n, f"{x}.jpg") for n, x in enumerate(names)]
        for name, record in zip(names, data.images, strict=True):
            found = [(data.classes.names[data.classes.label(a.category_id)], a.bbox) for a in record.annotations]
            assert found == list(OBJECTS[name])
        assert data.remarks == {}
    before = b"".join(layout.splits["val"].content())
    write_cvat(tmp_path / "val", image("v"))
    assert b"".join(layout.splits["val"].content()) != before


def test_one_file_is_train_but_for_its_subsets(one: Path) -> None:
    write_image(one / "images", "b")
    write_image(one / "images" / "Validation", "v")
    a, b = image("a", box("cat", 1, 1, 5, 5), "0"), image("b", "", "1", 'subset="default"')
    write_cvat(one, a + b)
    assert find_layout(one).describe() == "CVAT layout: train of annotations.xml"
    write_cvat(one, a + b + image("v", box("dog", 1, 1, 5, 5), "2", 'subset="Validation"'))
    layout = find_layout(one)
    assert layout.describe() == "CVAT layout: train, val of annotations.xml"
    assert [i.file_name for i in read_split(layout, "train").images] == ["a.jpg", "b.jpg"]
    (val,) = read_split(layout, "val").images
    assert val.path == one / "images" / "Validation" / "v.jpg"
    assert read_split(layout, "val").classes.names == CLASSES


def test_polygons_of_a_group_are_one_object(one: Path) -> None:
    triangle, square = 'points="0,0;10,0;0,10"', 'points="20,20;24,20;24,24;20,24"'
    shapes = (
        f'<polygon label="cat" {triangle} group_id="1"/><polygon label="dog" {square} group_id="1"/>'
        f'<polygon label="cat" {square} group_id="1"/><polygon label="cat" {triangle} group_id="0"/>'
        f'<polygon label="cat" {triangle} group_id="0"/>'
    )
    write_cvat(one, image("a", shapes))
    (record,) = read_split(find_layout(one), "train").images
    cat, _, alone, again = record.annotations
    assert cat.segmentation == [[0, 0, 10, 0, 0, 10], [20, 20, 24, 20, 24, 24, 20, 24]]
    assert (cat.bbox, cat.area) == ((0, 0, 24, 24), 50 + 16)  # half of 10 x 10, and 4 x 4
    assert alone.bbox == again.bbox == (0, 0, 10, 10)


def test_a_mask_is_runs_row_by_row(one: Path) -> None:
    # 3 x 2 pixels at (5, 7): . # # / . # .
    write_cvat(one, image("a", '<mask label="cat" rle="1, 2, 1, 1, 1" left="5" top="7" width="3" height="2"/>'))
    (record,) = read_split(find_layout(one), "train").images
    (mask,) = record.annotations
    assert (mask.bbox, mask.area) == ((6, 7, 2, 2), 3)
    assert isinstance(mask.segmentation, dict)
    ys, xs = np.nonzero(decoded(mask.segmentation))
    assert set(zip(xs.tolist(), ys.tolist(), strict=True)) == {(6, 7), (7, 7), (6, 8)}


def test_a_rotated_box(one: Path) -> None:
    # 20 x 10 about (30, 25), a quarter turn: 10 x 20 about the same point.
    write_cvat(one, image("a", box("cat", 20, 20, 20, 10, 'rotation="90"') + box("cat", 1, 1, 5, 5, 'rotation="0.0"')))
    data = read_split(find_layout(one), "train")
    assert data.images[0].annotations[0].bbox == pytest.approx((25, 15, 10, 20))
    assert data.remarks == {ROTATED_REMARK: 1}


def test_crowds_and_what_is_no_object(one: Path) -> None:
    crowd = box("cat", 1, 1, 5, 5).replace("/>", '><attribute name="is_crowd">true</attribute></box>')
    free = crowd.replace("true", "false")
    write_cvat(one, image("a", crowd + free + '<points label="cat" points="1,1"/><tag label="sunny"/>'))
    data = read_split(find_layout(one), "train")
    assert [a.iscrowd for a in data.images[0].annotations] == [True, False]
    assert data.remarks == {CROWD_REMARK: 1, OTHER_SHAPES_REMARK: 2}
    assert data.classes.names == ("cat",)


def test_ids_that_are_not_there_or_not_alone(one: Path) -> None:
    for name in "bc":
        write_image(one / "images", name)
    write_cvat(one, image("a", box("cat", 1, 1, 5, 5), "4") + image("b", "", "4") + image("c", "", "x"))
    data = read_split(find_layout(one), "train")
    assert [i.id for i in data.images] == [4, 5, 6]
    assert data.remarks == {IDS_REMARK: 2}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (box("", 1, 1, 5, 5), "box 2 of image 'a.jpg' has label '', every shape needs a label"),
        ('<box label="cat" xtl="1"/>', "has {'xtl': '1'}, a box must have finite numbers"),
        ('<box label="cat" xtl="nan" ytl="1" xbr="2" ybr="2"/>', "a box must have finite numbers"),
        (box("cat", 1, 1, 0, 5), "width and height of a box must be"),
        (box("cat", 300, 1, 5, 5), "a box must overlap its image"),
        ('<polygon label="cat" points="1,1;2,2"/>', "has {'points': '1,1;2,2'}, points must be"),
        ('<polygon label="cat" points="1,1;2,2;3"/>', "points must be"),
        ('<polygon label="cat"/>', "has {}, points must be"),
        ('<mask label="cat" rle="1, 2" left="5" top="7" width="3" height="2"/>', "an rle of that many pixels"),
        ('<mask label="cat" rle="0, 6" left="99" top="7" width="3" height="2"/>', "inside its image"),
        ('<mask label="cat" rle="6" left="5" top="7" width="3" height="2"/>', "a mask must have"),
        ('<mask label="cat" rle="-1, 7" left="5" top="7" width="3" height="2"/>', "a mask must have"),
    ],
)
def test_bad_shapes_are_refused_by_name_or_left_out(one: Path, bad: str, words: str) -> None:
    write_cvat(one, image("a", box("cat", 1, 1, 5, 5) + bad))
    layout = find_layout(one)
    with pytest.raises(DataError) as caught:
        read_split(layout, "train")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    data = read_split(layout, "train", skip_bad=True)
    assert data.object_count == 1
    assert len(data.left_out) == 1
    assert words in data.left_out[0]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ('<image id="1"/>', "an image with id '1' has no name, every image needs a name"),
        ('<image id="1" name="b.jpg" width="x" height="3"/>', "image 'b.jpg' has width 'x' and height '3'"),
        ('<image id="1" name="b.jpg" width="3" height="3"/>', "image 'b.jpg' names 'b.jpg', which does not exist"),
        ('<image id="1" name="../b.jpg"/>', "a file_name must stay inside the folder of the images"),
        ('<image id="1" name="a.jpg" width="3" height="3"/>', "is declared 3x3 and the upright picture is 100x80"),
    ],
)
def test_bad_images_are_refused_by_name_or_left_out(one: Path, bad: str, words: str) -> None:
    write_cvat(one, image("a", box("cat", 1, 1, 5, 5)) + bad)
    layout = find_layout(one)
    with pytest.raises(DataError) as caught:
        read_split(layout, "train")
    assert words in str(caught.value)
    data = read_split(layout, "train", skip_bad=True)
    assert len(data.images) == 1
    assert words in data.left_out[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotations><image", "is not whole, valid XML"),
        ("<set/>", "it holds <set> and not <annotations>"),
        ("", "is not whole, valid XML"),
        ('<!DOCTYPE x [<!ENTITY y "z">]><annotations>&y;</annotations>', "it has a document type, which is not read"),
        ("<annotations/>", "lists no label and has no labelled box, polygon or mask"),
    ],
)
def test_files_that_are_none(one: Path, text: str, words: str) -> None:
    write_text(one / "annotations.xml", text)
    with pytest.raises(DataError) as caught:
        read_split(find_layout(one), "train")
    assert str(caught.value).startswith(str(one / "annotations.xml"))
    assert words in str(caught.value)


def test_a_broken_file_beside_a_sound_one_is_named(one: Path) -> None:
    for split in SPLITS:
        write_image(one / split / "images", "a")
        write_cvat(one / split, image("a", box("cat", 1, 1, 5, 5)))
    write_text(one / "val/annotations.xml", "<annotations><image")
    layout = find_layout(one)
    assert read_split(layout, "train").object_count == 1
    with pytest.raises(DataError, match=r"val/annotations.xml is not whole, valid XML"):
        read_split(layout, "val")


def test_tracks_are_of_a_video(one: Path) -> None:
    write_cvat(one, image("a", box("cat", 1, 1, 5, 5)) + '<track id="0" label="cat"/>')
    with pytest.raises(DataError, match='has tracks of a video, images are read; export it from CVAT as "CVAT for im'):
        read_split(find_layout(one), "train")


def test_no_image(one: Path) -> None:
    write_cvat(one, "", ("cat",))
    with pytest.raises(DataError, match="lists no images, at least one is needed"):
        read_split(find_layout(one), "train")
