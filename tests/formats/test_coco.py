import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from reference_data import reference_data

from visionkit.errors import DataError
from visionkit.formats.boxes import OVERHANG_REMARK
from visionkit.formats.coco import read_coco
from visionkit.formats.records import AnnotatedImages


def content() -> dict[str, Any]:
    """Two images of 100 x 80 pixels, a car on the first; nothing wrong."""
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 100, "height": 80},
            {"id": 2, "file_name": "b.png", "width": 100, "height": 80},
        ],
        "annotations": [
            {"id": 5, "image_id": 1, "category_id": 3, "bbox": [10, 20, 30.5, 40], "area": 900, "iscrowd": 0}
        ],
        "categories": [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}],
    }


def file_of(folder: Path, what: Any) -> Path:
    file = folder / "train.json"
    file.write_text(what if isinstance(what, str) else json.dumps(what), encoding="utf-8")
    return file


def read(folder: Path, what: Any) -> AnnotatedImages:
    """Read without images."""
    return read_coco(file_of(folder, what))


def changed(section: str, **values: Any) -> dict[str, Any]:
    """`content()` with keys of the first item of a section set, or removed where the value is `...`."""
    sound = content()
    item = sound[section][0]
    for key, value in values.items():
        if value is ...:
            del item[key]
        else:
            item[key] = value
    return sound


SKIP = " | --skip-bad leaves them out"


def refusal(call: Callable[[], object], file: Path) -> str:
    """What a refusal says of a file, without the file's name and the way around it, after checking that it is one line
    that names the file."""
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message.removeprefix(str(file)).lstrip(": ").removesuffix(SKIP)


def refused(folder: Path, what: Any, images_dir: Path | None = None) -> str:
    file = file_of(folder, what)
    return refusal(lambda: read_coco(file, images_dir), file)


@pytest.fixture
def images_dir(tmp_path: Path) -> Path:
    """A folder `images` with a.png and b.png of 100 x 80."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (100, 80)).save(folder / name)
    return folder


# --- what is read ----------------------------------------------------------------------------------------------------


def test_a_sound_file_is_read_as_it_is(tmp_path: Path, images_dir: Path) -> None:
    file = file_of(tmp_path, content())
    data = read_coco(file, images_dir)
    assert data.source == file
    assert not data.remarks
    first, second = data.images
    assert (first.id, first.file_name, first.path) == (1, "a.png", images_dir / "a.png")
    assert (first.width, first.height) == (100, 80)
    assert second.annotations == (), "an image without objects stays, as background"
    (car,) = first.annotations
    assert (car.id, car.category_id, car.bbox, car.area) == (5, 3, (10.0, 20.0, 30.5, 40.0), 900.0)
    assert (car.iscrowd, car.segmentation) == (False, None)


def test_labels_follow_ascending_category_ids_and_unused_categories_stay(tmp_path: Path) -> None:
    classes = read(tmp_path, content()).classes
    assert (classes.category_ids, classes.names) == ((3, 17), ("car", "cat"))


@pytest.mark.parametrize("category_id", [0, -1, 90])
def test_any_whole_number_is_a_category_id(tmp_path: Path, category_id: int) -> None:
    what = changed("annotations", category_id=category_id)
    what["categories"][1]["id"] = category_id
    assert read(tmp_path, what).images[0].annotations[0].category_id == category_id


def test_without_images_sizes_may_be_missing(tmp_path: Path) -> None:
    image = read(tmp_path, changed("images", width=..., height=...)).images[0]
    assert (image.width, image.height, image.path) == (0, 0, None)


def test_file_names_may_be_written_from_the_dataset_folder(tmp_path: Path, images_dir: Path) -> None:
    file = file_of(tmp_path, changed("images", file_name="images/a.png"))
    assert read_coco(file, images_dir).images[0].path == tmp_path / "images" / "a.png"


def test_polygons_and_both_kinds_of_rle_are_kept(tmp_path: Path) -> None:
    polygon = [[10, 20, 40, 20, 40, 60]]
    runs = {"size": [80, 100], "counts": [800, 80, 7120]}  # 800 + 80 + 7120 = 8000 = 80 x 100
    packed = coco_mask.frPyObjects(runs, 80, 100)
    compressed = {"size": [80, 100], "counts": packed["counts"].decode()}
    for segmentation in (polygon, runs, compressed):
        what = changed("annotations", segmentation=segmentation)
        assert read(tmp_path, what).images[0].annotations[0].segmentation == segmentation


# --- what is repaired and counted ------------------------------------------------------------------------------------


def test_missing_iscrowd_is_0(tmp_path: Path) -> None:
    for value in (..., None):
        data = read(tmp_path, changed("annotations", iscrowd=value))
        assert data.images[0].annotations[0].iscrowd is False
        assert data.remarks == {"annotations without iscrowd, taken as 0": 1}


@pytest.mark.parametrize(
    ("segmentation", "area"),
    [
        ([], 30.5 * 40),  # no mask: the box
        ([[10, 20, 40, 20, 40, 60]], 30 * 40 / 2),  # a right-angled triangle
        ([[0, 0, 2, 0, 2, 2, 0, 2], [10, 10, 10, 11, 11, 11, 11, 10]], 4 + 1),  # two squares, turned either way
        ({"size": [80, 100], "counts": [800, 80, 7000, 20, 100]}, 80 + 20),  # every other run is inside
    ],
)
def test_missing_area_is_that_of_the_mask_or_else_the_box(tmp_path: Path, segmentation: Any, area: float) -> None:
    data = read(tmp_path, changed("annotations", area=..., segmentation=segmentation))
    assert data.images[0].annotations[0].area == area
    assert data.remarks == {"annotations without area, taken from mask or box": 1}


def test_missing_sizes_come_from_the_files(tmp_path: Path, images_dir: Path) -> None:
    data = read_coco(file_of(tmp_path, changed("images", width=..., height=None)), images_dir)
    assert (data.images[0].width, data.images[0].height) == (100, 80)
    assert data.remarks == {"images without width and height, read from the files": 1}


def test_boxes_over_the_edge_are_counted_and_stay(tmp_path: Path, images_dir: Path) -> None:
    data = read_coco(file_of(tmp_path, changed("annotations", bbox=[-5, 60, 30, 30])), images_dir)
    assert data.images[0].annotations[0].bbox == (-5, 60, 30, 30)
    assert data.remarks == {OVERHANG_REMARK: 1}


def test_boxes_over_the_edge_by_a_rounding_stay_as_they_are(tmp_path: Path, images_dir: Path) -> None:
    data = read_coco(file_of(tmp_path, changed("annotations", bbox=[-0.4, 60, 30, 20.1])), images_dir)
    assert data.images[0].annotations[0].bbox == (-0.4, 60, 30, 20.1)
    assert not data.remarks


def test_for_judging_predictions_boxes_stay_as_pycocotools_sees_them(tmp_path: Path) -> None:
    data = read(tmp_path, changed("annotations", bbox=[-5, 60, 30, 30]))
    assert data.images[0].annotations[0].bbox == (-5, 60, 30, 30)


@pytest.mark.parametrize(
    ("segmentation", "kept", "left_out"),
    [
        ([[]], None, 1),
        ([[10, 10, 50, 50]], None, 1),
        ([[10, 10, 50, 50], [0, 0, 9, 0, 9, 9]], [[0, 0, 9, 0, 9, 9]], 1),
        ([], None, 0),
        ({}, None, 0),
        (None, None, 0),
    ],
)
def test_polygons_that_enclose_nothing_are_left_out(
    tmp_path: Path, segmentation: Any, kept: Any, left_out: int
) -> None:
    data = read(tmp_path, changed("annotations", segmentation=segmentation))
    assert data.images[0].annotations[0].segmentation == kept
    assert data.remarks["polygons of fewer than three points left out"] == left_out


def test_two_images_of_one_file_are_remarked(tmp_path: Path, images_dir: Path) -> None:
    data = read_coco(file_of(tmp_path, changed("images", file_name="b.png")), images_dir)
    assert data.remarks == {"images that name the same file as another": 1}


# --- what is refused -------------------------------------------------------------------------------------------------

ID = "every id must be there and be a whole number; add or renumber it"
BOX = "a bbox must be four finite numbers x, y, width, height within 1000000 px; correct or remove it"
BOX_SIZE = "width and height of a box must be 0.001 px or more; correct or remove it"
FILE_NAME = "every image needs a file_name; add it or remove the image"
SIZE = "width and height must be whole numbers of pixels, 1 or more; correct them"
NAME = "every category needs a name of its own; name or merge them"
AREA = "an area must be a finite number of pixels, not negative; correct or leave it out"
POLYGON = (
    "polygons must be lists of finite x, y pairs within 1000000 px, with outlines of at most 4000000 px; "
    "correct or leave out the segmentation"
)
RLE = (
    'an RLE must be {"size": [height, width], "counts": runs} with runs that add up to height x width; '
    "correct or leave out the segmentation"
)
NAN = float("nan")
OF = "annotation 5 of image 1 has"


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("annotations", {"id": ...}, f"annotations[0] has no id, {ID}"),
        ("annotations", {"id": "5"}, f"annotations[0] has id '5', {ID}"),
        ("annotations", {"id": True}, f"annotations[0] has id True, {ID}"),
        ("annotations", {"id": 2**63}, f"annotations[0] has id 9223372036854775808, {ID}"),
        ("annotations", {"image_id": ...}, f"annotation 5 has no image_id, {ID}"),
        ("annotations", {"image_id": [1]}, f"annotation 5 has image_id [1], {ID}"),
        (
            "annotations",
            {"image_id": 9},
            "annotation 5 has the unlisted image_id 9, annotations must belong to a listed image; "
            "list the image or remove them",
        ),
        ("annotations", {"category_id": 1.0}, f"annotation 5 has category_id 1.0, {ID}"),
        (
            "annotations",
            {"category_id": 9},
            "annotation 5 has the unlisted category_id 9, annotations must be of a listed category; "
            "list the category or remove them",
        ),
        ("annotations", {"bbox": ...}, f"{OF} no bbox, {BOX}"),
        ("annotations", {"bbox": None}, f"{OF} bbox None, {BOX}"),
        ("annotations", {"bbox": [1, 2, 3]}, f"{OF} bbox [1, 2, 3], {BOX}"),
        ("annotations", {"bbox": [1, 2, 3, NAN]}, f"{OF} bbox [1, 2, 3, nan], {BOX}"),
        ("annotations", {"bbox": [1, 2, "3", 4]}, f"{OF} bbox [1, 2, '3', 4], {BOX}"),
        ("annotations", {"bbox": [0, 0, 1e9, 1]}, f"{OF} bbox [0, 0, 1000000000.0, 1], {BOX}"),
        ("annotations", {"bbox": [9, 9, -4, -4]}, f"{OF} bbox [9, 9, -4, -4], {BOX_SIZE}"),
        ("annotations", {"bbox": [9, 9, 0, 4]}, f"{OF} bbox [9, 9, 0, 4], {BOX_SIZE}"),
        ("annotations", {"bbox": [9, 9, 4, 1e-200]}, f"{OF} bbox [9, 9, 4, 1e-200], {BOX_SIZE}"),
        (
            "annotations",
            {"bbox": [-5, 9, 5.0001, 4]},  # 0.0001 px of it are inside
            "annotation 5 of image 1 has bbox [-5, 9, 5.0001, 4] outside its 100x80 pixels, "
            "a box must overlap its image; correct or remove it",
        ),
        (
            "annotations",
            {"bbox": [100, 0, 5, 5]},  # begins where the image ends
            "annotation 5 of image 1 has bbox [100, 0, 5, 5] outside its 100x80 pixels, "
            "a box must overlap its image; correct or remove it",
        ),
        (
            "annotations",
            {"iscrowd": 2},
            "annotation 5 of image 1 has iscrowd 2, iscrowd must be 0 or 1; correct it",
        ),
        ("annotations", {"area": -1}, f"{OF} area -1, {AREA}"),
        ("annotations", {"area": NAN}, f"{OF} area nan, {AREA}"),
        ("annotations", {"area": "9"}, f"{OF} area '9', {AREA}"),
        ("annotations", {"segmentation": [[1, 2, 3]]}, f"{OF} segmentation [[1, 2, 3]], {POLYGON}"),
        (
            "annotations",
            {"segmentation": [[1, 2, NAN, 4, 5, 6]]},  # pycocotools crashes on it
            f"{OF} segmentation [[1, 2, nan, 4, 5, 6]], {POLYGON}",
        ),
        (
            "annotations",
            {"segmentation": [[1, 2, 3, 4, 5, 1e9]]},  # and on this
            f"{OF} segmentation [[1, 2, 3, 4, 5, 1000000000.0]], {POLYGON}",
        ),
        ("annotations", {"segmentation": [["a", 1]]}, f"{OF} segmentation [['a', 1]], {POLYGON}"),
        ("annotations", {"segmentation": "x"}, f"{OF} segmentation 'x', {POLYGON}"),
        (
            "annotations",
            {"segmentation": {"size": [80, 100], "counts": [8, 8]}},  # 16 of 8000 pixels
            f"{OF} segmentation {{'size': [80, 100], 'counts': [8, 8]}}, {RLE}",
        ),
        (
            "annotations",
            {"segmentation": {"size": [80, 100], "counts": "04"}},
            f"{OF} segmentation {{'size': [80, 100], 'counts': '04'}}, {RLE}",
        ),
        ("annotations", {"segmentation": {"counts": [8000]}}, f"{OF} segmentation {{'counts': [8000]}}, {RLE}"),
        (
            "annotations",
            {"segmentation": {"size": [100, 80], "counts": [8000]}},
            "annotation 5 of image 1 has segmentation {'size': [100, 80], 'counts': [8000]}, the size of an RLE must "
            "be height and width of its image; make masks in pixels of the image",
        ),
        ("images", {"id": None}, f"images[0] has id None, {ID}"),
        ("images", {"file_name": ...}, f"image 1 has no file_name, {FILE_NAME}"),
        ("images", {"file_name": ""}, f"image 1 has file_name '', {FILE_NAME}"),
        ("images", {"width": 0}, f"image 1 has width 0 and has height 80, {SIZE}"),
        ("images", {"height": ...}, f"image 1 has width 100 and has no height, {SIZE}"),
        ("images", {"width": "100"}, f"image 1 has width '100' and has height 80, {SIZE}"),
        ("categories", {"id": "17"}, f"categories[0] has id '17', {ID}"),
        ("categories", {"name": ...}, f"category 17 has no name, {NAME}"),
        (
            "images",
            {"width": 10**6, "height": 10**6},
            "image 1 has width 1000000 and has height 1000000, an image may have at most 4294967295 pixels, so that "
            "masks can be counted; correct its size",
        ),
        (
            "categories",
            {"name": "\ud800"},
            "category 17 has name '\\ud800', the name of a category must be one line of text without control "
            "characters; correct it",
        ),
        ("categories", {"name": " "}, f"category 17 has name ' ', {NAME}"),
    ],
)
def test_an_error_is_told_with_item_rule_and_remedy(
    tmp_path: Path, section: str, values: dict[str, Any], message: str
) -> None:
    # An image without an id is missed by its annotation too, which the message tells after a bar.
    assert refused(tmp_path, changed(section, **values)).split(" | ")[0] == message


@pytest.mark.parametrize(
    ("section", "fact"),
    [
        ("images", "images[2] has image id 1 again"),
        ("annotations", "annotations[1] has annotation id 5 again"),
        ("categories", "categories[2] has category id 17 again"),
    ],
)
def test_an_id_may_occur_once(tmp_path: Path, section: str, fact: str) -> None:
    what = content()
    what[section].append(what[section][0])
    assert refused(tmp_path, what) == f"{fact}, an id must occur once in its list; renumber or remove one"


def test_a_category_name_may_occur_once(tmp_path: Path) -> None:
    assert refused(tmp_path, changed("categories", name="car")) == f"category 3 has name 'car', {NAME}"


@pytest.mark.parametrize("section", ["images", "annotations", "categories"])
def test_items_must_be_objects(tmp_path: Path, section: str) -> None:
    what = content()
    what[section].append(7)
    message = refused(tmp_path, what)
    assert (
        message == f"{section}[{len(what[section]) - 1}] is 7, every item must be a JSON object; correct or remove it"
    )


def test_problems_of_a_kind_are_counted_and_further_kinds_too(tmp_path: Path) -> None:
    what = content()
    sound = what["annotations"][0]
    broken = ({"bbox": [0, 0, 0, 5]}, {"bbox": None}, {"iscrowd": 7}, {"area": -1}, {"category_id": 4})
    for number, values in enumerate(broken * 2):
        what["annotations"].append({**sound, "id": 10 + number, **values})
    # Five kinds, each twice: three are told, 2 x 2 problems are left.
    assert refused(tmp_path, what) == (
        f"annotation 10 of image 1 has bbox [0, 0, 0, 5] (and 1 more like it), {BOX_SIZE}"
        f" | annotation 11 of image 1 has bbox None (and 1 more like it), {BOX}"
        " | annotation 12 of image 1 has iscrowd 7 (and 1 more like it), iscrowd must be 0 or 1; correct it"
        " | and 4 further problems"
    )


def test_values_in_messages_are_short_and_on_one_line(tmp_path: Path) -> None:
    message = refused(tmp_path, changed("annotations", iscrowd="\n\x1b[31m" + "x" * 500))
    assert message.startswith("annotation 5 of image 1 has iscrowd '\\n\\x1b[31mxxx")
    assert len(message) < 160


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, a JSON file is needed; copy or export it again"),
        (
            '{"images": [',
            "is not whole, valid JSON (Expecting value: line 1 column 13 (char 12)); copy or export it again",
        ),
        ("[" * 100_000, "is nested too deeply to be an annotation file; name another file"),
        (
            "[]",
            "holds a JSON list, COCO annotations are an object with images, annotations and categories; "
            "name the annotation file",
        ),
        ("{}", "has no images, COCO annotations need lists of images, annotations, categories; add the list"),
        (
            '{"images": null}',
            "has null for images, COCO annotations need lists of images, annotations, categories; add the list",
        ),
        (
            '{"images": [], "annotations": [], "categories": []}',
            "lists no images, at least one is needed; add them or name another file",
        ),
        (
            '{"images": [1], "annotations": [], "categories": []}',
            "lists no categories, at least one is needed; add them or name another file",
        ),
    ],
)
def test_a_file_that_is_not_coco_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert refused(tmp_path, text) == message


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.json"
    file.write_bytes(b'{"images": "\xff\xfe"}')
    assert refusal(lambda: read_coco(file), file).startswith("is not whole, valid JSON ('utf-8' codec can't decode")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(lambda: read_coco(tmp_path), tmp_path) == (
        "is not a regular file, a JSON file is needed; check the path"
    )
    file = tmp_path / "none.json"
    assert refusal(lambda: read_coco(file), file) == "does not exist, a JSON file is needed; check the path"


# --- what is refused of the images -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../secret.png", "/etc/hostname", "images/../../x.png", "..\\x.png", "C:\\x.png", "a\0b"]
)
def test_file_names_must_not_climb_out_of_the_dataset(tmp_path: Path, images_dir: Path, name: str) -> None:
    assert refused(tmp_path, changed("images", file_name=name), images_dir) == (
        f"image 1 has file_name {name!r}, a file_name must stay inside the folder of the images; correct it"
    )


@pytest.mark.parametrize("name", ["c.png", "A.PNG.png", "x" * 300, "\ud800.png"])
def test_missing_files_are_refused(tmp_path: Path, images_dir: Path, name: str) -> None:
    message = refused(tmp_path, changed("images", file_name=name), images_dir)
    assert message.startswith("image 1 names '")
    assert message.endswith(
        f", which does not exist, every image must lie in {images_dir}; add the file or remove the image"
    )


def test_files_that_are_no_images_are_refused(tmp_path: Path, images_dir: Path) -> None:
    (images_dir / "a.png").write_bytes(b"")
    assert refused(tmp_path, content(), images_dir) == (
        f"image 1 ('a.png') cannot be read ({images_dir / 'a.png'} is empty (0 bytes), an image is needed; "
        "copy or export it again), every image must be readable; replace the file or remove the image"
    )


UPRIGHT = "annotations must be made for the upright picture at its own size; correct the size, and the boxes with it"


def test_a_size_that_is_not_the_files_is_refused(tmp_path: Path, images_dir: Path) -> None:
    assert refused(tmp_path, changed("images", width=80, height=100), images_dir) == (
        f"image 1 ('a.png') is declared 80x100 and the upright picture is 100x80, {UPRIGHT}"
    )


def test_the_size_is_that_of_the_picture_turned_upright(tmp_path: Path, images_dir: Path) -> None:
    turned, buffer = Image.Exif(), BytesIO()
    turned[0x0112] = 6  # a quarter turn: stored 80 x 100, upright 100 x 80
    Image.new("RGB", (80, 100)).save(buffer, "JPEG", exif=turned)
    (images_dir / "a.png").write_bytes(buffer.getvalue())
    assert read_coco(file_of(tmp_path, content()), images_dir).images[0].width == 100
    assert refused(tmp_path, changed("images", width=80, height=100), images_dir) == (
        f"image 1 ('a.png') is declared 80x100 and the upright picture is 100x80, {UPRIGHT}"
    )


# --- the reference datasets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "images", "objects"),
    [
        ("blood-cells/annotations/train", 205, 2804),
        ("blood-cells/annotations/val", 87, 1137),
        ("blood-cells/annotations/test", 72, 945),
        ("blood-cells/annotations_raw/test", 72, 945),
        ("balloons/annotations/train", 61, 255),
        ("balloons/annotations/val", 13, 50),
        ("general-photos/annotations/val", 1149, 4234),
        ("general-photos/annotations/coco80_val", 469, 4267),
        ("general-photos/annotations/coco80seg_val", 84, 720),
    ],
)
def test_reference_datasets_are_read_whole_and_unchanged(name: str, images: int, objects: int) -> None:
    dataset = reference_data(name.split("/", maxsplit=1)[0])
    file = dataset.parent / f"{name}.json"
    data = read_coco(file, dataset / "images")
    assert (len(data.images), data.object_count, data.remarks) == (images, objects, {})
    in_file = {row["id"]: row for row in json.loads(file.read_text())["annotations"]}
    for annotation in (a for image in data.images for a in image.annotations):
        assert list(annotation.bbox) == in_file[annotation.id]["bbox"]
        assert annotation.area == in_file[annotation.id]["area"]


@pytest.mark.parametrize(("split", "annotation", "image"), [("train", 2288, 171), ("val", 3692, 274)])
def test_the_broken_boxes_of_the_raw_blood_cells_are_found(split: str, annotation: int, image: int) -> None:
    dataset = reference_data("blood-cells")
    with pytest.raises(DataError, match=rf"annotation {annotation} of image {image} has bbox .*, 0\.0, 0\.0\], "):
        read_coco(dataset / "annotations_raw" / f"{split}.json", dataset / "images")


def test_an_image_whose_every_annotation_is_in_error_is_left_out_and_does_not_become_background(tmp_path: Path) -> None:
    data = content()
    data["annotations"] += [
        {"id": 6, "image_id": 2, "category_id": 3, "bbox": [10, 20, -5, 40]},
        {"id": 7, "image_id": 1, "category_id": 3, "bbox": [10, 20, -5, 40]},
    ]
    data["images"].append({"id": 3, "file_name": "c.png", "width": 100, "height": 80})
    file = file_of(tmp_path, data)
    read_in = read_coco(file, skip_bad=True)
    # Image 1 has another object, and 3 never had one.
    assert [(image.id, len(image.annotations)) for image in read_in.images] == [(1, 1), (3, 0)]
    assert len(read_in.left_out) == 3
    assert read_in.left_out[-1] == f"{file}: image 2 has no sound annotation left and goes with them"
