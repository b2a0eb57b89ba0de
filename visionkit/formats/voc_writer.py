"""A dataset as Pascal VOC: `JPEGImages/`, `Annotations/`, `ImageSets/Main/{train,val,test}.txt`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from visionkit.formats.boxes import Box
from visionkit.formats.new_dataset import Contents, NewDataset, PictureNames, short
from visionkit.formats.object_fields import fields_to_write, without_fields
from visionkit.formats.records import Annotation, ImageRecord
from visionkit.formats.voc_fields import FIELD_DEFAULTS, field_elements, holds_field

MASKS_NOT_HELD = "masks: the annotation files of VOC have boxes alone"
FRACTIONS = "boxes that are not of whole pixels, written with decimals, which some tools of VOC do not read"

ROUNDING = 0.01
"""Pixels: what the six decimals of most YOLO files make of whole pixels in images of up to 10,000 px."""


def write_voc(contents: Contents, new: NewDataset) -> None:
    """Boxes, counted from pixel 1 and with their last pixel; crowd regions are marked difficult. Sides that are whole
    pixels but for `ROUNDING` are written so."""
    names = PictureNames()
    for split, images in contents.splits.items():
        name_of = dict(zip(images.classes.category_ids, images.classes.names, strict=True))
        listed = []
        for image in images.images:
            assert image.path is not None
            name = names.take(image)
            stem = PurePosixPath(name).stem
            listed.append(stem)
            new.place(image.path, f"JPEGImages/{name}")
            root = _annotation_file(image, name)
            held: list[tuple[Annotation, Box]] = []
            for annotation in image.annotations:
                fields = fields_to_write(annotation, "voc", holds_field)
                root.append(_object(annotation, name_of[annotation.category_id], fields))
                held.append((without_fields(annotation, "voc", fields), annotation.bbox))
                new.not_held[MASKS_NOT_HELD] += annotation.segmentation is not None
                new.remarks[FRACTIONS] += any(_whole(side) % 1 for side in annotation.bbox)
            ElementTree.indent(root)
            new.write(f"Annotations/{stem}.xml", ElementTree.tostring(root, encoding="unicode") + "\n")
            new.keep(split, image, name, held)
        new.write(f"ImageSets/Main/{split}.txt", "".join(f"{stem}\n" for stem in listed))
    new.write_kept(contents)


def _annotation_file(image: ImageRecord, name: str) -> Element:
    root = Element("annotation")
    SubElement(root, "folder").text = "JPEGImages"
    SubElement(root, "filename").text = name
    size = SubElement(root, "size")
    for tag, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        SubElement(size, tag).text = str(value)
    SubElement(root, "segmented").text = "0"
    return root


def _object(annotation: Annotation, name: str, fields: Mapping[str, Any]) -> Element:
    element = Element("object")
    said = {"name": name, **FIELD_DEFAULTS, **fields, "difficult": int(annotation.iscrowd)}
    for tag, value in said.items():
        element.extend(field_elements(tag, value))
    x, y, width, height = annotation.bbox
    box = SubElement(element, "bndbox")
    for tag, number in (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + width), ("ymax", y + height)):
        SubElement(box, tag).text = str(short(_whole(number)))
    return element


def _whole(number: float) -> float:
    """The whole number that is near, if one is."""
    return round(number) if abs(number - round(number)) <= ROUNDING else number
