"""COCO annotation files (https://cocodataset.org/#format-data, object detection) -> records.

What an evaluator would crash on or count wrongly is an error, and all errors of a file are told at once. What is
harmless and has one obvious reading is repaired and counted in the remarks.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any, TypeGuard

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.coco_segmentation import FARTHEST_PIXEL, checked_segmentation, segmentation_area
from visionkit.formats.findings import Findings, shown
from visionkit.formats.json_file import read_json
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.imaging.reader import read_size

OVERHANG = 1.0
"""Boxes that reach over the edge of their image by more pixels than this, beyond rounding, are counted."""

OVERHANG_REMARK = "boxes reach over the edge of their image (training clips them, evaluation takes them as they are)"

_OBJECTS_RULE = "every item must be a JSON object; correct or remove it"
_ID_RULE = "every id must be there and be a whole number; add or renumber it"
_UNIQUE_RULE = "an id must occur once in its list; renumber or remove one"
_NAME_RULE = "every category needs a name of its own; name or merge them"
_FILE_NAME_RULE = "every image needs a file_name; add it or remove the image"
_INSIDE_RULE = "a file_name must stay inside the folder of the images; correct it"
_SIZE_RULE = "width and height must be whole numbers of pixels, 1 or more; correct them"
_BOX_RULE = (
    f"a bbox must be four finite numbers x, y, width, height within {FARTHEST_PIXEL:.0f} px; correct or remove it"
)
_BOX_SIZE_RULE = "width and height of a bbox must be above 0; correct or remove it"
_BOX_INSIDE_RULE = "a bbox must overlap its image; correct or remove it"
_IMAGE_RULE = "annotations must belong to a listed image; list the image or remove them"
_CATEGORY_RULE = "annotations must be of a listed category; list the category or remove them"
_CROWD_RULE = "iscrowd must be 0 or 1; correct it"
_AREA_RULE = "an area must be a finite number of pixels, not negative; correct or leave it out"


def read_coco(annotation_file: Path, images_dir: Path | None = None) -> AnnotatedImages:
    """Read and check a COCO annotation file.

    Every image stays, also without objects; every category stays, also without objects. Labels follow ascending
    category ids. Repaired and counted in the remarks: missing `iscrowd` (0), missing `area` (the mask's or else the
    box's), missing image sizes (the files'), polygons of fewer than three points (left out). Boxes stay as
    the file has them, so that scores are exactly pycocotools'; those that reach over the edge are counted.

    Args:
        annotation_file: the JSON file.
        images_dir: where the images lie. Their headers are read (0.05 ms each), to see that each is there and of the
            size its annotations are made for. Without it, sizes may be missing (0 then).

    Raises:
        DataError: the file cannot be read as COCO, or holds errors; names the first of each kind and counts the rest.
    """
    findings = Findings(annotation_file)
    images_list, annotations_list, categories_list = _sections(read_json(annotation_file), annotation_file)
    categories = _read_categories(categories_list, findings)
    images = _read_images(images_list, images_dir, findings)
    objects: dict[int, list[Annotation]] = {}
    for image_id, annotation in _read_annotations(annotations_list, images, categories, findings):
        objects.setdefault(image_id, []).append(annotation)
    findings.refuse_errors()
    return AnnotatedImages(
        classes=ClassTable.of_categories(categories.items()),
        images=tuple(replace(image, annotations=tuple(objects.get(image.id, ()))) for image in images.values()),
        source=annotation_file,
        remarks=findings.remarks,
    )


def _sections(content: Any, file: Path) -> tuple[list[Any], list[Any], list[Any]]:
    """The lists of images, annotations and categories."""
    if not isinstance(content, dict):
        raise DataError(
            f"{file} holds a JSON {_kind(content)}, COCO annotations are an object with images, annotations and "
            "categories; name the annotation file"
        )
    names = ("images", "annotations", "categories")
    for name in names:
        if not isinstance(content.get(name), list):
            fact = f"has {_kind(content[name])} for {name}" if name in content else f"has no {name}"
            raise DataError(f"{file} {fact}, COCO annotations need lists of {', '.join(names)}; add the list")
    for name in ("images", "categories"):
        if not content[name]:
            raise DataError(f"{file} lists no {name}, at least one is needed; add them or name another file")
    return content["images"], content["annotations"], content["categories"]


def _kind(value: Any) -> str:
    kinds = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")


# --- categories and images -------------------------------------------------------------------------------------------


def _read_categories(rows: list[Any], findings: Findings) -> dict[int, str]:
    """Category id -> name, of every row that has an id."""
    categories: dict[int, str] = {}
    names: set[str] = set()
    for category_id, item, row in _rows_with_ids(rows, "category", "categories", findings):
        name = row.get("name")
        if not isinstance(name, str) or not name.strip() or name in names:
            findings.error(f"{item} {_says(row, 'name')}", _NAME_RULE)
        names.add(str(name))
        categories[category_id] = str(name)
    return categories


def _read_images(rows: list[Any], images_dir: Path | None, findings: Findings) -> dict[int, ImageRecord]:
    """Image id -> record without annotations, of every row that has an id; what is in error is left empty in it."""
    images: dict[int, ImageRecord] = {}
    for image_id, item, row in _rows_with_ids(rows, "image", "images", findings):
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            findings.error(f"{item} {_says(row, 'file_name')}", _FILE_NAME_RULE)
            name = ""
        width, height = _declared_size(row, item, findings)
        path = None
        if images_dir is not None and name:
            path = _path_of(name, images_dir, item, findings)
            if path is not None:
                width, height = _size_in_file(path, width, height, f"{item} ({shown(name)})", findings)
        images[image_id] = ImageRecord(image_id, name, path, width, height)
    shared = sum(count - 1 for count in Counter(image.path or image.file_name for image in images.values()).values())
    if shared:
        findings.remark("images that name the same file as another", shared)
    return images


def _rows_with_ids(
    rows: list[Any], one: str, many: str, findings: Findings
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """(id, what messages call it, row) of every row whose id is sound and new."""
    seen: set[int] = set()
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            findings.error(f"{many}[{index}] is {shown(row)}", _OBJECTS_RULE)
            continue
        row_id = row.get("id")
        if not is_id(row_id):
            findings.error(f"{many}[{index}] {_says(row, 'id')}", _ID_RULE)
        elif row_id in seen:
            findings.error(f"{many}[{index}] has {one} id {row_id} again", _UNIQUE_RULE)
        else:
            seen.add(row_id)
            yield row_id, f"{one} {row_id}", row


def is_id(value: Any) -> TypeGuard[int]:
    """Whether a value can be an id: a whole number of 64 bits. True and False are not numbers here."""
    return type(value) is int and -(2**63) <= value < 2**63


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number. True and False are not numbers here."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _says(row: dict[str, Any], key: str) -> str:
    return f"has {key} {shown(row[key])}" if key in row else f"has no {key}"


def _declared_size(row: dict[str, Any], item: str, findings: Findings) -> tuple[int, int]:
    """(width, height), or (0, 0) if the row does not say."""
    width, height = row.get("width"), row.get("height")
    if width is None and height is None:
        return 0, 0
    if _is_side(width) and _is_side(height):
        return int(width), int(height)
    findings.error(f"{item} {_says(row, 'width')} and {_says(row, 'height')}", _SIZE_RULE)
    return 0, 0


def _is_side(value: Any) -> TypeGuard[float]:
    return is_number(value) and 1 <= value <= FARTHEST_PIXEL and value == int(value)


def _path_of(name: str, images_dir: Path, item: str, findings: Findings) -> Path | None:
    """Where an image lies: under the images folder or, as some tools write it, under the folder that holds that."""
    # The Windows flavour knows both kinds of slashes, and drives.
    parts = PureWindowsPath(name)
    if parts.anchor or ".." in parts.parts or "\0" in name:
        findings.error(f"{item} has file_name {shown(name)}", _INSIDE_RULE)
        return None
    for folder in (images_dir, images_dir.parent):
        path = folder / name
        if os.path.exists(path):  # unlike Path.exists, says False to a name that no file can have
            return path
    rule = f"every image must lie in {images_dir}; add the file or remove the image"
    findings.error(f"{item} names {shown(name)}, which does not exist", rule)
    return None


def _size_in_file(path: Path, width: int, height: int, item: str, findings: Findings) -> tuple[int, int]:
    """(width, height) of the upright picture, after a look whether the declared size is the same."""
    try:
        real = read_size(path)
    except DataError as error:
        rule = "every image must be readable; replace the file or remove the image"
        findings.error(f"{item} cannot be read ({error})", rule)
        return width, height
    if not width:
        findings.remark("images without width and height, read from the files")
    elif (width, height) != real:
        findings.error(
            f"{item} is declared {width}x{height} and the upright picture is {real[0]}x{real[1]}",
            "annotations must be made for the upright picture at its own size; correct the size, and the boxes with it",
        )
    return real


# --- annotations -----------------------------------------------------------------------------------------------------


def _read_annotations(
    rows: list[Any],
    images: dict[int, ImageRecord],
    categories: dict[int, str],
    findings: Findings,
) -> Iterator[tuple[int, Annotation]]:
    """(image id, annotation) of every sound row, in file order."""
    for annotation_id, item, row in _rows_with_ids(rows, "annotation", "annotations", findings):
        image_id = _listed_id("image_id", row, images, item, findings, _IMAGE_RULE)
        category_id = _listed_id("category_id", row, categories, item, findings, _CATEGORY_RULE)
        if image_id is None or category_id is None:
            continue
        image, where = images[image_id], f"{item} of image {image_id}"
        box = _read_box(row, image, where, findings)
        if box is None:
            continue
        segmentation = _read_segmentation(row, image, where, findings)
        yield (
            image_id,
            Annotation(
                id=annotation_id,
                category_id=category_id,
                bbox=box,
                area=_read_area(row, box, segmentation, where, findings),
                iscrowd=_read_crowd(row, where, findings),
                segmentation=segmentation,
            ),
        )


def _listed_id(
    key: str, row: dict[str, Any], listed: Mapping[int, object], item: str, findings: Findings, rule: str
) -> int | None:
    value = row.get(key)
    if not is_id(value):
        findings.error(f"{item} {_says(row, key)}", _ID_RULE)
    elif value not in listed:
        findings.error(f"{item} has the unlisted {key} {value}", rule)
    else:
        return value
    return None


def _read_box(
    row: dict[str, Any], image: ImageRecord, item: str, findings: Findings
) -> tuple[float, float, float, float] | None:
    box = as_box(row.get("bbox"))
    if box is None:
        findings.error(f"{item} {_says(row, 'bbox')}", _BOX_RULE)
        return None
    x, y, width, height = box
    if width <= 0 or height <= 0:
        findings.error(f"{item} {_says(row, 'bbox')}", _BOX_SIZE_RULE)
        return None
    if not image.width:
        return box
    right, bottom = x + width, y + height
    if x >= image.width or y >= image.height or right <= 0 or bottom <= 0:
        size = f"{image.width}x{image.height}"
        findings.error(f"{item} {_says(row, 'bbox')} outside its {size} pixels", _BOX_INSIDE_RULE)
        return None
    if max(-x, -y, right - image.width, bottom - image.height) > OVERHANG:
        findings.remark(OVERHANG_REMARK)
    return box


def as_box(value: Any) -> tuple[float, float, float, float] | None:
    """Four finite numbers as floats; None if the value is anything else."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(is_number(number) and abs(number) <= FARTHEST_PIXEL for number in value):
        return None
    return float(value[0]), float(value[1]), float(value[2]), float(value[3])


def _read_segmentation(
    row: dict[str, Any], image: ImageRecord, item: str, findings: Findings
) -> list[list[float]] | dict[str, Any] | None:
    try:
        segmentation, degenerate = checked_segmentation(row.get("segmentation"), image.width, image.height)
    except DataError as rule:
        findings.error(f"{item} {_says(row, 'segmentation')}", str(rule))
        return None
    if degenerate:
        findings.remark("polygons of fewer than three points left out", degenerate)
    return segmentation


def _read_area(
    row: dict[str, Any],
    box: tuple[float, float, float, float],
    segmentation: list[list[float]] | dict[str, Any] | None,
    item: str,
    findings: Findings,
) -> float:
    area = row.get("area")
    if area is None:
        findings.remark("annotations without area, taken from mask or box")
        return segmentation_area(segmentation) if segmentation else box[2] * box[3]
    if not is_number(area) or area < 0:
        findings.error(f"{item} {_says(row, 'area')}", _AREA_RULE)
        return 0.0
    return float(area)


def _read_crowd(row: dict[str, Any], item: str, findings: Findings) -> bool:
    crowd = row.get("iscrowd")
    if crowd is None:
        findings.remark("annotations without iscrowd, taken as 0")
    elif crowd not in (0, 1):
        findings.error(f"{item} {_says(row, 'iscrowd')}", _CROWD_RULE)
    return bool(crowd)
