"""Rows of COCO made of another format, so that one set of rules judges boxes and outlines of all of them.

What only the other format can say of a row, it was told with: `Origin.told`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionkit.classes import ClassTable
from visionkit.diagnosis.coco import Rows, examine_rows, find_unused
from visionkit.diagnosis.coco_images import ImageFacts, Look
from visionkit.diagnosis.file_repair import RepairedCopy
from visionkit.diagnosis.findings import Examination, Finding
from visionkit.diagnosis.geometry import Box
from visionkit.diagnosis.notebook import Notebook, Origin, Row
from visionkit.errors import DataError
from visionkit.formats.coco import as_box
from visionkit.formats.coco_segmentation import segmentation_area
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord


@dataclass(slots=True)
class MadeRows:
    """The rows of one split, and what was found on the way that is of no row.

    Args:
        source: what findings on the split as a whole name.
        names: category id -> name.
    """

    source: Path
    names: Mapping[int, str]
    images: list[dict[str, Any]] = field(default_factory=list)
    image_origins: list[Origin] = field(default_factory=list)
    objects: list[dict[str, Any]] = field(default_factory=list)
    object_origins: list[Origin] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def find(self, code: str, file: Path, item: str, fact: str, *, repaired: bool = False) -> None:
        """A finding on what becomes no row."""
        self.findings.append(Finding(code, file, item, fact, repaired))

    def add_image(self, name: str, width: Any, height: Any, origin: Origin) -> int:
        """A row of images; its id, counted from 1."""
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        self.image_origins.append(origin)
        return image_id

    def add_object(
        self,
        image_id: int,
        category_id: int | None,
        box: Box | None,
        origin: Origin,
        segmentation: Any = None,
        iscrowd: int = 0,
    ) -> None:
        """A row of annotations; None for what `origin.told` says."""
        row = {
            "id": len(self.objects) + 1,
            "image_id": image_id,
            "category_id": category_id,
            "bbox": None if box is None else list(box),
            "iscrowd": iscrowd,
        }
        if segmentation is not None:
            row["segmentation"] = segmentation
        self.objects.append(row)
        self.object_origins.append(origin)

    def examine(self, look: Look, *, listed: bool = True) -> Examined:
        """Every finding, and the rows as a repair leaves them.

        Args:
            look: as of `examine_coco`.
            listed: whether the dataset lists its classes; else they are those that objects have.
        """
        book = Notebook(self.source, list(self.findings))
        categories = [{"id": category_id, "name": name} for category_id, name in self.names.items()]
        origins = [Origin(self.source, f"class {category_id}") for category_id in self.names]
        rows = Rows(
            book.rows("images", self.images, self.image_origins),
            book.rows("annotations", self.objects, self.object_origins),
            book.rows("categories", categories, origins),
        )
        facts = examine_rows(rows, book, None, look)
        if listed:
            find_unused(rows, book)
        return Examined(self, rows, facts, book.findings)


@dataclass(frozen=True, slots=True)
class Examined:
    """Made rows after they were looked at."""

    made: MadeRows
    rows: Rows
    facts: Mapping[int, ImageFacts]
    findings: list[Finding]

    def objects_by_image(self) -> Sequence[tuple[Row, list[Row]]]:
        """Each image with its objects, those that a repair removes too."""
        of_image: dict[int, list[Row]] = {row.content["id"]: [] for row in self.rows.images}
        for row in self.rows.annotations:
            of_image[row.content["image_id"]].append(row)
        return [(row, of_image[row.content["id"]]) for row in self.rows.images]

    def examination(self, file: Path, copy: Callable[[], RepairedCopy]) -> Examination:
        """All that is known of the split.

        Args:
            file: that names the split.
            copy: makes the files of a repaired copy, or raises DataError where there can be none.
        """
        found = Examination(file, self.findings, repaired=dict(self.rows.repaired()), truth=self.truth())
        try:
            found.copy = copy()
        except DataError as error:
            found.no_copy = str(error)
        return found

    def truth(self) -> AnnotatedImages | None:
        """What a repair leaves, as records; None where no image is left."""
        images = []
        for image, objects in self.objects_by_image():
            fact = self.facts.get(image.content["id"])
            if image.removed or fact is None or not fact.width:
                continue
            kept = tuple(found for row in objects if not row.removed and (found := _record(row)) is not None)
            images.append(
                ImageRecord(image.content["id"], image.content["file_name"], fact.path, fact.width, fact.height, kept)
            )
        if not images or not self.made.names:
            return None
        return AnnotatedImages(ClassTable.of_categories(self.made.names.items()), tuple(images), self.made.source)


def _record(row: Row) -> Annotation | None:
    box = as_box(row.content.get("bbox"))
    if box is None or min(box[2:]) <= 0:
        return None
    segmentation = row.content.get("segmentation") or None
    area = segmentation_area(segmentation) if segmentation else box[2] * box[3]
    crowd = bool(row.content["iscrowd"])
    return Annotation(row.content["id"], row.content["category_id"], box, area, crowd, segmentation)
