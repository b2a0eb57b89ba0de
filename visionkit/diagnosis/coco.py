"""A COCO annotation file, looked through: every finding, and the file as a repair would leave it.

Nothing is read twice by two rules: what a finding says and what a repair does to the row are decided in one place
(`Notebook.find`), so `doctor` and `doctor --fix` cannot come apart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from visionkit.diagnosis.coco_annotations import AnnotationExaminer, habit_of
from visionkit.diagnosis.coco_images import (
    ImageFacts,
    Look,
    areas_without_masks,
    examine_categories,
    examine_images,
    four_numbers,
)
from visionkit.diagnosis.findings import Change, Examination, Finding, ListName
from visionkit.diagnosis.notebook import Notebook, Row
from visionkit.errors import DataError
from visionkit.formats.json_file import read_json

ROW_LISTS: tuple[ListName, ...] = ("images", "annotations", "categories")


def examine_coco(file: Path, images_dir: Path | None = None, look: Look = None) -> Examination:
    """Everything that is wrong or odd in a COCO annotation file.

    Args:
        images_dir: where the images lie; None looks at no image.
        look: called with the path of every image; decodes it, 2 ms, and raises DataError where it cannot. None finds
            only what the header and the end of a file show.

    A file that cannot be read as COCO at all has one finding, and no repair.
    """
    try:
        content = read_json(file)
    except DataError as error:
        return Examination(file, [Finding("VK001", file, "", str(error).removeprefix(f"{file} "))])
    if not isinstance(content, dict):
        return Examination(file, [Finding("VK001", file, "", "holds no object with images, annotations, categories")])
    missing = [name for name in ROW_LISTS if not isinstance(content.get(name), list)]
    if missing:
        return Examination(file, [Finding("VK002", file, "", f"has no list of {name}") for name in missing])
    empty = [name for name in ("images", "categories") if not content[name]]
    if empty:
        return Examination(file, [Finding("VK002", file, "", f"lists no {name}") for name in empty])
    book = Notebook(file)
    rows = Rows(*(book.rows(name, content[name]) for name in ROW_LISTS))
    examine_rows(rows, book, images_dir, look)
    find_unused(rows, book)
    return Examination(file, book.findings, rows.changes(), {**content, **rows.repaired()})


@dataclass(slots=True)
class Rows:
    """The rows of a file by their lists."""

    images: list[Row]
    annotations: list[Row]
    categories: list[Row]

    def changes(self) -> list[Change]:
        """What a repair changes."""
        every = chain(self.images, self.annotations, self.categories)
        return [change for row in every if (change := row.change) is not None]

    def repaired(self) -> dict[str, list[dict[str, Any]]]:
        """The lists as a repair leaves them."""
        lists = zip(ROW_LISTS, (self.images, self.annotations, self.categories), strict=True)
        return {name: [row.content for row in rows if not row.removed] for name, rows in lists}


def examine_rows(rows: Rows, book: Notebook, images_dir: Path | None, look: Look) -> dict[int, ImageFacts]:
    """Every finding on rows of COCO, or on rows made of another format, goes into the book, every repair into the rows.

    Args as `examine_coco`.

    Returns:
        What is known of each image, by id.
    """
    categories = examine_categories(rows.categories, book)
    annotations = [row.content for row in rows.annotations]
    boxes = four_numbers(annotations)
    images, facts = examine_images(rows.images, boxes, images_dir, book, look)
    sized = (
        (box, facts[image_id].width, facts[image_id].height)
        for image_id, own in boxes.items()
        if image_id in facts
        for box in own
    )
    habit = habit_of(sized, areas_without_masks(annotations))
    AnnotationExaminer(images, facts, categories, habit, book).examine(rows.annotations)
    return facts


def find_unused(rows: Rows, book: Notebook) -> None:
    """Categories without objects."""
    used = Counter(row.content.get("category_id") for row in rows.annotations if not row.removed)
    if not used:
        return
    for row in rows.categories:
        if not row.removed and row.content.get("id") not in used:
            book.find("VK108", row, f"({row.content.get('name')}) has no object")
