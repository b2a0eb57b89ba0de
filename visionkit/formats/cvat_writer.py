"""A dataset for CVAT, as "CVAT for images 1.1": `train/`, `val/`, `test/`, each `annotations.xml` beside `images/`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
from numpy.typing import NDArray

from visionkit.formats.boxes import Box
from visionkit.formats.cvat import CROWD_ATTRIBUTE, FILE, read_fields
from visionkit.formats.new_dataset import EMPTY_NOT_HELD, Contents, NewDataset, PictureNames, short
from visionkit.formats.object_fields import fields_to_write, without_fields
from visionkit.formats.object_shapes import Segmentation, cutout, polygon_box
from visionkit.formats.records import Annotation
from visionkit.formats.xml_file import as_read

START = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
END = "</annotations>\n"
"""What stands before and behind the labels and images of a file."""

CROWD_SPEC = {
    "name": CROWD_ATTRIBUTE,
    "mutable": "False",
    "input_type": "checkbox",
    "default_value": "false",
    "values": "false",
}
"""The attribute that a label may have, as `cvat_labels` declares it."""

_TEXT_SPEC = {"name": "", "mutable": "False", "input_type": "text", "default_value": "", "values": ""}
"""An attribute that objects have in the dataset that was read."""


def write_cvat(contents: Contents, new: NewDataset) -> None:
    """Boxes, polygons, of one group where an object has several, and RLEs as masks; crowd regions by an attribute."""
    for split, images in contents.splits.items():
        file_names = PictureNames()
        name_of = dict(zip(images.classes.category_ids, images.classes.names, strict=True))
        texts: list[str] = []
        specs = {CROWD_ATTRIBUTE: CROWD_SPEC}
        for image in images.images:
            assert image.path is not None
            name = file_names.take(image)
            new.place(image.path, f"{split}/images/{name}")
            shapes: list[Element] = []
            held: list[tuple[Annotation, Box]] = []
            for number, annotation in enumerate(image.annotations, 1):
                x, y, width, height = annotation.bbox
                fields = fields_to_write(annotation, "cvat", _holds)
                attributes = fields.get("attributes", {})
                specs |= {key: {**_TEXT_SPEC, "name": key} for key in attributes}
                box, drawn = cvat_shapes(
                    name_of[annotation.category_id],
                    (x, y, x + width, y + height),
                    annotation.segmentation,
                    number,
                    new.not_held,
                    attributes={CROWD_ATTRIBUTE: str(annotation.iscrowd).lower(), **attributes},
                    more={key: value for key, value in fields.items() if key != "attributes"},
                )
                shapes += drawn
                held.append((without_fields(annotation, "cvat", fields), box or annotation.bbox))
            texts.append(cvat_image(image.id, name, image.width, image.height, shapes))
            new.keep(split, image, name, held)
        task = {"name": split, "size": len(images.images)}
        labels = cvat_labels(images.classes.names, specs.pop(CROWD_ATTRIBUTE), task, specs.values())
        new.write(f"{split}/{FILE}", "".join((START, labels, *texts, END)))
    new.write_kept(contents)


def _holds(key: str, value: Any) -> bool:
    """Whether a shape can say that. Groups are of the shapes of one object here."""
    if key == "group_id" or (key == "attributes" and not isinstance(value, dict)):
        return False
    read = as_read(_shape("box", {}, value) if key == "attributes" else _shape("box", {key: value}, {}))
    return read is not None and read_fields(read) == {key: value}


def cvat_labels(
    names: Sequence[str],
    attribute: Mapping[str, str],
    task: Mapping[str, Any],
    more: Iterable[Mapping[str, str]] = (),
) -> str:
    """What stands before the images.

    Args:
        names: of the classes.
        attribute: that each label may have: its name, mutable, input_type, default_value, values.
        task: what is said of the task before its labels.
        more: further attributes.
    """
    meta = Element("meta")
    inside = SubElement(meta, "task")
    for tag, text in {**task, "mode": "annotation"}.items():
        SubElement(inside, tag).text = str(text)
    labels = SubElement(inside, "labels")
    for name in names:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        specs = SubElement(label, "attributes")
        for each in (attribute, *more):
            spec = SubElement(specs, "attribute")
            for tag, text in each.items():
                SubElement(spec, tag).text = text
    return _indented(meta)


def cvat_image(image_id: int, name: str, width: int, height: int, shapes: Sequence[Element]) -> str:
    """An image and what is drawn on it."""
    element = _element("image", {"id": image_id, "name": name, "width": width, "height": height})
    element.extend(shapes)
    return _indented(element)


def cvat_shapes(
    label: str,
    corners: tuple[float, float, float, float],
    segmentation: Segmentation | None,
    number: int,
    not_held: Counter[str],
    *,
    attributes: Mapping[str, str],
    source: str = "manual",
    more: Mapping[str, Any] | None = None,
) -> tuple[Box | None, list[Element]]:
    """The shapes of an object.

    Args:
        corners: x1 y1 x2 y2 of its box.
        number: among the objects of its image, from 1; that of the group where it has several polygons.
        not_held: where a mask without a pixel, which is written as the box, is counted.
        source: who drew it, as CVAT says that: `manual` or `auto`.
        more: further keys of each shape, or other values of `source`, `occluded` and `z_order`.

    Returns:
        The box that a reader makes of polygons or a mask, None where the box itself is written; and the shapes.
    """
    box, drawn = _drawn(corners, segmentation, not_held)
    group = {"group_id": number} if len(drawn) > 1 else {}
    said = {"label": label, "source": source, "occluded": 0}
    behind = {"z_order": 0, **(more or {}), **group}
    return box, [_shape(kind, {**said, **geometry, **behind}, attributes) for kind, geometry in drawn]


def _shape(kind: str, said: Mapping[str, Any], attributes: Mapping[str, str]) -> Element:
    shape = _element(kind, said)
    for name, text in attributes.items():
        SubElement(shape, "attribute", name=name).text = text
    return shape


def _drawn(
    corners: Sequence[float], segmentation: Segmentation | None, not_held: Counter[str]
) -> tuple[Box | None, list[tuple[str, dict[str, Any]]]]:
    """The box that a reader makes of a segmentation, and (element, geometry) of the shapes."""
    if isinstance(segmentation, list):
        return polygon_box(segmentation), [("polygon", {"points": _points(polygon)}) for polygon in segmentation]
    if segmentation is not None:
        found = cutout(segmentation)
        if found is not None:
            pixels, box = found
            window = dict(zip(("left", "top", "width", "height"), map(short, box), strict=True))
            return box, [("mask", {"rle": ", ".join(map(str, _runs(pixels))), **window})]
        not_held[EMPTY_NOT_HELD] += 1
    return None, [("box", dict(zip(("xtl", "ytl", "xbr", "ybr"), map(short, corners), strict=True)))]


def _points(flat: list[float]) -> str:
    return ";".join(f"{short(x)},{short(y)}" for x, y in zip(flat[0::2], flat[1::2], strict=True))


def _runs(window: NDArray[np.bool_]) -> list[int]:
    """Run lengths of a mask [H, W], row by row, background first.

    >>> _runs(np.array([[True, True], [False, True]]))
    [0, 2, 1, 1]
    """
    flat = np.concatenate(([False], window.ravel()))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs: list[int] = np.diff(np.concatenate(([0], changes, [window.size]))).tolist()
    return runs


def _element(tag: str, said: Mapping[str, Any]) -> Element:
    return Element(tag, {key: str(value) for key, value in said.items()})


def _indented(element: Element) -> str:
    """Lines of an element that stands in the root."""
    ElementTree.indent(element, level=1)
    return f"  {ElementTree.tostring(element, encoding='unicode')}\n"
