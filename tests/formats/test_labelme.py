"""LabelMe's files: read by hand-written examples; damaged ones refused by name."""

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from six_layouts import CLASSES, OBJECTS, SIZES, SPLITS, write_image, write_text

from visionkit.errors import DataError
from visionkit.formats.labelme import (
    CROWD_REMARK,
    OTHER_SHAPES_REMARK,
    UNLABELLED_REMARK,
    labelme_folders,
)
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.object_shapes import decoded


def shape(label: str, kind: str, points: list[list[float]], **more: Any) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": points, **more}


def rectangle(label: str, x: float, y: float, w: float, h: float) -> dict[str, Any]:
    return shape(label, "rectangle", [[x, y], [x + w, y + h]])


def png(rows: list[list[int]]) -> str:
    return base64.b64encode(cv2.imencode(".png", np.array(rows, np.uint8) * 255)[1].tobytes()).decode()


def write_file(folder: Path, name: str, shapes: list[Any], **more: Any) -> None:
    write_image(folder, name)
    width, height = SIZES[name]
    content = {"shapes": shapes, "imagePath": f"{name}.jpg", "imageWidth": width, "imageHeight": height, **more}
    write_text(folder / f"{name}.json", json.dumps(content))


def write_labelme(root: Path) -> Path:
    """The dataset of `six_layouts`."""
    for split, names in SPLITS.items():
        for name in names:
            write_file(root / split, name, [rectangle(c, *box) for c, box in OBJECTS[name]])
    return root


def test_a_dataset(tmp_path: Path) -> None:
    layout = find_layout(write_labelme(tmp_path))
    assert layout.describe() == "LabelMe layout: train/, val/"
    for split, names in SPLITS.items():
        data = read_split(layout, split)
        assert (data.classes.category_ids, data.classes.names) == ((1, 2), CLASSES), "also in val, which has no dog"
        assert [(i.id, i.file_name) for i in data.images] == [(n, f"{name}.jpg") for n, name in enumerate(names, 1)]
        for name, image in zip(names, data.images, strict=True):
            found = [(data.classes.names[data.classes.label(a.category_id)], a.bbox) for a in image.annotations]
            assert found == list(OBJECTS[name])
        assert data.remarks == {}
    assert [a.id for i in read_split(layout, "train").images for a in i.annotations] == [1, 2, 3]


def test_a_folder_without_splits_is_train(tmp_path: Path) -> None:
    write_file(tmp_path, "a", [rectangle("cat", 1, 2, 3, 4)])
    write_image(tmp_path, "b")
    layout = find_layout(tmp_path)
    assert layout.describe() == "LabelMe layout: files beside their images, all train"
    data = read_split(layout, "train")
    assert len(data.images) == 1
    assert data.remarks == {UNLABELLED_REMARK: 1}


def test_other_json_beside_no_image_is_no_labelme(tmp_path: Path) -> None:
    write_image(tmp_path, "a")
    write_text(tmp_path / "notes.json", "{}")
    assert labelme_folders(tmp_path) is None


def test_corners_in_any_order(tmp_path: Path) -> None:
    write_file(tmp_path, "a", [shape("cat", "rectangle", [[40, 60], [10, 20]])])
    (image,) = read_split(find_layout(tmp_path), "train").images
    assert image.annotations[0].bbox == (10, 20, 30, 40)
    assert image.annotations[0].area == 1200


def test_polygons_of_a_group_are_one_object(tmp_path: Path) -> None:
    triangle, square = [[0, 0], [10, 0], [0, 10]], [[20, 20], [24, 20], [24, 24], [20, 24]]
    write_file(
        tmp_path,
        "a",
        [
            shape("cat", "polygon", triangle, group_id=1),
            shape("dog", "polygon", square, group_id=1),
            shape("cat", "polygon", square, group_id=1),
            shape("cat", "polygon", triangle, group_id=None),
        ],
    )
    (image,) = read_split(find_layout(tmp_path), "train").images
    cat, dog, alone = image.annotations
    assert cat.segmentation == [[0, 0, 10, 0, 0, 10], [20, 20, 24, 20, 24, 24, 20, 24]]
    assert cat.bbox == (0, 0, 24, 24)
    assert cat.area == 50 + 16  # half of 10 x 10, and 4 x 4
    assert dog.category_id == 2
    assert dog.segmentation == [[20, 20, 24, 20, 24, 24, 20, 24]]
    assert alone.bbox == (0, 0, 10, 10)


def test_a_mask_lies_at_its_first_point(tmp_path: Path) -> None:
    # A window of 3 x 2 pixels at (5, 7), whose first column is empty: the box is 2 x 2 at (6, 7).
    write_file(tmp_path, "a", [shape("cat", "mask", [[5, 7], [7, 8]], mask=png([[0, 1, 1], [0, 1, 0]]))])
    (image,) = read_split(find_layout(tmp_path), "train").images
    (mask,) = image.annotations
    assert mask.bbox == (6, 7, 2, 2)
    assert mask.area == 3
    assert isinstance(mask.segmentation, dict)
    ys, xs = np.nonzero(decoded(mask.segmentation))
    assert set(zip(xs.tolist(), ys.tolist(), strict=True)) == {(6, 7), (7, 7), (6, 8)}


def test_crowds_and_what_is_no_object(tmp_path: Path) -> None:
    crowd = {**rectangle("cat", 1, 1, 5, 5), "flags": {"iscrowd": True}}
    others = [shape("cat", "point", [[3, 3]]), shape("zebra", "line", [[3, 3], [4, 4]])]
    write_file(tmp_path, "a", [crowd, *others, rectangle("cat", 1, 1, 5, 5)])
    data = read_split(find_layout(tmp_path), "train")
    assert [a.iscrowd for a in data.images[0].annotations] == [True, False]
    assert data.remarks == {OTHER_SHAPES_REMARK: 2, CROWD_REMARK: 1}
    assert data.classes.names == ("cat",), "the label of a line is no class"


def test_an_image_path_of_another_machine(tmp_path: Path) -> None:
    write_file(tmp_path, "a", [rectangle("cat", 1, 1, 5, 5)])
    write_file(tmp_path, "b", [], imagePath="C:\\photos\\b.jpg")
    (tmp_path / "b.json").rename(tmp_path / "other.json")
    assert [i.file_name for i in read_split(find_layout(tmp_path), "train").images] == ["a.jpg", "b.jpg"]


BOX = rectangle("cat", 1, 1, 5, 5)
TWO_BY_TWO = png([[1, 1], [1, 1]])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({**BOX, "label": ""}, "a.json shape 2 has label '', every shape needs a label on one line"),
        ({**BOX, "label": 3}, "has label 3"),
        ("text", "a.json shape 2 has label 'text'"),
        ({**BOX, "points": [[1, 1]]}, "has points [[1, 1]], points must be finite x, y pairs"),
        ({**BOX, "points": [[1, 1], [2, float("nan")]]}, "points must be finite"),
        ({**BOX, "points": [[1, 1], [2, 2], [3, 3]]}, "two of a rectangle or mask"),
        ({**BOX, "points": "1 2"}, "has points '1 2'"),
        (shape("cat", "polygon", [[1, 1], [2, 2]]), "three or more of a polygon"),
        (shape("cat", "polygon", [[1, 1], [2, 2], [1e9, 3]]), "within 1000000 px"),
        (rectangle("cat", 1, 1, 0, 5), "width and height of a box must be"),
        (rectangle("cat", 500, 1, 5, 5), "a box must overlap its image"),
        (shape("cat", "mask", [[1, 1], [2, 2]], mask="%%%"), "a mask must be a grey PNG in base64"),
        (shape("cat", "mask", [[1, 1], [2, 2]], mask=base64.b64encode(b"GIF89a").decode()), "a mask must be"),
        (shape("cat", "mask", [[99, 1], [100, 2]], mask=TWO_BY_TWO), "a mask must be"),  # reaches over 100 px
        (shape("cat", "mask", [[1, 1], [2, 2]], mask=png([[0, 0]])), "a mask must be"),
        (shape("cat", "mask", [[1, 1], [2, 2]]), "has mask None"),
        (shape("cat", "mask", [[1, 1], [2, 2]], mask=TWO_BY_TWO[:64]), "a mask must be"),  # ends early
    ],
)
def test_bad_shapes_are_refused_by_name_or_left_out(tmp_path: Path, bad: Any, words: str) -> None:
    write_file(tmp_path, "a", [BOX, bad])
    layout = find_layout(tmp_path)
    with pytest.raises(DataError) as caught:
        read_split(layout, "train")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    data = read_split(layout, "train", skip_bad=True)
    assert data.object_count == 1
    assert len(data.left_out) == 1
    assert words in data.left_out[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "file 'b.json' has no list of shapes, a LabelMe file is a JSON object"),
        ('{"shapes": 3}', "has no list of shapes"),
        ("{", "is not whole, valid JSON"),
        ('{"shapes": [], "imagePath": "../b.jpg", "imageWidth": "x", "imageHeight": 3}', "has imageWidth 'x'"),
        ('{"shapes": [], "imageWidth": 3, "imageHeight": 3}', "is declared 3x3 and the upright picture is 64x48"),
    ],
)
def test_bad_files_are_refused_by_name_or_left_out(tmp_path: Path, text: str, words: str) -> None:
    write_file(tmp_path, "a", [BOX])
    write_image(tmp_path, "b")
    write_text(tmp_path / "b.json", text)
    layout = find_layout(tmp_path)
    with pytest.raises(DataError, match=words.replace("(", ".")):
        read_split(layout, "train")
    data = read_split(layout, "train", skip_bad=True)
    assert [image.file_name for image in data.images] == ["a.jpg"]
    assert words in data.left_out[0]


def test_a_file_without_an_image(tmp_path: Path) -> None:
    write_file(tmp_path, "a", [BOX])
    write_text(tmp_path / "gone.json", '{"shapes": [], "imagePath": "../../gone.jpg"}')
    with pytest.raises(
        DataError, match=r"file 'gone.json' has imagePath '../../gone.jpg', the image of a LabelMe file"
    ):
        read_split(find_layout(tmp_path), "train")


def test_nothing_to_learn(tmp_path: Path) -> None:
    write_file(tmp_path, "a", [])
    with pytest.raises(DataError, match="has no labelled rectangle, polygon or mask, at least one is needed"):
        read_split(find_layout(tmp_path), "train")


def test_a_broken_file_alone_is_named(tmp_path: Path) -> None:
    write_image(tmp_path, "a")
    write_text(tmp_path / "a.json", "{")
    with pytest.raises(DataError, match=r"a.json is not whole, valid JSON"):
        read_split(find_layout(tmp_path), "train")


def test_nothing_sound_is_left(tmp_path: Path) -> None:
    write_file(tmp_path, "a", [rectangle("cat", 1, 1, 0, 0)])
    with pytest.raises(DataError, match="no objects would be left without those in error"):
        read_split(find_layout(tmp_path), "train", skip_bad=True)


def test_the_content_follows_the_files(tmp_path: Path) -> None:
    layout = find_layout(write_labelme(tmp_path))
    before = {split: b"".join(files.content()) for split, files in layout.splits.items()}
    file = tmp_path / "train/a.json"
    file.write_text(file.read_text() + " ")
    after = {split: b"".join(files.content()) for split, files in layout.splits.items()}
    assert (before["train"] == after["train"], before["val"] == after["val"]) == (False, True)


def test_the_picture_is_upright(tmp_path: Path) -> None:
    write_file(tmp_path, "a", [BOX])
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: 100 x 80 on disk is 80 x 100 upright
    Image.new("RGB", (100, 80)).save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(DataError, match="is declared 100x80 and the upright picture is 80x100"):
        read_split(find_layout(tmp_path), "train")
