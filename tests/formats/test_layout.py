import json
from pathlib import Path

import pytest
from PIL import Image
from reference_data import reference_data

from visionkit.classes import ClassTable
from visionkit.errors import DataError, UsageError
from visionkit.formats.layout import check_same_classes, find_layout, read_split
from visionkit.formats.records import AnnotatedImages


def dataset(root: Path, *splits: str) -> Path:
    """A dataset of one image, listed in every split."""
    (root / "images").mkdir()
    (root / "annotations").mkdir()
    Image.new("RGB", (4, 3)).save(root / "images" / "a.png")
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": [{"id": 1, "name": "car"}]}
    for split in splits:
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return root


def test_the_plain_coco_layout_is_found_and_described(tmp_path: Path) -> None:
    layout = find_layout(dataset(tmp_path, "val", "train", "more"))
    assert list(layout.splits) == ["train", "val"], "in the usual order; files of other names are no splits"
    assert layout.splits["val"] == (tmp_path / "annotations" / "val.json", tmp_path / "images")
    assert layout.describe() == "COCO layout: train.json, val.json over images/"


def test_a_split_is_read_with_its_images(tmp_path: Path) -> None:
    data = read_split(find_layout(dataset(tmp_path, "train")), "train")
    assert data.source == tmp_path / "annotations" / "train.json"
    assert (data.images[0].path, data.images[0].width) == (tmp_path / "images" / "a.png", 4)


def test_a_split_that_is_not_there_is_refused_with_the_choices(tmp_path: Path) -> None:
    layout = find_layout(dataset(tmp_path, "train", "test"))
    with pytest.raises(UsageError) as caught:
        read_split(layout, "val")
    assert str(caught.value) == f"{tmp_path} has no split 'val'; choose one of train, test"


LOOKED_FOR = "has no dataset layout that is known: looked for COCO (images/ and annotations/{train,val,test}.json)"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([], "nothing"),
        (["readme.txt", "photos/1.jpg"], "photos/, readme.txt"),
        (["images/1.jpg"], "images/"),
        (["images/1.jpg", "annotations/instances.json"], "annotations/instances.json, images/"),
        (["annotations/train.json"], "annotations/train.json"),
        ([f"{n}.jpg" for n in range(20, 30)], ", ".join(f"{n}.jpg" for n in range(20, 28)) + " and 2 more"),
    ],
)
def test_an_unknown_layout_is_refused_with_what_is_there(tmp_path: Path, files: list[str], found: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(DataError) as caught:
        find_layout(tmp_path)
    assert str(caught.value) == f"{tmp_path} {LOOKED_FOR}, found {found}; rename the files or name another folder"


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    remedy = "a dataset is a folder; name the folder that holds images/ and annotations/"
    with pytest.raises(DataError) as caught:
        find_layout(tmp_path / "none")
    assert str(caught.value) == f"{tmp_path / 'none'} does not exist, {remedy}"
    (tmp_path / "file").touch()
    with pytest.raises(DataError) as caught:
        find_layout(tmp_path / "file")
    assert str(caught.value) == f"{tmp_path / 'file'} is a file, {remedy}"


def split_of(name: str, categories: dict[int, str]) -> AnnotatedImages:
    return AnnotatedImages(ClassTable.of_categories(categories.items()), (), Path(f"{name}.json"))


def test_equal_class_tables_pass() -> None:
    check_same_classes({})
    check_same_classes({"train": split_of("train", {1: "car"})})
    check_same_classes({name: split_of(name, {1: "car", 7: "cat"}) for name in ("train", "val", "test")})


@pytest.mark.parametrize(
    ("other", "fact"),
    [
        ({1: "car", 7: "dog"}, "category 7 is 'cat' in train.json (train) and 'dog' in val.json (val)"),
        ({1: "car"}, "category 7 is 'cat' in train.json (train) and missing in val.json (val)"),
        ({0: "x", 1: "car", 7: "cat"}, "category 0 is missing in train.json (train) and 'x' in val.json (val)"),
    ],
)
def test_class_tables_that_differ_are_refused_with_the_difference(other: dict[int, str], fact: str) -> None:
    with pytest.raises(DataError) as caught:
        check_same_classes({"train": split_of("train", {1: "car", 7: "cat"}), "val": split_of("val", other)})
    assert str(caught.value) == f"{fact}, all splits of a dataset must list the same categories; make the lists equal"


def test_the_blood_cells_are_found_and_their_splits_agree() -> None:
    layout = find_layout(reference_data("blood-cells"))
    assert layout.describe() == "COCO layout: train.json, val.json, test.json over images/"
    splits = {split: read_split(layout, split) for split in layout.splits}
    assert [len(split.images) for split in splits.values()] == [205, 87, 72]
    check_same_classes(splits)
    assert splits["train"].classes.names == ("RBC", "WBC", "Platelets")
