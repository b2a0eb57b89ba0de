import json
from pathlib import Path

import pytest
from PIL import Image
from reference_data import reference_data
from six_layouts import CLASSES, LAYOUTS, OBJECTS, SIZES, SPLITS

from visionkit.classes import ClassTable
from visionkit.errors import DataError, UsageError
from visionkit.formats.coco_layouts import CocoSplit
from visionkit.formats.layout import check_same_classes, find_layout, read_split
from visionkit.formats.records import AnnotatedImages, ImageRecord


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
    assert layout.splits["val"] == CocoSplit(tmp_path / "annotations" / "val.json", tmp_path / "images")
    assert layout.describe() == "COCO layout: train.json, val.json over images/"


def boxes_of(image: ImageRecord, classes: ClassTable) -> list[tuple[str, tuple[float, ...]]]:
    """(class name, x y w h in whole pixels, after a look that they are whole to 1e-3) of each object."""
    for annotation in image.annotations:
        assert annotation.area == pytest.approx(annotation.bbox[2] * annotation.bbox[3])
        assert annotation.bbox == pytest.approx([round(side) for side in annotation.bbox], abs=1e-3)
        assert not annotation.iscrowd
    names = dict(zip(classes.category_ids, classes.names, strict=True))
    return [(names[a.category_id], tuple(round(side) for side in a.bbox)) for a in image.annotations]


@pytest.mark.parametrize("layout_name", LAYOUTS)
def test_the_same_dataset_is_the_same_in_every_layout(layout_name: str, tmp_path: Path) -> None:
    write, words = LAYOUTS[layout_name]
    layout = find_layout(write(tmp_path))
    assert layout.describe() == words
    assert layout.root == tmp_path
    assert find_layout(layout.path) == layout
    assert list(layout.splits) == list(SPLITS)
    for split, names in SPLITS.items():
        data = read_split(layout, split)
        assert data.classes.names == CLASSES
        assert data.classes.category_ids == ((0, 1) if layout_name == "YOLO" else (1, 2)), "YOLO's own, 0 included"
        assert [image.id for image in data.images] == list(range(1, len(names) + 1))
        for name, image in zip(names, data.images, strict=True):
            assert (Path(image.file_name).name, (image.width, image.height)) == (f"{name}.jpg", SIZES[name])
            assert image.path is not None
            assert image.path.is_file()
            assert boxes_of(image, data.classes) == list(OBJECTS[name])
        assert [a.id for image in data.images for a in image.annotations] == list(range(1, data.object_count + 1))
        yolo_remarks = {"images without a label file, taken as without objects": 1} if split == "train" else {}
        assert data.remarks == (yolo_remarks if layout_name == "YOLO" else {})
        assert data.left_out == ()


@pytest.mark.parametrize("layout_name", LAYOUTS)
def test_the_content_of_a_split_follows_its_files(layout_name: str, tmp_path: Path) -> None:
    layout = find_layout(LAYOUTS[layout_name][0](tmp_path))
    before = {split: b"".join(files.content()) for split, files in layout.splits.items()}
    assert before == {split: b"".join(files.content()) for split, files in layout.splits.items()}
    assert before["train"] != before["val"]
    # The file that has the objects of image `a`, and so one of train and none of val.
    file = next(p for p in tmp_path.rglob("*") if p.suffix in (".json", ".xml", ".txt") and is_of_image_a(p))
    file.write_text(file.read_text() + " ")
    after = {split: b"".join(files.content()) for split, files in layout.splits.items()}
    assert (before["train"] == after["train"], before["val"] == after["val"]) == (False, True)


def is_of_image_a(file: Path) -> bool:
    return file.stem == "a" or '"file_name": "a.jpg"' in file.read_text()


def test_a_split_is_read_with_its_images(tmp_path: Path) -> None:
    data = read_split(find_layout(dataset(tmp_path, "train")), "train")
    assert data.source == tmp_path / "annotations" / "train.json"
    assert (data.images[0].path, data.images[0].width) == (tmp_path / "images" / "a.png", 4)


def test_a_split_that_is_not_there_is_refused_with_the_choices(tmp_path: Path) -> None:
    layout = find_layout(dataset(tmp_path, "train", "test"))
    with pytest.raises(UsageError) as caught:
        read_split(layout, "val")
    assert str(caught.value) == f"{tmp_path} has no split 'val'; choose one of train, test"


LOOKED_FOR = (
    "has no dataset layout that is known: looked for COCO (images/ and annotations/{train,val,test}.json); "
    "COCO 2017 (annotations/instances_{train,val}2017.json and train2017/, val2017/); "
    "Roboflow COCO (train/_annotations.coco.json, valid/, test/); Pascal VOC (JPEGImages/ and Annotations/); "
    "YOLO or explicit paths (data.yaml); "
    "CVAT for images (annotations.xml, or train/annotations.xml, val/annotations.xml); "
    "LabelMe (a JSON file beside each image, in train/, val/, test/ or the folder itself); "
    "masks (images/{train,val,test}/, masks/{train,val,test}/ and classes.json); "
    "Pascal VOC masks (JPEGImages/ and SegmentationClass/); a folder per class (train/CLASS/, val/CLASS/)"
)


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
    assert str(caught.value) == f"{tmp_path} {LOOKED_FOR}; found {found}; rename the files or name another folder"


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    remedy = "a dataset is a folder or a YAML file; name the folder that holds images/ and annotations/"
    with pytest.raises(DataError) as caught:
        find_layout(tmp_path / "none")
    assert str(caught.value) == f"{tmp_path / 'none'} does not exist, {remedy}"
    (tmp_path / "file").touch()
    with pytest.raises(DataError) as caught:
        find_layout(tmp_path / "file")
    assert str(caught.value) == f"{tmp_path / 'file'} is a file, {remedy}"


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(DataError, match="does not exist, a dataset is a folder or a YAML file"):
        find_layout(Path("x" * 300))


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


def test_the_images_of_coco_2017_may_lie_below_images_and_a_split_without_them_is_none(tmp_path: Path) -> None:
    root = LAYOUTS["COCO 2017"][0](tmp_path)
    (root / "images").mkdir()
    (root / "val2017").rename(root / "images" / "val2017")
    (root / "train2017").rename(root / "elsewhere")
    layout = find_layout(root)
    assert (
        layout.describe() == "COCO 2017 layout: instances_val2017.json over images/val2017/ (train2017/ is not there)"
    )
    assert len(read_split(layout, "val").images) == 1


def test_coco_2014_is_laid_out_alike(tmp_path: Path) -> None:
    root = LAYOUTS["COCO 2017"][0](tmp_path)
    for path in [*root.rglob("*2017*")]:
        path.rename(path.with_name(path.name.replace("2017", "2014")))
    assert find_layout(root).describe() == (
        "COCO 2014 layout: instances_train2014.json, instances_val2014.json over train2014/, val2014/"
    )


def test_a_folder_with_two_layouts_is_read_by_the_first(tmp_path: Path) -> None:
    LAYOUTS["YOLO"][0](tmp_path)
    assert find_layout(LAYOUTS["plain COCO"][0](tmp_path)).describe().startswith("COCO layout")


def test_yolo_folders_without_data_yaml_say_what_is_missing(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder / "train").mkdir(parents=True)
    with pytest.raises(DataError) as error:
        find_layout(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} looks like YOLO txt but has no data.yaml, which names the classes; write one with names: and "
        "train: and val:, the folders of images"
    )
