"""A folder per class: recognised, read, refused."""

from pathlib import Path

import pytest
from PIL import Image

from visionkit.errors import DataError
from visionkit.formats.class_folders import EMPTY_CLASSES_REMARK, OTHER_FILES_REMARK, class_folders
from visionkit.formats.held_out import with_val
from visionkit.formats.layout import check_same_classes, find_layout, read_split


def write(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + number, 10)).save(root / name)
    return root


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    return write(
        tmp_path, "train/wbc/b.png", "train/rbc/a.jpg", "train/rbc/more/c.png", "val/rbc/v.png", "val/eos/w.png"
    )


def test_the_layout_is_recognised(cells: Path) -> None:
    layout = find_layout(cells)
    assert layout.describe() == "Folder-per-class layout: train/, val/"
    assert list(layout.splits) == ["train", "val"]


def test_an_image_is_of_its_folder_s_class_as_a_whole(cells: Path) -> None:
    train = read_split(find_layout(cells), "train")
    assert train.whole_images
    assert (train.classes.category_ids, train.classes.names) == ((1, 2, 3), ("eos", "rbc", "wbc"))
    assert [image.file_name for image in train.images] == ["rbc/a.jpg", "rbc/more/c.png", "wbc/b.png"]
    first = train.images[0]
    assert (first.id, first.width, first.height, first.path) == (1, 21, 10, cells / "train/rbc/a.jpg")
    (whole,) = first.annotations
    assert (whole.id, whole.category_id, whole.bbox, whole.area) == (1, 2, (0, 0, 21, 10), 210)


def test_rare_suffixes_are_of_images_too(tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "val/a/3.bmp", "val/b/4.jpg")
    for name, rare in (("train/a/1.jpg", ".jfif"), ("train/b/2.jpg", ".JPE"), ("val/a/3.bmp", ".dib")):
        (tmp_path / name).rename((tmp_path / name).with_suffix(rare))
    layout = find_layout(tmp_path)
    assert [image.file_name for image in read_split(layout, "train").images] == ["a/1.jfif", "b/2.JPE"]
    assert [image.file_name for image in read_split(layout, "val").images] == ["a/3.dib", "b/4.jpg"]


def test_all_splits_have_the_classes_of_all_folders(cells: Path) -> None:
    splits = {name: read_split(find_layout(cells), name) for name in ("train", "val")}
    check_same_classes(splits)
    assert splits["train"].remarks == {EMPTY_CLASSES_REMARK: 1}  # eos is in val alone


def test_val_is_held_out_where_there_is_none(tmp_path: Path) -> None:
    write(tmp_path, *(f"train/{name}/{i}.png" for name in ("a", "b") for i in range(5)))
    layout = with_val(find_layout(tmp_path), seed=0)
    train, val = read_split(layout, "train"), read_split(layout, "val")
    assert (len(train.images), len(val.images)) == (8, 2)  # a fifth of ten
    assert val.whole_images


def test_other_files_are_counted_and_hidden_ones_passed_over(cells: Path) -> None:
    (cells / "train/rbc/notes.txt").touch()
    (cells / "train/rbc/._a.jpg").touch()
    (cells / "train/.cache").mkdir()
    train = read_split(find_layout(cells), "train")
    assert train.remarks[OTHER_FILES_REMARK] == 1
    assert len(train.images) == 3


def test_valid_is_another_name_of_val(tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.png", "valid/a/2.png", "test/a/3.png")
    assert list(find_layout(tmp_path).splits) == ["train", "val", "test"]


@pytest.mark.parametrize("names", [("train/images/1.jpg",), ("a/1.jpg",), ("train/1.jpg",)])
def test_what_is_another_layout(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert class_folders(write(tmp_path, *names)) is None


def test_content_is_the_names(cells: Path) -> None:
    split = find_layout(cells).splits["train"]
    before = b"".join(split.content())
    assert before == b"('eos', 'rbc', 'wbc')\nrbc/a.jpg\n\nrbc/more/c.png\n\nwbc/b.png\n"
    write(cells, "train/wbc/d.png")
    assert b"".join(split.content()) != before


def test_a_broken_image_is_refused_or_left_out(cells: Path) -> None:
    (cells / "train/wbc/b.png").write_bytes(b"no image")
    split = find_layout(cells).splits["train"]
    with pytest.raises(DataError, match=r"train: image 'wbc/b\.png' cannot be read .* --skip-bad leaves them out"):
        split.read()
    kept = split.read(skip_bad=True)
    assert [image.file_name for image in kept.images] == ["rbc/a.jpg", "rbc/more/c.png"]
    assert len(kept.left_out) == 1
    for path in (cells / "train/rbc").rglob("*.*"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="no images would be left without those in error"):
        split.read(skip_bad=True)


def test_a_split_that_lost_its_images(cells: Path) -> None:
    split = find_layout(cells).splits["val"]
    for path in (cells / "val").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError) as error:
        split.read()
    assert str(error.value) == f"{cells / 'val'} holds no images, at least one is needed; add them or remove the folder"


def test_a_name_on_two_lines(tmp_path: Path) -> None:
    write(tmp_path, "train/two\nlines/1.png")
    with pytest.raises(DataError) as error:
        find_layout(tmp_path).splits["train"].read()
    assert str(error.value) == r"the class folder 'two\nlines' has no name that is text on one line; rename it"
