"""A COCO annotation file, looked through: every finding, and the file as a repair would leave it.

Nothing is read twice by two rules: what a finding says and what a repair does to the row are decided in one place
(`Notebook.find`), so `doctor` and `doctor --fix` cannot come apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from visionkit.diagnosis.coco_annotations import AnnotationExaminer, habit_of
from visionkit.diagnosis.coco_images import areas_without_masks, examine_categories, examine_images, four_numbers
from visionkit.diagnosis.findings import Examination, Finding
from visionkit.diagnosis.notebook import Notebook, Row
from visionkit.errors import DataError
from visionkit.formats.json_file import read_json

LISTS = ("images", "annotations", "categories")


def examine_coco(file: Path, images_dir: Path | None = None, look: Callable[[Path], None] | None = None) -> Examination:
    """Everything that is wrong or odd in a COCO annotation file.

    Args:
        images_dir: where the images lie; None looks at no image.
        look: called with the path of every image; decodes it, 2 ms, and raises DataError where it cannot. None finds
            only what the header and the end of a file show.

    A file that cannot be read as COCO at all has one finding, and no repair.
    """
    book = Notebook(file)
    try:
        content = read_json(file)
    except DataError as error:
        return Examination(file, [Finding("VK001", file, "", str(error).removeprefix(f"{file} "))])
    if not isinstance(content, dict):
        return Examination(file, [Finding("VK001", file, "", "holds no object with images, annotations, categories")])
    missing = [name for name in LISTS if not isinstance(content.get(name), list)]
    if missing:
        return Examination(file, [Finding("VK002", file, "", f"has no list of {name}") for name in missing])
    empty = [name for name in ("images", "categories") if not content[name]]
    if empty:
        return Examination(file, [Finding("VK002", file, "", f"lists no {name}") for name in empty])
    lists = {name: book.rows(name, content[name]) for name in LISTS}  # type: ignore[arg-type]
    categories = examine_categories(lists["categories"], book)
    boxes = four_numbers(content["annotations"])
    images, facts = examine_images(lists["images"], boxes, images_dir, book, look)
    sized = (
        (box, facts[image_id].width, facts[image_id].height)
        for image_id, own in boxes.items()
        if image_id in facts
        for box in own
    )
    AnnotationExaminer(
        images, facts, categories, habit_of(sized, areas_without_masks(content["annotations"])), book
    ).examine(lists["annotations"])
    _find_unused(lists["categories"], lists["annotations"], book)
    return Examination(
        file,
        book.findings,
        [change for rows in lists.values() for row in rows if (change := row.change) is not None],
        {**content, **{name: [row.content for row in rows if not row.removed] for name, rows in lists.items()}},
    )


def _find_unused(categories: list[Row], annotations: list[Row], book: Notebook) -> None:
    used = Counter(row.content.get("category_id") for row in annotations if not row.removed)
    if not used:
        return
    for row in categories:
        if not row.removed and row.content.get("id") not in used:
            book.find("VK108", row, f"({row.content.get('name')}) has no object")
