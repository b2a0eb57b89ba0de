import shutil
from pathlib import Path

import pytest
from PIL import Image
from six_layouts import OBJECTS, voc_xml, write_image, write_text, write_voc

from visionkit.errors import DataError
from visionkit.formats.boxes import OVERHANG_REMARK
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.voc import DIFFICULT_REMARK, FROM_ZERO_REMARK


def read(root: Path, split: str = "train", *, skip_bad: bool = False) -> AnnotatedImages:
    return read_split(find_layout(root), split, skip_bad=skip_bad)


def with_xml(root: Path, text: str) -> Path:
    """The dataset with other annotations of image `a`, of 100 x 80 pixels."""
    write_voc(root)
    write_text(root / "Annotations" / "a.xml", text)
    return root


def refusal(root: Path, split: str = "train") -> str:
    """What a refusal says, without the list's name and the advice, after checking that it is one line."""
    with pytest.raises(DataError) as caught:
        read(root, split)
    message = str(caught.value)
    assert "\n" not in message
    advice = " | --skip-bad leaves them out"
    assert message.startswith(f"{root / 'ImageSets' / 'Main' / split}.txt: ")
    assert message.endswith(advice)
    return message.removeprefix(f"{root / 'ImageSets' / 'Main' / split}.txt: ").removesuffix(advice)


def bndbox(*sides: str) -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    return "".join(f"<{tag}>{side}</{tag}>" for tag, side in zip(tags, sides, strict=True))


def annotation(*objects: str, size: str = "<size><width>100</width><height>80</height></size>") -> str:
    return f"<annotation>{size}{''.join(f'<object>{each}</object>' for each in objects)}</annotation>"


def cat(*sides: str, extra: str = "") -> str:
    return f"<name>cat</name>{extra}<bndbox>{bndbox(*sides)}</bndbox>"


# --- boxes and objects -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sides", "box"),
    [
        (("1", "1", "100", "80"), (0, 0, 100, 80)),  # the whole picture
        (("5", "6", "5", "6"), (4, 5, 1, 1)),  # one pixel
        (("10.5", "20", "20", "3e1"), (9.5, 19, 10.5, 11)),  # x = 10.5 - 1, width = 20 - 10.5 + 1
        ((" 2\n", "2", "3", "4"), (1, 1, 2, 3)),
    ],
)
def test_pixels_count_from_1_and_the_last_is_inside(
    sides: tuple[str, ...], box: tuple[float, ...], tmp_path: Path
) -> None:
    (found,) = read(with_xml(tmp_path, annotation(cat(*sides)))).images[0].annotations
    assert found.bbox == box
    assert found.area == box[2] * box[3]
    assert (found.iscrowd, found.segmentation) == (False, None)


def test_difficult_objects_become_crowd_regions_and_are_counted(tmp_path: Path) -> None:
    objects = [cat("1", "1", "9", "9", extra=f"<difficult>{d}</difficult>") for d in ("0", "1", "1", "")]
    data = read(with_xml(tmp_path, annotation(*objects)))
    assert [a.iscrowd for a in data.images[0].annotations] == [False, True, True, False]
    assert data.remarks == {DIFFICULT_REMARK: 2}


def test_odd_boxes_are_remarked(tmp_path: Path) -> None:
    objects = [cat("0", "1", "9", "9"), cat("1", "1", "102", "80")]
    data = read(with_xml(tmp_path, annotation(*objects)))
    assert data.images[0].annotations[0].bbox == (-1, 0, 10, 9)
    assert data.remarks == {FROM_ZERO_REMARK: 1, OVERHANG_REMARK: 1}


def test_parts_of_objects_are_not_objects(tmp_path: Path) -> None:
    part = f"<part><name>head</name><bndbox>{bndbox('2', '2', '3', '3')}</bndbox></part>"
    data = read(with_xml(tmp_path, annotation(f"<name>cat</name>{part}<bndbox>{bndbox('1', '1', '9', '9')}</bndbox>")))
    assert [a.bbox for a in data.images[0].annotations] == [(0, 0, 9, 9)]
    assert data.classes.names == ("cat", "dog")


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_a_missing_size_is_read_from_the_image(size: str, tmp_path: Path) -> None:
    data = read(with_xml(tmp_path, annotation(size=size)))
    assert (data.images[0].width, data.images[0].height) == (100, 80)
    assert data.remarks == {"images without width and height, read from the files": 1}


# --- the class table -------------------------------------------------------------------------------------------------


def test_classes_are_the_sorted_names_of_all_splits(tmp_path: Path) -> None:
    write_voc(tmp_path)
    write_text(tmp_path / "Annotations" / "v.xml", voc_xml("v", (("bird", (0, 0, 9, 9)),)))
    train, val = read(tmp_path), read(tmp_path, "val")
    assert train.classes == val.classes
    assert train.classes.to_json() == [{"id": 1, "name": "bird"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "dog"}]
    assert [a.category_id for a in val.images[0].annotations] == [1]


def test_a_dataset_without_objects_is_refused(tmp_path: Path) -> None:
    write_voc(tmp_path)
    for name in OBJECTS:
        write_text(tmp_path / "Annotations" / f"{name}.xml", voc_xml(name, ()))
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has no named object in any listed annotation file, at least one is needed; annotate one"
    )


# --- lists and years -------------------------------------------------------------------------------------------------


def test_several_years_are_one_dataset(tmp_path: Path) -> None:
    write_voc(tmp_path / "VOCdevkit" / "VOC2007")
    shutil.copytree(tmp_path / "VOCdevkit" / "VOC2007", tmp_path / "VOCdevkit" / "VOC2012")
    (tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main" / "val.txt").unlink()
    shutil.copytree(tmp_path / "VOCdevkit" / "VOC2007", tmp_path / "VOCdevkit" / "test")
    for root in (tmp_path, tmp_path / "VOCdevkit"):
        layout = find_layout(root)
        assert layout.describe() == "Pascal VOC layout: train, val of VOC2007, VOC2012"
        train, val = read_split(layout, "train"), read_split(layout, "val")
        assert [image.id for image in train.images] == [1, 2, 3, 4, 5, 6]
        assert [image.file_name for image in train.images] == ["a.jpg", "b.jpg", "c.jpg"] * 2
        assert train.images[0].path != train.images[3].path
        assert (train.source, len(val.images)) == (root, 1)


def test_without_a_train_list_trainval_is_it(tmp_path: Path) -> None:
    lists = write_voc(tmp_path) / "ImageSets" / "Main"
    (lists / "train.txt").rename(lists / "trainval.txt")
    (lists / "val.txt").rename(lists / "test.txt")
    layout = find_layout(tmp_path)
    assert layout.describe() == "Pascal VOC layout: train, test, train from trainval.txt"
    assert len(read_split(layout, "train").images) == 3


def test_trainval_is_not_train_where_it_would_hold_val(tmp_path: Path) -> None:
    lists = write_voc(tmp_path) / "ImageSets" / "Main"
    (lists / "train.txt").rename(lists / "trainval.txt")
    assert list(find_layout(tmp_path).splits) == ["val"]


def test_without_lists_every_annotated_image_is_train(tmp_path: Path) -> None:
    shutil.rmtree(write_voc(tmp_path) / "ImageSets")
    write_image(tmp_path / "JPEGImages" / "more", "a")
    (tmp_path / "JPEGImages" / "more" / "a.jpg").rename(tmp_path / "JPEGImages" / "z.jpg")
    layout = find_layout(tmp_path)
    assert layout.describe() == (
        "Pascal VOC layout: train, without lists in ImageSets/Main: every annotated image is train"
    )
    data = read_split(layout, "train")
    assert [image.file_name for image in data.images] == ["a.jpg", "b.jpg", "c.jpg", "v.jpg"]
    assert data.remarks == {"images without an annotation file, not read": 1}


def test_lists_may_have_suffixes_and_empty_lines_and_an_image_twice(tmp_path: Path) -> None:
    write_voc(tmp_path)
    write_text(tmp_path / "ImageSets" / "Main" / "train.txt", "\ufeffb.jpg\r\n\n a \nb\n")
    data = read(tmp_path)
    assert [image.file_name for image in data.images] == ["b.jpg", "a.jpg"]
    assert data.remarks == {"lines that name an image again, read once": 1}


def test_images_of_any_suffix_are_found(tmp_path: Path) -> None:
    write_voc(tmp_path)
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    Image.new("RGB", (100, 80)).save(tmp_path / "JPEGImages" / "a.PNG")
    assert read(tmp_path).images[0].file_name == "a.PNG"


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    file = write_voc(tmp_path) / "ImageSets" / "Main" / "val.txt"
    file.write_text("\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path, "val")
    assert str(caught.value) == f"{file} lists no images, at least one is needed; add them or name another dataset"


# --- errors ----------------------------------------------------------------------------------------------------------

BOX_RULE = "a bndbox must have finite numbers xmin, ymin, xmax, ymax within 1000000 px; correct or remove it"
SIZE_RULE = "width and height must be whole numbers of pixels; correct them"
NAME_RULE = "a list has one image name a line, without folders; correct it"
XML_RULE = "every listed image needs a sound file in Annotations; add or correct it, or remove the image from the list"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("<name>cat</name>", f"a.xml object 1 has no bndbox, {BOX_RULE}"),
        (cat("1", "", "9", "9"), f"a.xml object 1 has bndbox ['1', '', '9', '9'], {BOX_RULE}"),
        (cat("1", "nan", "9", "9"), f"a.xml object 1 has bndbox ['1', 'nan', '9', '9'], {BOX_RULE}"),
        (cat("1", "1", "9e99", "9"), f"a.xml object 1 has bndbox ['1', '1', '9e99', '9'], {BOX_RULE}"),
        (
            cat("5", "1", "4", "9"),  # 4 - 5 + 1 = 0 pixels wide
            "a.xml object 1 has bndbox ['5', '1', '4', '9'], width and height of a box must be 0.001 px or more; "
            "correct or remove it",
        ),
        (
            cat("101", "1", "110", "9"),
            "a.xml object 1 has bndbox ['101', '1', '110', '9'] outside its 100x80 pixels, a box must overlap its "
            "image; correct or remove it",
        ),
        (
            cat("1", "1", "9", "9", extra="<difficult>maybe</difficult>"),
            "a.xml object 1 has difficult 'maybe', difficult must be 0 or 1; correct it",
        ),
        (
            f"<name> </name><bndbox>{bndbox('1', '1', '9', '9')}</bndbox>",
            "a.xml object 1 has name '', every object needs a name on one line; add it or remove the object",
        ),
        (
            f"<name>c\nt</name><bndbox>{bndbox('1', '1', '9', '9')}</bndbox>",
            "a.xml object 1 has name 'c\\nt', every object needs a name on one line; add it or remove the object",
        ),
    ],
)
def test_an_object_in_error_is_named_or_left_out(item: str, message: str, tmp_path: Path) -> None:
    root = with_xml(tmp_path, annotation(item, cat("1", "1", "9", "9")))
    assert refusal(root) == message
    data = read(root, skip_bad=True)
    assert [a.bbox for a in data.images[0].annotations] == [(0, 0, 9, 9)]
    assert [a.id for a in data.images[0].annotations] == [2], "ids do not depend on what is left out"
    assert data.left_out == (f"{root / 'ImageSets' / 'Main' / 'train.txt'}: {message}",)


def test_several_objects_in_error_are_told_at_once(tmp_path: Path) -> None:
    root = with_xml(tmp_path, annotation(cat("x", "1", "9", "9"), cat("y", "1", "9", "9")))
    assert refusal(root) == f"a.xml object 1 has bndbox ['x', '1', '9', '9'] (and 1 more like it), {BOX_RULE}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not whole, valid XML (no element found: line 1, column 0); copy or export it again"),
        ("<annotation>", "is not whole, valid XML (no element found: line 1, column 12); copy or export it again"),
        ("<html/>", "holds <html>, VOC's files hold <annotation>; export it again"),
        (
            '<?xml version="1.0" encoding="klingon"?><annotation/>',
            "is not whole, valid XML (unknown encoding: klingon); copy or export it again",
        ),
        (
            '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]><annotation>&c;</annotation>',
            "is not whole, valid XML (it has a document type, which is not read); copy or export it again",
        ),
        (
            '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>',
            "is not whole, valid XML (it has a document type, which is not read); copy or export it again",
        ),
        (
            "<annotation>&c;</annotation>",
            "is not whole, valid XML (undefined entity: line 1, column 12); copy or export it again",
        ),
    ],
)
def test_an_annotation_file_in_error_is_named_or_left_out(text: str, problem: str, tmp_path: Path) -> None:
    root = with_xml(tmp_path, text)
    message = f"image 'a': {root / 'Annotations' / 'a.xml'} {problem}, {XML_RULE}"
    assert refusal(root) == message
    data = read(root, skip_bad=True)
    assert [(image.id, image.file_name) for image in data.images] == [(2, "b.jpg"), (3, "c.jpg")]
    assert data.left_out == (f"{root / 'ImageSets' / 'Main' / 'train.txt'}: {message}",)


def test_a_document_type_is_refused_in_every_encoding(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    bomb = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "ha">]><annotation>&b;</annotation>'
    (root / "Annotations" / "a.xml").write_bytes(bomb.encode("utf-16"))
    assert "it has a document type" in refusal(root)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("<width>abc</width><height>80</height>", "width 'abc' and height '80'"),
        ("<width>100</width><height>80.5</height>", "width '100' and height '80.5'"),
        ("<width>-100</width><height>80</height>", "width '-100' and height '80'"),
    ],
)
def test_a_size_in_error_is_refused(size: str, said: str, tmp_path: Path) -> None:
    root = with_xml(tmp_path, annotation(size=f"<size>{size}</size>"))
    assert refusal(root) == f"image 'a' has {said}, {SIZE_RULE}"
    assert len(read(root, skip_bad=True).images) == 2


def test_a_size_that_is_not_the_image_s_is_refused(tmp_path: Path) -> None:
    root = with_xml(tmp_path, annotation(size="<size><width>80</width><height>100</height></size>"))
    assert refusal(root).startswith("image 'a' is declared 80x100 and the upright picture is 100x80, ")


def test_missing_files_are_named_or_left_out(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "JPEGImages" / "a.jpg").unlink()
    (root / "Annotations" / "b.xml").unlink()
    assert refusal(root) == (
        "image 'a' has no file, every annotated image must lie in JPEGImages; add the file or remove the image | "
        f"image 'b': {root / 'Annotations' / 'b.xml'} does not exist, an annotation file is needed; check the path, "
        f"{XML_RULE}"
    )
    data = read(root, skip_bad=True)
    assert [image.file_name for image in data.images] == ["c.jpg"]
    assert len(data.left_out) == 2


def test_a_broken_image_is_named_or_left_out(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "JPEGImages" / "a.jpg").write_bytes(b"no image")
    assert refusal(root).startswith("image 'a' cannot be read (")
    assert len(read(root, skip_bad=True).images) == 2


@pytest.mark.parametrize("line", ["../a", "/etc/passwd", "more\\a", "C:a", "..", "a\0"])
def test_a_list_cannot_lead_out_of_the_dataset(line: str, tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    write_text(root / "ImageSets" / "Main" / "train.txt", f"a\n{line}\n")
    assert refusal(root) == f"line 2 of train.txt is {line!r}, {NAME_RULE}"
    data = read(root, skip_bad=True)
    assert [image.file_name for image in data.images] == ["a.jpg"]
    assert len(data.left_out) == 1


def test_where_all_is_in_error_nothing_is_read(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    write_text(root / "Annotations" / "v.xml", "<html/>")
    with pytest.raises(DataError) as caught:
        read(root, "val", skip_bad=True)
    assert "val.txt: no images would be left without those in error: image 'v': " in str(caught.value)
    write_text(root / "Annotations" / "v.xml", voc_xml("v", (("cat", (90, 90, 5, 5)),)))
    with pytest.raises(DataError) as caught:
        read(root, "val", skip_bad=True)
    assert "val.txt: no objects would be left without those in error: v.xml object 1 " in str(caught.value)


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = write_voc(tmp_path) / "ImageSets" / "Main" / "train.txt"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert str(caught.value) == f"{file} is not text in UTF-8, a list of image names is needed; convert it"
