"""A dataset for CVAT, as "CVAT for images 1.1": `train/`, `val/`, `test/`, each `annotations.xml` beside `images/`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.formats.boxes import Box
from visionkit.formats.cvat import CROWD_ATTRIBUTE, FILE
from visionkit.formats.new_dataset import EMPTY_NOT_HELD, Contents, NewDataset, PictureNames, short
from visionkit.formats.object_shapes import cutout, polygon_box
from visionkit.formats.records import Annotation


def write_cvat(contents: Contents, new: NewDataset) -> None:
    """Boxes, polygons, of one group where an object has several, and RLEs as masks; crowd regions by an attribute."""
    for split, images in contents.splits.items():
        file_names = PictureNames()
        name_of = dict(zip(images.classes.category_ids, images.classes.names, strict=True))
        texts = [_head(split, len(images.images), images.classes)]
        for image in images.images:
            assert image.path is not None
            name = file_names.take(image)
            new.place(image.path, f"{split}/images/{name}")
            said = {"id": image.id, "name": name, "width": image.width, "height": image.height}
            element = _element("image", said)
            held: list[tuple[Annotation, Box]] = []
            for number, annotation in enumerate(image.annotations, 1):
                box, drawn = _drawn(annotation, new)
                group = {"group_id": number} if len(drawn) > 1 else {}
                for kind, geometry in drawn:
                    label = {"label": name_of[annotation.category_id], "source": "manual", "occluded": 0}
                    shape = _element(kind, {**label, **geometry, "z_order": 0, **group})
                    SubElement(shape, "attribute", name=CROWD_ATTRIBUTE).text = str(annotation.iscrowd).lower()
                    element.append(shape)
                held.append((annotation, box))
            ElementTree.indent(element, level=1)
            texts.append(f"  {ElementTree.tostring(element, encoding='unicode')}\n")
            new.keep(split, image, name, held)
        new.write(f"{split}/{FILE}", "".join((*texts, "</annotations>\n")))
    new.write_kept(contents)


def _head(split: str, images: int, classes: ClassTable) -> str:
    """What stands before the images, with the attribute that each label may have."""
    meta = Element("meta")
    task = SubElement(meta, "task")
    for tag, text in (("name", split), ("size", str(images)), ("mode", "annotation")):
        SubElement(task, tag).text = text
    labels = SubElement(task, "labels")
    for name in classes.names:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        attribute = SubElement(SubElement(label, "attributes"), "attribute")
        for tag, text in (
            ("name", CROWD_ATTRIBUTE),
            ("mutable", "False"),
            ("input_type", "checkbox"),
            ("default_value", "false"),
            ("values", "false"),
        ):
            SubElement(attribute, tag).text = text
    ElementTree.indent(meta, level=1)
    written = ElementTree.tostring(meta, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  {written}\n'


def _drawn(annotation: Annotation, new: NewDataset) -> tuple[Box, list[tuple[str, dict[str, Any]]]]:
    """The box that a reader makes of an object, and (element, geometry) of its shapes."""
    if isinstance(annotation.segmentation, list):
        polygons = annotation.segmentation
        return polygon_box(polygons), [("polygon", {"points": _points(polygon)}) for polygon in polygons]
    if annotation.segmentation is not None:
        found = cutout(annotation.segmentation)
        if found is not None:
            pixels, box = found
            window = dict(zip(("left", "top", "width", "height"), map(short, box), strict=True))
            return box, [("mask", {"rle": ", ".join(map(str, _runs(pixels))), **window})]
        new.not_held[EMPTY_NOT_HELD] += 1
    x, y, width, height = annotation.bbox
    corners = (("xtl", x), ("ytl", y), ("xbr", x + width), ("ybr", y + height))
    return annotation.bbox, [("box", {key: short(number) for key, number in corners})]


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
