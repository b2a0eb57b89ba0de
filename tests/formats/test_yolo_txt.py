import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from six_layouts import write_image, write_text, write_yolo

from visionkit.errors import DataError
from visionkit.formats.boxes import OVERHANG_REMARK
from visionkit.formats.findings import Findings
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.formats.yolo_txt import BACKGROUND_REMARK, UNUSED_REMARK, label_file, read_row


def read(root: Path, split: str = "train", *, skip_bad: bool = False) -> AnnotatedImages:
    return read_split(find_layout(root), split, skip_bad=skip_bad)


def with_labels(root: Path, text: str) -> Path:
    """The dataset with other labels of image `a`, of 100 x 80 pixels."""
    write_yolo(root)
    write_text(root / "labels" / "train" / "a.txt", text)
    return root


def with_yaml(root: Path, text: str) -> Path:
    write_yolo(root)
    write_text(root / "data.yaml", text)
    return root


def first_objects(root: Path) -> tuple[Annotation, ...]:
    return read(root).images[0].annotations


def refusal(root: Path) -> str:
    """What a refusal says, without the file's name and the advice, after checking that it is one line."""
    with pytest.raises(DataError) as caught:
        read(root)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{root / 'data.yaml'}: ")
    return message.removeprefix(f"{root / 'data.yaml'}: ").removesuffix(" | --skip-bad leaves them out")


# --- lines -----------------------------------------------------------------------------------------------------------


def test_a_box_is_in_parts_of_its_image(tmp_path: Path) -> None:
    root = with_labels(tmp_path, "1 0.5 0.25 0.5 0.25\r\n\n0.000e+00  1 1 2e-1 .5\n")
    one, two = first_objects(root)
    # Of 100 x 80 px: centre (50, 20), 50 wide and 20 high; centre (100, 80), 20 wide and 40 high.
    assert (one.category_id, one.bbox, one.area) == (1, (25, 10, 50, 20), 1000)
    assert (two.category_id, two.bbox, two.area) == (0, (90, 60, 20, 40), 800)
    assert (one.iscrowd, one.segmentation) == (False, None)
    assert read(root).remarks == {BACKGROUND_REMARK: 1, OVERHANG_REMARK: 1}


def test_a_polygon_stays_one_and_gets_the_box_around_it(tmp_path: Path) -> None:
    (one,) = first_objects(with_labels(tmp_path, "0 0.1 0.25 0.5 0.25 0.5 0.75\n"))
    # Of 100 x 80 px: a right triangle (10, 20), (50, 20), (50, 60), half of 40 x 40.
    assert one.segmentation == [[10, 20, 50, 20, 50, 60]]
    assert one.bbox == pytest.approx((10, 20, 40, 40))
    assert one.area == pytest.approx(800)


FRACTION = st.floats(0.01, 0.999)


@given(cx=FRACTION, cy=FRACTION, w=FRACTION, h=FRACTION, width=st.integers(1, 5000), height=st.integers(1, 5000))
def test_boxes_make_the_round_trip(cx: float, cy: float, w: float, h: float, width: int, height: int) -> None:
    image = ImageRecord(1, "a.jpg", None, width, height)
    findings = Findings(Path("data.yaml"))
    found = read_row(["3", repr(cx), repr(cy), repr(w), repr(h)], 1, image, {3: "cat"}, "line 1", findings)
    assert found is not None
    x, y, box_width, box_height = found.bbox
    back = ((x + box_width / 2) / width, (y + box_height / 2) / height, box_width / width, box_height / height)
    assert back == pytest.approx((cx, cy, w, h), abs=1e-9)


@given(st.lists(st.one_of(st.floats().map(repr), st.text(max_size=5), st.integers().map(str)), max_size=10))
def test_any_line_is_an_object_or_an_error(row: list[str]) -> None:
    findings = Findings(Path("data.yaml"))
    found = read_row(row, 1, ImageRecord(1, "a.jpg", None, 64, 48), {0: "cat"}, "line 1", findings)
    assert (found is None) == bool(findings.errors)


ROW_RULE = "a line has a class and either cx cy w h or the x y of at least three points; correct or remove it"
CLASS_RULE = "a class must be a whole number that data.yaml names; name the class or remove the line"
RANGE_RULE = "coordinates must be parts of the image, 0 to 1; divide pixels by width and height"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 0.5 0.5 0.5", f"has 4 values, '0 0.5 0.5 0.5', {ROW_RULE}"),
        ("0 0.5 0.5 0.5 0.5 0.9", f"has 6 values, '0 0.5 0.5 0.5 0.5 0.9', {ROW_RULE}"),
        ("0 0.5 0.5 0.5 0.5 0.9 1 1", f"has 8 values, '0 0.5 0.5 0.5 0.5 0.9 1 1', {ROW_RULE}"),
        ("cat 0.5 0.5 0.5 0.5", f"is 'cat 0.5 0.5 0.5 0.5', not numbers, {ROW_RULE}"),
        ("7 0.5 0.5 0.5 0.5", f"has class '7', {CLASS_RULE}"),
        ("-1 0.5 0.5 0.5 0.5", f"has class '-1', {CLASS_RULE}"),
        ("0.5 0.5 0.5 0.5 0.5", f"has class '0.5', {CLASS_RULE}"),
        ("nan 0.5 0.5 0.5 0.5", f"has class 'nan', {CLASS_RULE}"),
        ("0 50 40 20 20", f"is '0 50 40 20 20', {RANGE_RULE}"),
        ("0 0.5 nan 0.5 0.5", f"is '0 0.5 nan 0.5 0.5', {RANGE_RULE}"),
        ("0 0.5 0.5 inf 0.5", f"is '0 0.5 0.5 inf 0.5', {RANGE_RULE}"),
        ("0 0.1 0.1 0.5 0.5 1.2 0.9", f"is '0 0.1 0.1 0.5 0.5 1.2 0.9', {RANGE_RULE}"),
        (
            "0 0.5 0.5 0 0.5",
            "has '0 0.5 0.5 0 0.5', width and height of a box must be 0.001 px or more; correct or remove it",
        ),
        (
            "0 0.5 0.5 0.5 0.6 0.5 0.7",  # all x are 0.5
            "has '0 0.5 0.5 0.5 0.6 0.5 0.7', width and height of a box must be 0.001 px or more; correct or remove it",
        ),
        (
            "0 1.005 0.5 0.002 0.5",  # x from 100.4 px
            "has '0 1.005 0.5 0.002 0.5' outside its 100x80 pixels, a box must overlap its image; correct or remove it",
        ),
    ],
)
def test_a_line_in_error_is_named_or_left_out(row: str, message: str, tmp_path: Path) -> None:
    root = with_labels(tmp_path, f"\n{row}\n0 0.5 0.5 0.5 0.5\n")
    message = f"line 2 of labels/train/a.txt {message}"
    assert refusal(root) == message
    data = read(root, skip_bad=True)
    assert [(a.id, a.bbox) for a in data.images[0].annotations] == [(2, (25, 20, 50, 40))]
    assert data.left_out == (f"{root / 'data.yaml'}: {message}",)


# --- label files and images ------------------------------------------------------------------------------------------


def test_labels_mirror_the_last_folder_images_or_lie_beside(tmp_path: Path) -> None:
    image = tmp_path / "images" / "x" / "images" / "train" / "a.b.jpg"
    mirrored = tmp_path / "images" / "x" / "labels" / "train" / "a.b.txt"
    assert label_file(image) == mirrored, "where there are none, this is where they are missed"
    write_text(image.with_suffix(".txt"), "")
    assert label_file(image) == image.with_suffix(".txt")
    write_text(mirrored, "")
    assert label_file(image) == mirrored
    assert label_file(Path("photos/images.jpg")) == Path("photos/images.txt")


def test_an_image_without_labels_is_background_and_labels_without_image_are_remarked(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    for name in ("gone.txt", "classes.txt"):
        write_text(root / "labels" / "train" / name, "")
    write_text(root / "labels" / "train" / "c.txt", "")
    data = read(root)
    assert [len(image.annotations) for image in data.images] == [2, 0, 0]
    assert data.remarks == {BACKGROUND_REMARK: 1, UNUSED_REMARK: 1}


def test_where_no_image_has_labels_they_are_missed(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    shutil.rmtree(root / "labels")
    assert refusal(root) == (
        f"none of 3 images has a label file, looked for {root / 'labels' / 'train' / 'a.txt'} and so on; labels/ must "
        "mirror images/, or labels lie beside their images"
    )


def test_labels_that_are_no_text_are_named_or_leave_their_image_out(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    file = root / "labels" / "train" / "a.txt"
    file.write_bytes(b"\xff\xfe\x00")
    assert refusal(root) == (
        f"labels/train/a.txt cannot be read ({file} is not text in UTF-8, a label file is needed; convert it), label "
        "files must be readable text; correct or remove it"
    )
    data = read(root, skip_bad=True)
    assert [image.id for image in data.images] == [2, 3]
    assert len(data.left_out) == 1


def test_a_broken_image_is_named_or_left_out(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "images" / "train" / "a.jpg").write_bytes(b"no image")
    assert refusal(root).startswith("image 'images/train/a.jpg' cannot be read (")
    data = read(root, skip_bad=True)
    assert [image.file_name for image in data.images] == ["images/train/b.jpg", "images/train/c.jpg"]
    assert len(data.left_out) == 1


def test_where_all_is_in_error_nothing_is_read(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    for name in ("a", "c"):
        write_text(root / "labels" / "train" / f"{name}.txt", "9 0.5 0.5 0.5 0.5")
    with pytest.raises(DataError) as caught:
        read(root, skip_bad=True)
    assert "data.yaml: no objects would be left without those in error: line 1 of labels/train/a.txt has" in str(
        caught.value
    )


# --- where images are ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "train",
    [
        "images/train",
        "../images/train",  # as Roboflow writes it
        "[images/train]",
        "lists/train.txt",
    ],
)
def test_a_split_is_a_folder_some_folders_or_a_list(train: str, tmp_path: Path) -> None:
    root = with_yaml(tmp_path / "data", f"train: {train}\nnames: {{0: cat, 1: dog}}\n")
    # Relative to the dataset, and outright.
    lines = ("images/train/a.jpg", "./images/train/b.jpg", str(root / "images" / "train" / "c.jpg"))
    write_text(root / "lists" / "train.txt", "\n".join(lines))
    assert [image.file_name for image in read(root).images] == [f"images/train/{name}.jpg" for name in "abc"]


def test_a_list_is_relative_to_its_own_folder_first(tmp_path: Path) -> None:
    root = with_yaml(tmp_path, "train: lists/train.txt\nnames: [cat, dog]\n")
    write_text(root / "lists" / "train.txt", "images/train/a.jpg\nimages/train/b.jpg\n")
    write_image(root / "lists" / "images" / "train", "a")
    write_text(root / "lists" / "labels" / "train" / "a.txt", "0 0.5 0.5 1 1")
    assert [image.file_name for image in read(root).images] == [
        "lists/images/train/a.jpg",
        "images/train/b.jpg",
    ]


def test_subfolders_belong_to_a_folder_and_hidden_files_do_not(tmp_path: Path) -> None:
    root = with_yaml(tmp_path, "path: .\ntrain: images\nnames: [cat, dog]\n")
    write_text(root / "images" / "train" / "._a.jpg", "")
    assert [image.file_name for image in read(root).images] == [
        *(f"images/train/{name}.jpg" for name in "abc"),
        "images/val/v.jpg",
    ]


def test_an_image_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    root = with_yaml(tmp_path, "train: [images/val, images]\nnames: [cat, dog]\n")
    data = read(root)
    assert [Path(image.file_name).name for image in data.images] == ["v.jpg", "a.jpg", "b.jpg", "c.jpg"]
    assert data.remarks == {"images that are named again, read once": 1, BACKGROUND_REMARK: 1}


def test_an_absolute_line_may_name_an_image_of_a_dataset_reached_by_dots(tmp_path: Path) -> None:
    write_yolo(tmp_path / "data")
    write_text(tmp_path / "data" / "train.txt", f"{tmp_path}/data/images/train/a.jpg\n{tmp_path}/elsewhere/a.jpg\n")
    file = tmp_path / "configs" / "mine.yaml"
    write_text(file, "path: ../data\ntrain: train.txt\nnames: [cat, dog]\n")
    data = read_split(find_layout(file), "train", skip_bad=True)
    assert [image.path for image in data.images] == [tmp_path / "data" / "images" / "train" / "a.jpg"]
    assert "a list must name images inside the dataset's folder" in data.left_out[0]


def test_path_is_where_the_rest_is_relative_to(tmp_path: Path) -> None:
    write_yolo(tmp_path / "data")
    file = tmp_path / "configs" / "mine.yaml"
    for path in ("../data", tmp_path / "data"):
        write_text(file, f"path: {path}\ntrain: images/train\nval:\nnames: [cat, dog]\nnc: 2\ndownload: echo no\n")
        layout = find_layout(file)
        assert layout.describe() == "YOLO layout: train of mine.yaml"
        assert (layout.path, len(read_split(layout, "train").images)) == (file, 3)


@pytest.mark.parametrize("line", ["../../a.jpg", "/etc/passwd", "..\\a.jpg", "C:\\a.jpg", "images/../../a.jpg", "a\0"])
def test_a_list_cannot_lead_out_of_the_dataset(line: str, tmp_path: Path) -> None:
    root = with_yaml(tmp_path, "train: train.txt\nnames: [cat, dog]\n")
    write_text(root / "train.txt", f"images/train/a.jpg\n{line}\n")
    assert refusal(root) == (
        f"line 2 of train.txt is {line!r}, a list must name images inside the dataset's folder; correct it"
    )
    assert len(read(root, skip_bad=True).images) == 1


def test_listed_images_must_be_there(tmp_path: Path) -> None:
    root = with_yaml(tmp_path, "train: train.txt\nnames: [cat, dog]\n")
    write_text(root / "train.txt", "images/train/a.jpg\nimages/train/x.jpg\n")
    assert refusal(root) == (
        "line 2 of train.txt names 'images/train/x.jpg', which does not exist, every listed image must be there; add "
        "the file or remove the line"
    )


def test_folders_must_be_there_and_hold_images(tmp_path: Path) -> None:
    root = with_yaml(tmp_path, "train: photos\nnames: [cat, dog]\n")
    with pytest.raises(DataError) as caught:
        read(root)
    assert str(caught.value) == (
        f"{root / 'data.yaml'} names {root / 'photos'}, which does not exist; correct the path"
    )
    (root / "photos").mkdir()
    with pytest.raises(DataError) as caught:
        read(root)
    assert str(caught.value) == (
        f"{root / 'data.yaml'}: {root / 'photos'} holds no images, at least one is needed; correct the path"
    )


# --- data.yaml -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: images", " has names None, a list of class names is needed; add it"),
        ("train: images\nnames: []", " has names [], a list of class names is needed; add it"),
        ("train: images\nnames: cat", " has names 'cat', a list of class names is needed; add it"),
        ("train: images\nnames: {x: cat}", " names the class 'x', a class is a number from 0; correct it"),
        ("train: images\nnames: {-1: cat}", " names the class -1, a class is a number from 0; correct it"),
        ("train: images\nnames: [yes]", " has True as name of class 0, a name is text on one line; put it in quotes"),
        (
            "train: images\nnames: [a, a]",
            ": each category name must occur once, a occurs more often; rename or merge",
        ),
        (
            'train: images\nnames: ["a\\nb"]',
            " has 'a\\nb' as name of class 0, a name is text on one line; put it in quotes",
        ),
        ("train: images\nnames: ['']", ": a category has an empty name; give every category a name"),
        ("train: images\nnames: [a]\nnc: 2", " has nc 2 and 1 names, they must agree; correct one"),
        ("names: [a]", " names no split, at least one of train, val, test is needed; add it"),
        (
            "train: 5\nnames: [a]",
            " says train: 5, a split is a folder, a list of folders or a .txt list of images; correct it",
        ),
        (
            "train: [images, {}]\nnames: [a]",
            " says train: ['images', {}], a split is a folder, a list of folders or a .txt list of images; correct it",
        ),
        ("path: 5\ntrain: images\nnames: [a]", " has path 5, it must be a folder; correct it or leave it out"),
        (
            "path: gone\ntrain: images\nnames: [a]",
            " has path 'gone', which is no folder; correct it or leave it out",
        ),
        (
            f"path: {'x' * 300}\ntrain: images\nnames: [a]",
            f" has path '{'x' * 56}..., which is no folder; correct it or leave it out",
        ),
        (
            "kpt_shape: [17, 3]\ntrain: images\nnames: [a]",
            " describes key points (kpt_shape), boxes and polygons are read; leave the points out",
        ),
    ],
)
def test_a_data_yaml_in_error_is_refused(text: str, message: str, tmp_path: Path) -> None:
    root = with_yaml(tmp_path, text)
    with pytest.raises(DataError) as caught:
        find_layout(root)
    assert str(caught.value) == f"{root / 'data.yaml'}{message}"


def test_names_may_be_numbers(tmp_path: Path) -> None:
    root = with_yaml(tmp_path, "train: images/train\nnames: {0: 101, 1: '102', 7: bird}\n")
    assert read(root).classes.to_json() == [
        {"id": 0, "name": "101"},
        {"id": 1, "name": "102"},
        {"id": 7, "name": "bird"},
    ]
