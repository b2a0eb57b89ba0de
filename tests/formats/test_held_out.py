from pathlib import Path

import pytest
from six_layouts import LAYOUTS, SPLITS, write_voc
from tiny import write_blocks

from visionkit.api.datasets import find_dataset, say_split
from visionkit.errors import DataError
from visionkit.formats.held_out import held_out_ids, with_val
from visionkit.formats.layout import find_layout, read_split


def test_a_fifth_is_held_out_whatever_the_order() -> None:
    # Rounded, and at least one: 2 -> 1, 7 -> 1.4, 8 -> 1.6, 12 -> 2.4, 13 -> 2.6.
    assert [len(held_out_ids(range(count), 0)) for count in (2, 7, 8, 12, 13, 1000)] == [1, 1, 2, 2, 3, 200]
    ids = [7, -3, 2**40, 0, 11, 5]
    assert held_out_ids(ids, 0) == held_out_ids(reversed(ids), 0)


def test_another_seed_holds_out_others() -> None:
    ids = range(1000)
    shared = held_out_ids(ids, 0) & held_out_ids(ids, 1)
    # Two draws of 200 from 1000 share 40 on average, with a standard deviation of 5.1.
    assert 20 < len(shared) < 60


def test_one_image_more_moves_hardly_any_other() -> None:
    before, after = held_out_ids(range(1000), 0), held_out_ids(range(1001), 0)
    assert len(before - after) <= 1


def test_val_is_held_out_of_train_and_test_stays(tmp_path: Path) -> None:
    root = write_blocks(tmp_path, {"train": 10, "test": 2})
    plain = find_layout(root)
    layout = with_val(plain, seed=3)
    assert list(layout.splits) == ["train", "val", "test"]
    assert layout.splits["test"] == plain.splits["test"]
    assert (layout.root, layout.path) == (root, root)
    whole, train, val = read_split(plain, "train"), read_split(layout, "train"), read_split(layout, "val")
    assert (len(train.images), len(val.images)) == (8, 2)
    together = {image.id: image for image in (*train.images, *val.images)}
    assert together == {image.id: image for image in whole.images}, "none is lost, none is in both, none is changed"
    order = [image.id for image in whole.images]
    assert [image.id for image in train.images] == [i for i in order if i not in {v.id for v in val.images}]
    assert train.classes == val.classes == whole.classes
    again = with_val(find_layout(root), seed=3)
    assert read_split(again, "val") == val
    assert read_split(with_val(find_layout(root), seed=4), "val") != val
    assert [*layout.splits["val"].content()] == [*plain.splits["train"].content()]


def test_what_is_held_out_is_said(tmp_path: Path) -> None:
    write_blocks(tmp_path, {"train": 10})
    said: list[str] = []
    layout = find_dataset(tmp_path, said.append, seed=3)
    for split in layout.splits:
        say_split(split, read_split(layout, split), said.append)
    assert said[0] == (
        "Data: COCO layout: train.json over images/; no val split, so a fifth of train is held out as val, by seed 3"
    )
    assert "train: 8 of 10 images of train.json are kept, the others are held out as val" in said
    assert "val: 2 of 10 images of train.json are held out, because there is no val split" in said


@pytest.mark.parametrize("splits", [{"train": 2, "val": 2}, {"test": 2}, {"val": 2, "test": 2}])
def test_a_layout_with_val_or_without_train_stays_as_it_is(splits: dict[str, int], tmp_path: Path) -> None:
    layout = find_layout(write_blocks(tmp_path, splits))
    assert with_val(layout, 0) is layout


def test_one_image_makes_no_two_splits(tmp_path: Path) -> None:
    root = write_blocks(tmp_path, {"train": 1})
    layout = with_val(find_layout(root), 0)
    message = (
        f"{root / 'annotations' / 'train.json'} lists 1 image and there is no val split, two images or more are needed "
        "to make one of them; add images or a val split"
    )
    for split in layout.splits:
        with pytest.raises(DataError) as caught:
            read_split(layout, split)
        assert str(caught.value) == message


def test_bad_items_are_left_out_before_the_split(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "ImageSets" / "Main" / "val.txt").unlink()
    (root / "Annotations" / "b.xml").write_text("<annotation>")
    layout = with_val(find_layout(root), 0)
    train, val = (read_split(layout, split, skip_bad=True) for split in ("train", "val"))
    assert {image.file_name for image in (*train.images, *val.images)} == {"a.jpg", "c.jpg"}
    assert len(train.left_out) == 1
    assert train.left_out == val.left_out
    with pytest.raises(DataError):
        read_split(layout, "train")


def test_remarks_on_the_files_are_remarks_on_both_parts(tmp_path: Path) -> None:
    layout = find_layout(LAYOUTS["YOLO"][0](tmp_path))
    del layout.splits["val"]  # type: ignore[attr-defined]
    for split, count in (("train", 2), ("val", 1)):
        remarks = list(read_split(with_val(layout, 0), split).remarks.items())
        assert remarks[0] == ("images without a label file, taken as without objects (of both parts)", 1)
        assert remarks[1][1] == count


def test_any_layout_can_lack_val(tmp_path: Path) -> None:
    for number, (write, _) in enumerate(LAYOUTS.values()):
        root = tmp_path / str(number)
        path = write(root)
        layout = find_layout(path)
        del layout.splits["val"]  # type: ignore[attr-defined]
        made = with_val(layout, 0)
        assert [len(read_split(made, split).images) for split in ("train", "val")] == [len(SPLITS["train"]) - 1, 1]
