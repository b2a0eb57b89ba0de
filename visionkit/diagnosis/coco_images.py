"""The categories and images of a COCO file, row by row: what is wrong with them, and what a repair makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from visionkit.diagnosis.geometry import Box, inside
from visionkit.diagnosis.notebook import Notebook, Row
from visionkit.errors import DataError
from visionkit.formats.coco import as_box, is_id, is_number
from visionkit.formats.coco_segmentation import FARTHEST_PIXEL, MOST_PIXELS
from visionkit.formats.dataset_files import is_one_line
from visionkit.formats.findings import Findings, shown
from visionkit.formats.image_files import find_image
from visionkit.imaging.header import read_header
from visionkit.imaging.reader import check_image

Look = Callable[[Path], None] | None


@dataclass(slots=True)
class Listed:
    """What annotations may refer to, by the id that the repaired file has.

    Args:
        rows: id -> the row that stays.
        disputed: ids of several rows that differ: what refers to one may mean any of them.
        gone: ids of rows that a repair removes; their annotations go with them.
    """

    rows: dict[int, Row] = field(default_factory=dict)
    disputed: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)


@dataclass(slots=True)
class ImageFacts:
    """What is known of an image once its row and its file were looked at.

    Args:
        width, height: of the upright picture in pixels, from the file if it can be read; 0 where nobody knows.
        path: of the file, if there is one.
        turn: the EXIF orientation and the stored width and height, where the annotations are made for the picture as
            it is stored.
    """

    width: int
    height: int
    path: Path | None = None
    turn: tuple[int, int, int] | None = None


def with_sound_ids(rows: list[Row], one: str, book: Notebook) -> Listed:
    """Look at the ids of a list of categories or images.

    Twins, rows that say the same under one id, are removed but for the first. Rows that differ under one id stay, and
    so does the error: nobody but their author knows whose the annotations are.
    """
    listed = Listed()
    for row in rows:
        if row.removed:
            continue
        value = row.content.get("id")
        row.call(f"{one} {shown(value)}" if "id" in row.content else f"{row.list_name}[{row.index}]")
        number = as_whole_number(value)
        if number is None:
            book.find("VK101", row, f"has {one} id {shown(value)}" if "id" in row.content else "has no id")
            continue
        if not is_id(value):
            book.find("VK103", row, f"has {one} id {shown(value)}", {"id": number})
        first = listed.rows.get(number)
        if first is None:
            listed.rows[number] = row
        elif {**row.content, "id": number} == {**first.content, "id": number}:
            book.find("VK102", row, f"says the same as {first.list_name}[{first.index}]", remove=True)
        else:
            listed.disputed.add(number)
            book.find("VK102", row, f"has {one} id {number} again, and says something else")
    return listed


def as_whole_number(value: Any) -> int | None:
    """An id, also where it is written as text or as 3.0."""
    if is_id(value):
        return value
    if isinstance(value, float) and value.is_integer() and is_id(int(value)):
        return int(value)
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal() and is_id(int(value)):
        return int(value)
    return None


def examine_categories(rows: list[Row], book: Notebook) -> Listed:
    """Ids and names of the categories."""
    listed = with_sound_ids(rows, "category", book)
    names: dict[str, Row] = {}
    for row in listed.rows.values():
        name = row.content.get("name")
        if not isinstance(name, str) or not name.strip():
            book.find("VK106", row, f"has name {shown(name)}" if "name" in row.content else "has no name")
        elif name in names:
            book.find("VK106", row, f"is named {shown(name)}, as {names[name].name} is")
        elif not is_one_line(name):
            book.find("VK106", row, f"has name {shown(name)}, more than a line of text")
        else:
            names[name] = row
    return listed


def examine_images(
    rows: list[Row], boxes: dict[int, list[Box]], images_dir: Path | None, book: Notebook, look: Look
) -> tuple[Listed, dict[int, ImageFacts]]:
    """Ids, files and sizes of the images.

    Args:
        boxes: image id -> the boxes on it that are four finite numbers; they tell what size they are made for.
        images_dir: where the files lie; None looks at no file.
        look: decodes a picture, or raises DataError; None looks at headers only.
    """
    listed = with_sound_ids(rows, "image", book)
    facts = {}
    for image_id, row in listed.rows.items():
        facts[image_id] = _examine_image(row, boxes.get(image_id, []), images_dir, book, look)
        if row.removed:
            listed.gone.add(image_id)
    named = Counter(fact.path or listed.rows[image_id].content.get("file_name") for image_id, fact in facts.items())
    for image_id, fact in facts.items():
        key = fact.path or listed.rows[image_id].content.get("file_name")
        if named[key] > 1 and not listed.rows[image_id].removed:
            book.find("VK109", listed.rows[image_id], f"is of {shown(listed.rows[image_id].content.get('file_name'))}")
            named[key] = 0  # one finding a file, not one an image
    return listed, facts


def _examine_image(row: Row, boxes: list[Box], images_dir: Path | None, book: Notebook, look: Look) -> ImageFacts:
    width, height = _declared_size(row, book)
    name = row.content.get("file_name")
    if not isinstance(name, str) or not name:
        fact = f"has file_name {shown(name)}" if "file_name" in row.content else "has no file_name"
        book.find("VK401", row, fact, remove=True)
        return ImageFacts(width, height)
    if row.origin is not None:
        return _with_picture(row, (width, height), row.origin.picture, boxes, book, look)
    if images_dir is None:
        return ImageFacts(width, height)
    trouble = Findings(book.file)
    path = find_image(name, images_dir, row.name, trouble)
    if path is None:
        climbs = any("inside the folder" in rule for rule in trouble.errors)
        book.find("VK403" if climbs else "VK402", row, f"names {shown(name)}", remove=True)
    return _with_picture(row, (width, height), path, boxes, book, look)


def _with_picture(
    row: Row, declared: tuple[int, int], path: Path | None, boxes: list[Box], book: Notebook, look: Look
) -> ImageFacts:
    """What is known once the file at `path` was looked at; None for that of an image that has none, which was told."""
    if path is None:
        return ImageFacts(*declared)
    try:
        real = check_image(path)
        if look is not None:
            look(path)
    except DataError as error:
        book.find("VK404", row, str(error), remove=True)
        return ImageFacts(*declared)
    return _with_size_of_file(row, declared, real, path, boxes, book)


def _declared_size(row: Row, book: Notebook) -> tuple[int, int]:
    """(width, height), or (0, 0) where the row has none that can be."""
    width, height = row.content.get("width"), row.content.get("height")
    if width is None and height is None:
        return 0, 0
    if _is_side(width) and _is_side(height) and width * height <= MOST_PIXELS:
        return int(width), int(height)
    book.find("VK408", row, f"has width {shown(width)} and height {shown(height)}")
    return 0, 0


def _is_side(value: Any) -> TypeGuard[float]:
    return is_number(value) and 1 <= value <= FARTHEST_PIXEL and value == int(value)


def _with_size_of_file(
    row: Row, declared: tuple[int, int], real: tuple[int, int], path: Path, boxes: list[Box], book: Notebook
) -> ImageFacts:
    size = {"width": real[0], "height": real[1]}
    if declared == (0, 0):
        broken = row.content.get("width") is not None or row.content.get("height") is not None
        if broken:
            book.mend_last(row, size)
        else:
            book.find("VK407", row, f"has no width and height, the file is {real[0]}x{real[1]}", size)
        return ImageFacts(*real, path)
    if declared == real:
        return ImageFacts(*real, path)
    words = f"is declared {declared[0]}x{declared[1]} and the upright picture is {real[0]}x{real[1]}"
    with path.open("rb") as file:
        header = read_header(file, str(path))
    fit_real, fit_declared = (all(inside(box, *sides) for box in boxes) for sides in (real, declared))
    if header.orientation > 1 and declared == (header.width, header.height) and (fit_declared or not fit_real):
        book.find("VK406", row, f"{words}, turned by EXIF orientation {header.orientation}", size)
        return ImageFacts(*real, path, (header.orientation, header.width, header.height))
    if fit_real:
        book.find("VK405", row, words, size)
        return ImageFacts(*real, path)
    book.find("VK405", row, f"{words}; its boxes fit {'the declared size only' if fit_declared else 'neither'}")
    return ImageFacts(*declared, path)


def four_numbers(content: Any) -> dict[Any, list[Box]]:
    """Image reference as written -> boxes of four finite numbers on it, whatever else is wrong with them."""
    boxes: dict[Any, list[Box]] = {}
    for row in content:
        box = as_box(row.get("bbox")) if isinstance(row, dict) else None
        if box is not None and box[2] > 0 and box[3] > 0:
            boxes.setdefault(as_whole_number(row.get("image_id")), []).append(box)
    return boxes


def areas_without_masks(content: Any) -> list[tuple[float, Box]]:
    """Areas as written, each with its box, of annotations that have both and no segmentation."""
    known = (row for row in content if isinstance(row, dict) and not row.get("segmentation"))
    pairs = ((row.get("area"), as_box(row.get("bbox"))) for row in known)
    return [(float(area), box) for area, box in pairs if is_number(area) and box is not None]
