"""COCO annotation files (https://cocodataset.org/#format-data, object detection) -> records.

What an evaluator would crash on or count wrongly is an error, and all errors of a file are told at once, or, where bad
items are to be skipped, each leaves out its item. What is harmless and has one obvious reading is repaired and counted
in the remarks.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeGuard, TypeVar

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.boxes import Box, check_box
from visionkit.formats.coco_segmentation import FARTHEST_PIXEL, MOST_PIXELS, checked_segmentation, segmentation_area
from visionkit.formats.dataset_files import is_one_line
from visionkit.formats.findings import Findings, Mark, shown
from visionkit.formats.image_files import find_image, size_in_file
from visionkit.formats.json_file import read_json, without_collection
from visionkit.formats.plain_annotations import DEGENERATE_REMARK, plain_annotations
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord

_OBJECTS_RULE = "every item must be a JSON object; correct or remove it"
_ID_RULE = "every id must be there and be a whole number; add or renumber it"
_UNIQUE_RULE = "an id must occur once in its list; renumber or remove one"
_NAME_RULE = "every category needs a name of its own; name or merge them"
_TEXT_RULE = "the name of a category must be one line of text without control characters; correct it"
_FILE_NAME_RULE = "every image needs a file_name; add it or remove the image"
_SIZE_RULE = "width and height must be whole numbers of pixels, 1 or more; correct them"
_PIXELS_RULE = f"an image may have at most {MOST_PIXELS} pixels, so that masks can be counted; correct its size"
_BOX_RULE = (
    f"a bbox must be four finite numbers x, y, width, height within {FARTHEST_PIXEL:.0f} px; correct or remove it"
)
_IMAGE_RULE = "annotations must belong to a listed image; list the image or remove them"
_CATEGORY_RULE = "annotations must be of a listed category; list the category or remove them"
_CROWD_RULE = "iscrowd must be 0 or 1; correct it"
_AREA_RULE = "an area must be a finite number of pixels, not negative; correct or leave it out"


def read_coco(annotation_file: Path, images_dir: Path | None = None, *, skip_bad: bool = False) -> AnnotatedImages:
    """Read and check a COCO annotation file.

    Every image stays, also without objects; every category stays, also without objects. Labels follow ascending
    category ids. Repaired and counted in the remarks: missing `iscrowd` (0), missing `area` (the mask's or else the
    box's), missing image sizes (the files'), polygons of fewer than three points (left out). Boxes stay as
    the file has them, so that scores are exactly pycocotools'; those that reach over the edge are counted.

    Args:
        annotation_file: the JSON file.
        images_dir: where the images lie. Their headers are read (0.06 ms each), to see that each is there and of the
            size its annotations are made for. Without it, sizes may be missing (0 then).
        skip_bad: leave bad items out, a line each in `left_out`, instead of refusing the file. Of a bad annotation its
            image stays, unless it had no other: learnt from as background it would teach the wrong. A bad image or
            category goes with all its annotations; so do several that share an id and are not the same, because
            nobody knows whose the annotations are. All images are decoded, 2 ms each, so that none turns out to be
            damaged later.

    Raises:
        DataError: the file cannot be read as COCO, or holds errors; names the first of each kind and counts the rest.
            With `skip_bad`: nothing sound would be left.
    """
    findings = Findings(annotation_file, skip_bad)
    images_list, annotations_list, categories_list = _sections(read_json(annotation_file), annotation_file)
    categories = _read_categories(categories_list, findings)
    images = _read_images(images_list, images_dir, findings)
    objects: dict[int, list[Annotation]] = {}
    with without_collection():
        read = plain_annotations(annotations_list, images.sound, categories.sound, findings)
        for image_id, annotation in read or _read_annotations(annotations_list, images, categories, findings):
            objects.setdefault(image_id, []).append(annotation)
    findings.refuse_errors()
    for items, listed, sound in (
        ("categories", categories_list, categories.sound),
        ("images", images_list, images.sound),
        ("annotations", annotations_list, objects),
    ):
        if listed and not sound:
            findings.refuse_nothing_left(items)
    _leave_out_emptied(annotations_list, images, objects, findings)
    return AnnotatedImages(
        classes=ClassTable.of_categories(categories.sound.items()),
        images=tuple(replace(image, annotations=tuple(objects.get(image.id, ()))) for image in images.sound.values()),
        source=annotation_file,
        remarks=findings.remarks,
        left_out=tuple(findings.left_out),
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


_Item = TypeVar("_Item")


@dataclass(slots=True)
class _Listed(Generic[_Item]):
    """The categories or images of a file by id, and what annotations refer to and yet is left out.

    Args:
        left_out: id -> where its line stands among the findings' lines.
    """

    sound: dict[int, _Item]
    left_out: dict[int, int]


def _read_categories(rows: list[Any], findings: Findings) -> _Listed[str]:
    """Category id -> name, of every row that has an id."""
    categories: _Listed[str] = _Listed({}, {})
    names: set[str] = set()
    for category_id, item, row, mark in _rows_with_ids(rows, "category", "categories", findings):
        name = row.get("name")
        if not isinstance(name, str) or not name.strip() or name in names:
            findings.error(f"{item} {_says(row, 'name')}", _NAME_RULE)
        elif not is_one_line(name):
            findings.error(f"{item} {_says(row, 'name')}", _TEXT_RULE)
        names.add(str(name))
        if findings.is_bad(mark):
            categories.left_out[category_id] = mark[0]
        else:
            categories.sound[category_id] = str(name)
    return categories


def _read_images(rows: list[Any], images_dir: Path | None, findings: Findings) -> _Listed[ImageRecord]:
    """Image id -> record without annotations, of every row that has an id; what is in error is left empty in it."""
    images: _Listed[ImageRecord] = _Listed({}, {})
    for image_id, item, row, mark in _rows_with_ids(rows, "image", "images", findings):
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            findings.error(f"{item} {_says(row, 'file_name')}", _FILE_NAME_RULE)
            name = ""
        width, height = _declared_size(row, item, findings)
        path = None
        if images_dir is not None and name:
            path = find_image(name, images_dir, item, findings)
            if path is not None:
                width, height = size_in_file(path, width, height, f"{item} ({shown(name)})", findings)
        if findings.is_bad(mark):
            images.left_out[image_id] = mark[0]
        else:
            images.sound[image_id] = ImageRecord(image_id, name, path, width, height)
    files = Counter(image.path or image.file_name for image in images.sound.values())
    shared = sum(count - 1 for count in files.values())
    if shared:
        findings.remark("images that name the same file as another", shared)
    return images


def _rows_with_ids(
    rows: list[Any], one: str, many: str, findings: Findings
) -> Iterator[tuple[int, str, dict[str, Any], Mark]]:
    """(id, what messages call it, row, mark of the findings before it) of every row whose id is sound and new."""
    seen: set[int] = set()
    disputed = _disputed_ids(rows) if findings.skip_bad and one != "annotation" else ()
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
            mark = findings.mark()
            if row_id in disputed:
                findings.error(f"{many}[{index}] has {one} id {row_id}, as a later one has", _UNIQUE_RULE)
            yield row_id, f"{one} {row_id}", row, mark


def _disputed_ids(rows: list[Any]) -> set[int]:
    """The ids of several rows that do not say the same: what refers to such an id may mean any of them."""
    first: dict[int, Any] = {}
    with_ids = (row for row in rows if isinstance(row, dict) and is_id(row.get("id")))
    return {row["id"] for row in with_ids if first.setdefault(row["id"], row) != row}


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
        if width * height > MOST_PIXELS:
            findings.error(f"{item} {_says(row, 'width')} and {_says(row, 'height')}", _PIXELS_RULE)
        return int(width), int(height)
    findings.error(f"{item} {_says(row, 'width')} and {_says(row, 'height')}", _SIZE_RULE)
    return 0, 0


def _is_side(value: Any) -> TypeGuard[float]:
    return is_number(value) and 1 <= value <= FARTHEST_PIXEL and value == int(value)


# --- annotations -----------------------------------------------------------------------------------------------------


def _read_annotations(
    rows: list[Any], images: _Listed[ImageRecord], categories: _Listed[str], findings: Findings
) -> Iterator[tuple[int, Annotation]]:
    """(image id, annotation) of every sound row, in file order."""
    followers: Counter[int] = Counter()
    for annotation_id, item, row, mark in _rows_with_ids(rows, "annotation", "annotations", findings):
        gone = _line_of(row.get("image_id"), images)
        if gone is None:
            gone = _line_of(row.get("category_id"), categories)
        if gone is not None:
            followers[gone] += 1
            continue
        annotation = _read_annotation(annotation_id, row, images.sound, categories.sound, item, findings)
        if not findings.is_bad(mark) and annotation is not None:
            yield row["image_id"], annotation
    for line, count in followers.items():
        findings.left_out[line] += f"; left out with its {count} annotation{'s' if count > 1 else ''}"


def _leave_out_emptied(
    rows: list[Any], images: _Listed[ImageRecord], objects: Mapping[int, object], findings: Findings
) -> None:
    """Images all of whose annotations were left out go too."""
    annotated = {row["image_id"] for row in rows if isinstance(row, dict) and is_id(row.get("image_id"))}
    for image_id in [image_id for image_id in images.sound if image_id in annotated and image_id not in objects]:
        del images.sound[image_id]
        findings.left_out.append(f"{findings.source}: image {image_id} has no sound annotation left and goes with them")


def _line_of(listed_id: Any, listed: _Listed[Any]) -> int | None:
    return listed.left_out.get(listed_id) if is_id(listed_id) else None


def _read_annotation(
    annotation_id: int,
    row: dict[str, Any],
    images: Mapping[int, ImageRecord],
    categories: Mapping[int, str],
    item: str,
    findings: Findings,
) -> Annotation | None:
    """None, or an annotation with something empty in it, where there are errors."""
    image_id = _listed_id("image_id", row, images, item, findings, _IMAGE_RULE)
    category_id = _listed_id("category_id", row, categories, item, findings, _CATEGORY_RULE)
    if image_id is None or category_id is None:
        return None
    image, where = images[image_id], f"{item} of image {image_id}"
    box = _read_box(row, image, where, findings)
    if box is None:
        return None
    segmentation = _read_segmentation(row, image, where, findings)
    return Annotation(
        id=annotation_id,
        category_id=category_id,
        bbox=box,
        area=_read_area(row, box, segmentation, where, findings),
        iscrowd=_read_crowd(row, where, findings),
        segmentation=segmentation,
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


def _read_box(row: dict[str, Any], image: ImageRecord, item: str, findings: Findings) -> Box | None:
    box = as_box(row.get("bbox"))
    if box is None:
        findings.error(f"{item} {_says(row, 'bbox')}", _BOX_RULE)
        return None
    said = f"bbox {shown(row['bbox'])}"
    return box if check_box(box, image.width, image.height, item, said, findings) else None


def as_box(value: Any) -> Box | None:
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
        findings.remark(DEGENERATE_REMARK, degenerate)
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
