"""CVAT datasets, "CVAT for images 1.1" (https://docs.cvat.ai/docs/other/xml_format) -> records.

An `annotations.xml` beside `images/` has an element an image, and in it boxes by their corners, polygons, and masks as
run lengths of a window, row by row, background first; all in pixels. Shapes of one `group_id` and label that are
polygons are one object of several parts. Boxes of polygons and masks are the smallest around them. An object whose
attribute `is_crowd` is set is a crowd region.

Images keep the file's ids. Objects count from 1 in the order of the file, categories from 1 in the order in which the
files list their labels, those of all splits together, and then by name those that no list has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.boxes import Box, check_box
from visionkit.formats.coco_segmentation import FARTHEST_PIXEL, checked_segmentation, segmentation_area
from visionkit.formats.dataset_files import is_one_line
from visionkit.formats.dataset_layout import SPLITS, DatasetLayout, Split, split_folders
from visionkit.formats.findings import Findings, shown
from visionkit.formats.image_files import find_image, size_in_file
from visionkit.formats.object_fields import as_extra, fields_of_shapes, whole_or_text
from visionkit.formats.object_shapes import encoded, mask_window, polygon_box
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.formats.xml_file import read_children, text_of

FILE = "annotations.xml"
CROWD_ATTRIBUTE = "is_crowd"
OTHER_SHAPES_REMARK = "shapes and tags that are neither box, polygon nor mask, not read"
ROTATED_REMARK = "rotated boxes, read as the smallest upright box around them"
CROWD_REMARK = f"objects with the attribute {CROWD_ATTRIBUTE}, crowd regions"
IDS_REMARK = "images without an id of their own, numbered after the others"

FIELD_DEFAULTS: Mapping[str, Any] = {"source": "manual", "occluded": 0, "z_order": 0, "group_id": 0}
"""What a shape is where it does not say otherwise."""

_SUBSETS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What a subset of a project may be called; any other is train."""

_SHAPES = ("box", "polygon", "mask")
_NEEDED = "a CVAT annotation file"

NAME_RULE = "every image needs a name; add it or remove the image"
SIZE_RULE = "width and height must be whole numbers of pixels; correct them"
LABEL_RULE = "every shape needs a label on one line; add it or remove the shape"
BOX_RULE = (
    f"a box must have finite numbers xtl, ytl, xbr, ybr within {FARTHEST_PIXEL:.0f} px; correct or remove the shape"
)
POINTS_RULE = (
    f"points must be x,y;x,y;... of three or more finite points within {FARTHEST_PIXEL:.0f} px; correct or remove the "
    "shape"
)
MASK_RULE = (
    "a mask must have left, top, width, height inside its image and an rle of that many pixels; correct or remove it"
)


class CvatSplit(NamedTuple):
    """One split.

    Args:
        file: its annotation file.
        all_files: those of all splits, whose labels make the class table.
        subset: which split of a file that has several it is; None for all images of the file.
    """

    file: Path
    all_files: tuple[Path, ...]
    subset: str | None = None

    def read(self, *, skip_bad: bool = False) -> AnnotatedImages:
        """The split by the rules above; attributes, occlusion and order of depth go to `extra`."""
        findings = Findings(self.file, skip_bad)
        classes = _class_table(self.all_files)
        images: list[ImageRecord] = []
        objects: list[Annotation] = []
        object_ids = count(1)
        for element in self._elements():
            mark = findings.mark()
            image = _read_image(element, self.file.parent / "images", findings)
            if findings.is_bad(mark) or image is None:
                continue
            before = len(objects)
            for item, same in _objects(element, image.file_name, findings):
                mark = findings.mark()
                annotation = _read_object(next(object_ids), same, image, classes, item, findings)
                if not findings.is_bad(mark) and annotation is not None:
                    objects.append(annotation)
            images.append(replace(image, annotations=tuple(objects[before:])))
        findings.refuse_errors()
        findings.refuse_emptied(images=images, objects=objects)
        if not images:
            raise DataError(f"{self.file} lists no images, at least one is needed; add them or name another dataset")
        numbered = tuple(_numbered(images, findings))
        return AnnotatedImages(classes, numbered, self.file, findings.remarks, tuple(findings.left_out))

    def content(self) -> Iterator[bytes]:
        yield f"{self.subset} {_class_table(self.all_files).names!r}".encode("utf-8", "surrogateescape")
        try:
            with self.file.open("rb") as stream:
                while piece := stream.read(1 << 20):
                    yield piece
        except OSError as error:
            raise DataError(f"{self.file} cannot be read ({error.strerror}); check its permissions") from error

    def _elements(self) -> Iterator[Element]:
        """The images of the split."""
        for element in read_children(self.file, _NEEDED, "annotations"):
            if element.tag == "track":
                raise DataError(
                    f'{self.file} has tracks of a video, images are read; export it from CVAT as "CVAT for images 1.1"'
                )
            if element.tag == "image" and self.subset in (None, _subset(element)):
                yield element


def cvat_files(root: Path) -> DatasetLayout | None:
    """`train/`, `val/` or `valid/`, and `test/`, each with an `annotations.xml` beside `images/`; or one such file,
    whose images are train but for those of the subsets of a project."""
    splits: dict[str, Split] = {}
    folders = split_folders(root, lambda folder: (folder / FILE).is_file())
    found = {split: folder / FILE for split, folder in folders.items()}
    if found:
        splits.update({split: CvatSplit(file, tuple(found.values())) for split, file in found.items()})
        words = ", ".join(f"{file.parent.name}/{FILE}" for file in found.values())
        return DatasetLayout(root, root, f"CVAT layout: {words}", splits)
    file = root / FILE
    if not file.is_file():
        return None
    subsets = _subsets_of(file)
    if subsets <= {"train"}:
        splits["train"] = CvatSplit(file, (file,))
    else:
        splits.update({split: CvatSplit(file, (file,), split) for split in SPLITS if split in subsets})
    words = f"{', '.join(splits)} of {FILE}"
    return DatasetLayout(root, root, f"CVAT layout: {words}", splits)


def _subsets_of(file: Path) -> set[str]:
    try:
        children = read_children(file, _NEEDED, "annotations")
        return {_subset(element) for element in children if element.tag == "image"}
    except DataError:  # told when the split is read
        return set()


def _subset(image: Element) -> str:
    return _SUBSETS.get(image.get("subset", "").lower(), "train")


def _class_table(files: tuple[Path, ...]) -> ClassTable:
    """The labels that the files list, in their order, and then by name those that only shapes have; ids from 1."""
    listed: dict[str, None] = {}
    used: set[str] = set()
    broken: list[DataError] = []
    for file in files:
        try:
            for element in read_children(file, _NEEDED, "annotations"):
                if element.tag == "meta":
                    listed |= {
                        name: None for label in element.iter("label") if _is_name(name := text_of(label, "name"))
                    }
                elif element.tag == "image":
                    used |= {name for s in element if s.tag in _SHAPES and _is_name(name := _label(s))}
        except DataError as error:  # told by the split it belongs to
            broken.append(error)
    names = [*listed, *sorted(used - listed.keys())]
    if not names:
        if broken:
            raise broken[0]
        raise DataError(
            f"{files[0]} lists no label and has no labelled box, polygon or mask, at least one is needed; add it"
        )
    return ClassTable.of_categories(enumerate(names, 1))


# --- images and shapes -----------------------------------------------------------------------------------------------


def _read_image(element: Element, folder: Path, findings: Findings) -> ImageRecord | None:
    """The image without its objects, with id -1 where the file has none; None, and an error, if it cannot be used."""
    name = element.get("name", "")
    if not name:
        findings.error(f"an image with id {shown(element.get('id'))} has no name", NAME_RULE)
        return None
    item = f"image {shown(name)}"
    sides = [element.get(side, "0") for side in ("width", "height")]
    width, height = (int(side) if side.isdecimal() and len(side) <= 7 else None for side in sides)
    if width is None or height is None:
        findings.error(f"{item} has width {shown(sides[0])} and height {shown(sides[1])}", SIZE_RULE)
        return None
    in_subset = folder / element.get("subset", "")
    path = find_image(name, in_subset if (in_subset / name).is_file() else folder, item, findings)
    if path is None:
        return None
    width, height = size_in_file(path, width, height, item, findings)
    said = element.get("id", "")
    image_id = int(said) if said.isdecimal() and len(said) <= 18 else -1
    return ImageRecord(image_id, name, path, width, height) if width else None


def _numbered(images: list[ImageRecord], findings: Findings) -> Iterator[ImageRecord]:
    """The images with ids that are all different."""
    seen: set[int] = set()
    free = count(max(image.id for image in images) + 1)
    for image in images:
        image_id = image.id
        if image_id < 0 or image_id in seen:
            findings.remark(IDS_REMARK)
            image_id = next(free)
        seen.add(image_id)
        yield replace(image, id=image_id)


def _objects(image: Element, name: str, findings: Findings) -> Iterator[tuple[str, list[Element]]]:
    """(what messages call it, its shapes) of each object, in the order of their first shapes."""
    objects: dict[Any, tuple[str, list[Element]]] = {}
    for number, shape in enumerate(image, 1):
        if shape.tag not in _SHAPES:
            findings.remark(OTHER_SHAPES_REMARK)
            continue
        group = shape.get("group_id", "0")
        # Of CVAT's groups 0 is none.
        key = (group, _label(shape)) if shape.tag == "polygon" and group != "0" else number
        objects.setdefault(key, (f"{shape.tag} {number} of image {shown(name)}", []))[1].append(shape)
    yield from objects.values()


def _label(shape: Element) -> str:
    return shape.get("label", "").strip()


def _is_name(text: str) -> bool:
    return bool(text) and is_one_line(text)


def _read_object(
    object_id: int, shapes: list[Element], image: ImageRecord, classes: ClassTable, item: str, findings: Findings
) -> Annotation | None:
    """An object; None, and an error, if it cannot be used."""
    shape = shapes[0]
    if not _is_name(_label(shape)):
        findings.error(f"{item} has label {shown(shape.get('label'))}", LABEL_RULE)
        return None
    segmentation: list[list[float]] | dict[str, Any] | None = None
    box: Box | None
    if shape.tag == "box":
        box, rule = _read_box(shape, findings), BOX_RULE
    elif shape.tag == "mask":
        segmentation, box = _read_mask(shape, image) or (None, None)
        rule = MASK_RULE
    else:
        segmentation, box = _read_polygons(shapes, image) or (None, None)
        rule = POINTS_RULE
    said = shown({key: value for key, value in shape.items() if key in _GEOMETRY[shape.tag]})
    if box is None:
        findings.error(f"{item} has {said}", rule)
        return None
    if not check_box(box, image.width, image.height, item, said, findings):
        return None
    category_id = classes.category_ids[classes.names.index(_label(shape))]
    crowd = any(
        a.get("name") == CROWD_ATTRIBUTE and (a.text or "").strip().lower() in ("1", "true")
        for a in shape.findall("attribute")
    )
    if crowd:
        findings.remark(CROWD_REMARK)
    area = segmentation_area(segmentation) if segmentation else box[2] * box[3]
    extra = as_extra("cvat", fields_of_shapes([read_fields(each) for each in shapes], findings))
    return Annotation(object_id, category_id, box, area, crowd, segmentation, extra)


def read_fields(shape: Element) -> dict[str, Any]:
    """What a shape says beside label and geometry: `occluded`, `attributes` and whatever else is not CVAT's default."""
    said = {key: whole_or_text(text) for key, text in shape.items() if key not in _READ}
    fields: dict[str, Any] = {key: value for key, value in said.items() if value != FIELD_DEFAULTS.get(key)}
    attributes = {a.get("name", ""): a.text or "" for a in shape.findall("attribute")}
    attributes.pop(CROWD_ATTRIBUTE, None)
    return {**fields, "attributes": attributes} if attributes else fields


_GEOMETRY: Mapping[str, tuple[str, ...]] = {
    "box": ("xtl", "ytl", "xbr", "ybr"),
    "polygon": ("points",),
    "mask": ("left", "top", "width", "height", "rle"),
}
_READ = {"label", "rotation", *(key for keys in _GEOMETRY.values() for key in keys)}


def _read_box(shape: Element, findings: Findings) -> Box | None:
    left, top, right, bottom = (_number(shape.get(key, "")) for key in _GEOMETRY["box"])
    angle = _number(shape.get("rotation", "0"))
    if left is None or top is None or right is None or bottom is None or angle is None:
        return None
    width, height = right - left, bottom - top
    if angle % 180:
        findings.remark(ROTATED_REMARK)
        # A box turned about its centre reaches as far as its corners do.
        c, s = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
        turned = width * c + height * s, width * s + height * c
        left, top = left + (width - turned[0]) / 2, top + (height - turned[1]) / 2
        width, height = turned
    return left, top, width, height


def _read_polygons(shapes: list[Element], image: ImageRecord) -> tuple[list[list[float]], Box] | None:
    polygons: list[list[float]] = []
    for shape in shapes:
        pairs = [pair.split(",") for pair in shape.get("points", "").split(";")]
        numbers = [_number(number) for pair in pairs if len(pair) == 2 for number in pair]
        sound = [number for number in numbers if number is not None]
        if len(sound) != 2 * len(pairs) or len(pairs) < 3:
            return None
        polygons.append(sound)
    try:
        checked_segmentation(polygons, image.width, image.height)
    except DataError:
        return None
    return polygons, polygon_box(polygons)


def _read_mask(shape: Element, image: ImageRecord) -> tuple[dict[str, Any], Box] | None:
    """The RLE and the box of a window of run lengths; None if it is none, or shows nothing."""
    sides = [_whole(shape.get(key, "")) for key in ("left", "top", "width", "height")]
    runs = [_whole(run) for run in shape.get("rle", "").split(",")]
    if None in (*sides, *runs):
        return None
    left, top, width, height = (int(side or 0) for side in sides)
    if left + width > image.width or top + height > image.height:
        return None
    lengths = np.array(runs, np.int64)
    if lengths.sum() != width * height:
        return None
    window = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
    inside = mask_window(window)
    if inside is None:
        return None
    box = float(left + inside[0]), float(top + inside[1]), float(inside[2]), float(inside[3])
    return encoded(window, left, top, image.width, image.height), box


def _whole(text: str) -> int | None:
    """A whole number of pixels of an image, or None."""
    text = text.strip().removesuffix(".0")
    return int(text) if text.isdecimal() and len(text) <= 10 else None


def _number(text: str) -> float | None:
    """A finite number within FARTHEST_PIXEL, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) <= FARTHEST_PIXEL else None
