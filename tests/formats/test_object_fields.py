"""What VOC, CVAT and LabelMe say of objects beside class and shape: kept by the same format and COCO, or counted."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from six_layouts import voc_xml, write_image, write_text

import visionkit
from visionkit.formats.kept_ids import FILE
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.object_fields import SHAPES_DIFFER_REMARK
from visionkit.formats.records import Annotation

PART = "<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
SAID = {
    "voc": {
        "pose": "Left",
        "truncated": 1,
        "occluded": 1,
        "part": [
            {"name": "head", "bndbox": {"xmin": 2, "ymin": 2, "xmax": 9, "ymax": 9}},
            {"name": "foot", "bndbox": {"xmin": 2, "ymin": 2, "xmax": 9, "ymax": 9}},
        ],
        "note": "a <b> & c",
    },
    "cvat": {"source": "auto", "occluded": 1, "z_order": -2, "attributes": {"colour": "red", "old": "01"}},
    "labelme": {"description": "by the sea", "flags": {"blurred": True, "wet": False}, "score": 0.5},
}
SQUARE = "10,10;20,10;20,20;10,20"


def write_voc(root: Path) -> Path:
    """Two cats and a dog in image a, of which the first has fields and the last says what VOC's default is; image b."""
    for name in "ab":
        write_image(root / "JPEGImages", name)
    write_text(root / "Annotations/b.xml", voc_xml("b"))
    fields = (
        "<pose>Left</pose><truncated>1</truncated><occluded>1</occluded><note>a &lt;b&gt; &amp; c</note>"
        f"{PART}{PART.replace('head', 'foot')}"
    )
    defaults = "<pose>Unspecified</pose><truncated>0</truncated><occluded>0</occluded><view/>"
    box = (10, 10, 10, 10)
    one, two, three = (
        voc_xml("a", ((name, box),), extra)
        for name, extra in (("cat", fields), ("cat", "<difficult>1</difficult>"), ("dog", defaults))
    )
    objects = "".join(xml[xml.index("<object>") : xml.index("</annotation>")] for xml in (two, three))
    write_text(root / "Annotations/a.xml", one.replace("</annotation>", f"{objects}</annotation>"))
    return root


def write_cvat(root: Path) -> Path:
    """As `write_voc`; the first cat has two polygons."""
    for name in "ab":
        write_image(root / "images", name)
    attributes = '<attribute name="colour">red</attribute><attribute name="old">01</attribute>'
    said = 'label="cat" source="auto" occluded="1" z_order="-2" group_id="1"'
    crowd = '<attribute name="is_crowd">true</attribute>'
    shapes = (
        f'<polygon {said} points="{SQUARE}">{attributes}</polygon>'
        f'<polygon {said} points="30,10;40,10;40,20">{attributes}</polygon>'
        f'<box label="cat" xtl="1" ytl="1" xbr="9" ybr="9">{crowd}</box>'
        '<box label="dog" source="manual" occluded="0" z_order="0" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    )
    images = f'<image id="0" name="a.jpg">{shapes}</image><image id="1" name="b.jpg"/>'
    write_text(root / "annotations.xml", f"<annotations>{images}</annotations>")
    return root


def write_labelme(root: Path) -> Path:
    """As `write_cvat`."""
    for name in "ab":
        write_image(root, name)
        write_text(root / f"{name}.json", json.dumps({"shapes": []}))
    rectangle = {"shape_type": "rectangle", "points": [[1, 1], [9, 9]]}
    polygon = {"label": "cat", "shape_type": "polygon", "group_id": 1, **SAID["labelme"]}
    shapes = [
        {**polygon, "points": [[10, 10], [20, 10], [20, 20], [10, 20]]},
        {**polygon, "points": [[30, 10], [40, 10], [40, 20]]},
        {"label": "cat", "flags": {"iscrowd": True}, **rectangle},
        {"label": "dog", "flags": {}, "description": "", "group_id": None, "mask": None, **rectangle},
    ]
    write_text(root / "a.json", json.dumps({"shapes": shapes}))
    return root


WRITERS = {"voc": write_voc, "cvat": write_cvat, "labelme": write_labelme}


def objects(root: Path) -> tuple[Annotation, ...]:
    """Those of image a, in whatever split it is."""
    layout = find_layout(root)
    images = [image for split in layout.splits for image in read_split(layout, split).images]
    (objects,) = (image.annotations for image in images if image.annotations)
    return objects


def extras(root: Path) -> list[Any]:
    return [annotation.extra for annotation in objects(root)]


@pytest.mark.parametrize("name", WRITERS)
def test_split_keeps_what_files_say_of_objects(name: str, tmp_path: Path) -> None:
    data = WRITERS[name](tmp_path / "data")
    assert extras(data) == [{name: SAID[name]}, None, None], "defaults are no fields"
    written = visionkit.split(data, tmp_path / "out", val=0.5)
    assert written.format == name
    assert written.not_held == {}
    (tmp_path / "out" / FILE).unlink()
    assert extras(tmp_path / "out") == [{name: SAID[name]}, None, None], "by the format's own files alone"
    assert objects(tmp_path / "out") == objects(data)


def test_voc_says_it_in_its_own_words(tmp_path: Path) -> None:
    visionkit.convert(write_voc(tmp_path / "data"), tmp_path / "out", to="voc")
    one, two, three = ElementTree.parse(tmp_path / "out/Annotations/a.xml").findall("object")
    tags = ("pose", "truncated", "occluded", "difficult")
    assert [one.findtext(tag) for tag in tags] == ["Left", "1", "1", "0"]
    assert [part.findtext("bndbox/xmax") for part in one.findall("part")] == ["9", "9"]
    assert [two.findtext(tag) for tag in tags] == ["Unspecified", "0", "0", "1"]
    assert [three.findtext(tag) for tag in tags] == ["Unspecified", "0", "0", "0"]


def test_cvat_declares_the_attributes_that_objects_have(tmp_path: Path) -> None:
    visionkit.convert(write_cvat(tmp_path / "data"), tmp_path / "out", to="cvat")
    root = ElementTree.parse(tmp_path / "out/train/annotations.xml").getroot()
    for label in root.iter("label"):
        assert [spec.findtext("name") for spec in label.iter("attribute")] == ["is_crowd", "colour", "old"]
    shapes = [*root.iter("polygon"), *root.iter("box")]
    assert [shape.get("occluded") for shape in shapes] == ["1", "1", "0", "0"]
    crowds = [shape.findtext("attribute[@name='is_crowd']") for shape in shapes]
    assert crowds == ["false", "false", "true", "false"]


def test_labelme_has_crowds_beside_other_flags(tmp_path: Path) -> None:
    file = write_labelme(tmp_path / "data") / "a.json"
    file.write_text(file.read_text().replace('"wet"', '"iscrowd": true, "wet"'))
    visionkit.convert(tmp_path / "data", tmp_path / "out", to="labelme")
    first, _, crowd, last = json.loads((tmp_path / "out/train/a.json").read_text())["shapes"]
    assert first["flags"] == {"blurred": True, "wet": False, "iscrowd": True}
    assert (first["description"], first["score"]) == ("by the sea", 0.5)
    assert (crowd["flags"], last["flags"], last["description"]) == ({"iscrowd": True}, {}, "")


@pytest.mark.parametrize("name", WRITERS)
def test_coco_has_all_of_it_and_gives_it_back(name: str, tmp_path: Path) -> None:
    written = visionkit.convert(WRITERS[name](tmp_path / "data"), tmp_path / "coco")
    assert written.not_held == {}
    first, *others = json.loads((tmp_path / "coco/annotations/train.json").read_text())["annotations"]
    assert first[name] == SAID[name]
    assert all(name not in row for row in others)
    assert visionkit.convert(tmp_path / "coco", tmp_path / "back", to=name).not_held == {}
    assert extras(tmp_path / "back") == [{name: SAID[name]}, None, None]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("to", ["yolo", *WRITERS])
def test_what_the_others_do_not_hold_is_counted_and_kept_beside_them(name: str, to: str, tmp_path: Path) -> None:
    written = visionkit.convert(WRITERS[name](tmp_path / "data"), tmp_path / "out", to=to)
    counted = {what: count for what, count in written.not_held.items() if what.startswith("objects with")}
    fields = SAID[name] if to != name else {}
    assert counted == {f"objects with {key!r} ({name}): kept in visionkit_ids.json alone": 1 for key in fields}
    assert extras(tmp_path / "out")[0] == {name: SAID[name]}


def test_an_edited_field_counts_before_the_kept_one(tmp_path: Path) -> None:
    visionkit.convert(write_voc(tmp_path / "data"), tmp_path / "out", to="voc")
    file = tmp_path / "out/Annotations/a.xml"
    text = file.read_text().replace("Left", "Rear").replace("<truncated>1", "<truncated>0")
    file.write_text(text)
    said = {key: value for key, value in SAID["voc"].items() if key != "truncated"}
    assert extras(tmp_path / "out")[0] == {"voc": {**said, "pose": "Rear"}}


def test_shapes_of_one_object_that_differ_are_remarked(tmp_path: Path) -> None:
    for write, file, first, other in (
        (write_cvat, "annotations.xml", 'occluded="1"', 'occluded="0"'),
        (write_labelme, "a.json", "by the sea", "inland"),
    ):
        root = write(tmp_path / write.__name__)
        assert read_split(find_layout(root), "train").remarks[SHAPES_DIFFER_REMARK] == 0
        (root / file).write_text(other.join((root / file).read_text().rsplit(first, 1)))
        assert read_split(find_layout(root), "train").remarks[SHAPES_DIFFER_REMARK] == 1
        assert len(extras(root)) == 3


def test_a_group_of_objects_is_no_group_of_shapes(tmp_path: Path) -> None:
    file = write_labelme(tmp_path / "data") / "a.json"
    file.write_text(file.read_text().replace('"group_id": null', '"group_id": 7'))
    written = visionkit.convert(tmp_path / "data", tmp_path / "out", to="labelme")
    assert written.not_held == {"objects with 'group_id' (labelme): kept in visionkit_ids.json alone": 1}
    assert extras(tmp_path / "out")[2] == {"labelme": {"group_id": 7}}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("voc", {"a b": 1}),
        ("voc", {"x><name>dog</name><x": 1}),
        ("voc", {"name": "dog"}),
        ("voc", {"note": "\x00"}),
        ("voc", {"note": None}),
        ("cvat", {"xtl": 3}),
        ("cvat", {"attributes": {"is_crowd": "true"}}),
        ("cvat", {"attributes": {"old": True}}),
        ("cvat", {"attributes": 5}),
        ("cvat", {"a b": "\ud800"}),
        ("labelme", {"points": []}),
        ("labelme", {"flags": "wet"}),
        ("labelme", {"description": 5}),
        ("labelme", {"more": float("nan")}),
    ],
)
def test_what_a_format_would_read_as_something_else_is_not_written(
    name: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    visionkit.convert(write_voc(tmp_path / "data"), tmp_path / "coco")
    file = tmp_path / "coco/annotations/train.json"
    said = json.loads(file.read_text())
    said["annotations"][0]["voc"] = {}
    said["annotations"][0][name] = fields
    said["annotations"][1][name] = "no object"
    file.write_text(json.dumps(said))
    written = visionkit.convert(tmp_path / "coco", tmp_path / "out", to=name)
    assert [*written.not_held.values()] == [1]
    data = read_split(find_layout(tmp_path / "out"), "train")
    assert [data.classes.label(a.category_id) for a in data.images[0].annotations] == [0, 0, 1]
    assert [a.iscrowd for a in data.images[0].annotations] == [False, True, False]
    assert repr(extras(tmp_path / "out")[0][name]) == repr(fields)
