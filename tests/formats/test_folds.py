"""Parts of a dataset that are val in turn: each image once, like shares of every class, the same by seed."""

import json
from pathlib import Path

import pytest
from tiny import write_blocks

from visionkit.errors import DataError, UsageError
from visionkit.formats.dataset_layout import DatasetLayout
from visionkit.formats.folds import Fold, with_fold
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.records import AnnotatedImages


def parts(root: Path, number: int, count: int, seed: int = 0) -> tuple[AnnotatedImages, AnnotatedImages]:
    layout = with_fold(find_layout(root), Fold(number, count), seed)
    return read_split(layout, "train"), read_split(layout, "val")


def names(images: AnnotatedImages) -> list[str]:
    return [image.file_name for image in images.images]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("folds") / "data", {"train": 14, "val": 6, "test": 2})


@pytest.mark.parametrize("text", ["", "2", "0/5", "6/5", "1/1", "2/5/7", "a/b", "-1/5", "2 / 5", "1/9999999"])
def test_what_is_no_fold_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as error:
        Fold.of(text)
    assert str(error.value) == f"a fold is PART/PARTS with 2 parts or more, such as 2/5, got {text!r}; correct it"


def test_each_image_is_val_once_and_else_train(data: Path) -> None:
    every = [f"train_{i}.png" for i in range(14)] + [f"val_{i}.png" for i in range(6)]
    held: list[str] = []
    for number in range(1, 6):
        train, val = parts(data, number, 5)
        assert len(names(val)) == 4  # 20 images in 5 parts
        assert sorted(names(train) + names(val)) == sorted(every)
        held += names(val)
    assert sorted(held) == sorted(every)


def test_images_and_objects_are_what_they_were_and_ids_differ(data: Path) -> None:
    train, val = parts(data, 1, 2)
    both = [*train.images, *val.images]
    assert len({image.id for image in both}) == 20  # train and val count from 5 both
    layout = find_layout(data)
    before = {image.file_name: image for name in ("train", "val") for image in read_split(layout, name).images}
    assert all(image.annotations == before[image.file_name].annotations for image in both)
    assert all(image.path == before[image.file_name].path for image in both)
    assert all(before[image.file_name].id == image.id for image in both if image.file_name.startswith("train"))


def test_every_class_has_like_shares(data: Path) -> None:
    totals = []
    for number in (1, 2, 3, 4):
        _, val = parts(data, number, 4)
        objects = [a for image in val.images for a in image.annotations if not a.iscrowd]
        totals.append([sum(a.category_id == wanted for a in objects) for wanted in (3, 8)])
    for counts in zip(*totals, strict=True):
        # An image has two objects of one class at most, so a part may be two off.
        assert max(counts) - min(counts) <= 2


def test_the_seed_decides_and_nothing_else(data: Path) -> None:
    assert names(parts(data, 2, 5)[1]) == names(parts(data, 2, 5)[1])
    others = [names(parts(data, 2, 5, seed)[1]) for seed in range(4)]
    assert len({tuple(each) for each in others}) > 1


def test_train_and_val_are_one_reading_and_test_is_untouched(data: Path) -> None:
    plain = find_layout(data)
    layout = with_fold(plain, Fold(2, 5), seed=3)
    assert layout.splits["test"] is plain.splits["test"]
    assert layout.words.endswith("; val is part 2 of 5 of train and val together, by seed 3")
    whole = [*plain.splits["train"].content(), *plain.splits["val"].content()]
    assert [*layout.splits["train"].content()] == [*layout.splits["val"].content()] == whole


def test_without_val_there_is_nothing_to_deal_out(data: Path) -> None:
    plain = find_layout(data)
    only = DatasetLayout(plain.root, plain.path, plain.words, {"train": plain.splits["train"]})
    assert with_fold(only, Fold(1, 2), 0) is only


def test_more_folds_than_images_are_refused(tmp_path: Path) -> None:
    root = write_blocks(tmp_path / "data", {"train": 3, "val": 2})
    with pytest.raises(DataError) as error:
        parts(root, 1, 6)
    file = root / "annotations" / "train.json"
    assert str(error.value) == f"{file} and val list 5 images together, 6 folds need at least one each; use fewer folds"
    assert len(names(parts(root, 1, 5)[1])) == 1


def test_splits_of_other_classes_are_not_put_together(tmp_path: Path) -> None:
    root = write_blocks(tmp_path / "data", {"train": 3, "val": 2})
    file = root / "annotations" / "val.json"
    content = json.loads(file.read_text())
    content["categories"].append({"id": 9, "name": "green block"})
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="category 9 is missing"):
        parts(root, 1, 2)
