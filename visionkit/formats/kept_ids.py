"""`visionkit_ids.json`: what a converted dataset's own format has no place for, so that the way back restores it.

VOC, YOLO, LabelMe and CVAT have no ids of objects, most none of categories, and count anew. This file beside them
keeps, for each split, the categories, the images by the names of their files, and of each object that the format holds
its id, box and area; and what else the rows of a COCO file said. Whoever reads the dataset gets the ids that it had.
Objects are found again by class and box, so the dataset may be edited: what is new is numbered after all that is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.boxes import Box
from visionkit.formats.coco import as_box, is_id, is_number
from visionkit.formats.coco_layouts import CocoSplit
from visionkit.formats.dataset_files import is_one_line, read_bytes
from visionkit.formats.dataset_layout import DatasetLayout, Split
from visionkit.formats.json_file import read_json
from visionkit.formats.object_fields import merged_extras
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord

FILE = "visionkit_ids.json"
SCHEMA = "visionkit.ids/1"

SAME_BOX = 0.1
"""Pixels. A box whose sides all lie this near to those of a kept one is the kept one, rounded by some tool."""

NEW_OBJECTS_REMARK = f"objects that {FILE} does not know, numbered after those it does"
NEW_IMAGES_REMARK = f"images that {FILE} does not know, numbered after those it does"
NEW_CLASSES_REMARK = f"classes that {FILE} does not know, numbered after those it does"


@dataclass(frozen=True, slots=True)
class KeptIds:
    """A split whose ids are restored after its own files are read.

    Args:
        files: the split by its own format.
        file: the side file.
        name: of the split.
    """

    files: Split
    file: Path
    name: str

    def read(self, *, skip_bad: bool = False) -> AnnotatedImages:
        """The split with the ids, names, boxes and areas that were kept. Raises DataError also where the side file is
        broken."""
        found = self.files.read(skip_bad=skip_bad)
        return _restored(found, self.kept())

    def content(self) -> Iterator[bytes]:
        yield read_bytes(self.file, "the file of kept ids")
        yield from self.files.content()

    def kept(self) -> dict[str, Any]:
        """What the side file has of the split, checked: `about`, `categories` and `images`.

        Raises:
            DataError: it is broken.
        """
        content = read_json(self.file)
        kept = content["splits"].get(self.name) if _is_ours(content) else None
        if not isinstance(kept, dict) or not _is_sound(kept):
            raise DataError(
                f"{self.file} is not what visionkit wrote, it must keep the ids of {self.name}; convert again, or "
                "remove the file to have all ids counted anew"
            )
        return kept


def with_kept_ids(layout: DatasetLayout) -> DatasetLayout:
    """A layout whose splits have the ids of the side file, where there is one. COCO has ids of its own."""
    file = layout.root / FILE
    if not file.is_file() or any(isinstance(files, CocoSplit) for files in layout.splits.values()):
        return layout
    splits: dict[str, Split] = {name: KeptIds(files, file, name) for name, files in layout.splits.items()}
    return replace(layout, splits=splits, words=f"{layout.words}, ids of {FILE}")


def kept_image(image: ImageRecord, file: str, held: Sequence[tuple[Annotation, Box]]) -> dict[str, Any]:
    """An image as the side file keeps it.

    Args:
        file: the name that the format's reader gives it.
        held: its objects that the format holds, each with the box that the reader will give it.
    """
    rows = []
    for annotation, box in held:
        row = {
            "id": annotation.id,
            "category_id": annotation.category_id,
            "bbox": list(annotation.bbox),
            "area": annotation.area,
        }
        if max(abs(a - b) for a, b in zip(box, annotation.bbox, strict=True)) > SAME_BOX / 2:
            row["held"] = list(box)
        if annotation.extra:
            row["extra"] = annotation.extra
        rows.append(row)
    kept = {"file": file, "id": image.id, "file_name": image.file_name, "annotations": rows}
    return {**kept, "extra": image.extra} if image.extra else kept


def _is_ours(content: Any) -> bool:
    return isinstance(content, dict) and content.get("schema") == SCHEMA and isinstance(content.get("splits"), dict)


def _is_sound(kept: dict[str, Any]) -> bool:
    if not all(isinstance(kept.get(key), list) for key in ("categories", "images")):
        return False
    categories, images = kept["categories"], kept["images"]
    if not all(isinstance(row, dict) and is_id(row.get("id")) and _is_text(row.get("name")) for row in categories):
        return False
    if not all(
        isinstance(row, dict)
        and is_id(row.get("id"))
        and isinstance(row.get("file"), str)
        and isinstance(row.get("file_name"), str)
        and isinstance(row.get("annotations"), list)
        for row in images
    ):
        return False
    objects = [row for image in images for row in image["annotations"]]
    if not all(isinstance(row, dict) and is_id(row.get("id")) and is_id(row.get("category_id")) for row in objects):
        return False
    category_ids = [row["id"] for row in categories]
    unique = category_ids, [row["name"] for row in categories], [r["id"] for r in images], [r["id"] for r in objects]
    return (
        all(len(set(values)) == len(values) for values in unique)
        and {row["category_id"] for row in objects} <= set(category_ids)
        and all(isinstance(row.get("extra", {}), dict) for row in (*categories, *images, *objects))
        and all(
            as_box(row.get("bbox")) is not None
            and as_box(row.get("held", row["bbox"])) is not None
            and is_number(row.get("area"))
            for row in objects
        )
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and is_one_line(value)


# --- the way back ----------------------------------------------------------------------------------------------------


def _restored(found: AnnotatedImages, kept: Mapping[str, Any]) -> AnnotatedImages:
    remarks = Counter(found.remarks)
    classes, category_id_of = _restored_classes(found.classes, kept["categories"], remarks)
    rows = {row["file"]: row for row in kept["images"]}
    new_images = count(max((row["id"] for row in kept["images"]), default=0) + 1)
    ids = (object_row["id"] for row in kept["images"] for object_row in row["annotations"])
    new_objects = count(max(ids, default=0) + 1)
    images: list[ImageRecord] = []
    for image in found.images:
        row = rows.get(image.file_name)
        relabelled = [replace(a, category_id=category_id_of[a.category_id]) for a in image.annotations]
        objects = _restored_objects(relabelled, row["annotations"] if row else (), new_objects, remarks)
        if row is None:
            remarks[NEW_IMAGES_REMARK] += 1
            images.append(replace(image, id=next(new_images), annotations=objects))
        else:
            images.append(
                replace(image, id=row["id"], file_name=row["file_name"], annotations=objects, extra=row.get("extra"))
            )
    place = {row["id"]: i for i, row in enumerate(kept["images"])}
    images.sort(key=lambda image: place.get(image.id, len(place)))
    return replace(found, classes=classes, images=tuple(images), remarks=remarks)


def _restored_classes(
    found: ClassTable, kept: Sequence[Mapping[str, Any]], remarks: Counter[str]
) -> tuple[ClassTable, dict[int, int]]:
    """The class table, and the kept id of each category id as read. Formats lose the blanks around a name."""
    table = {row["id"]: row["name"] for row in kept}
    id_of = {name.strip(): category_id for category_id, name in table.items()}
    free = count(max(table, default=0) + 1)
    category_id_of: dict[int, int] = {}
    for category_id, name in zip(found.category_ids, found.names, strict=True):
        if name.strip() not in id_of:
            remarks[NEW_CLASSES_REMARK] += 1
            id_of[name.strip()] = next(free)
            table[id_of[name.strip()]] = name
        category_id_of[category_id] = id_of[name.strip()]
    return ClassTable.of_categories(table.items()), category_id_of


def _restored_objects(
    found: Sequence[Annotation], kept: Sequence[Mapping[str, Any]], new_ids: Iterator[int], remarks: Counter[str]
) -> tuple[Annotation, ...]:
    left = list(kept)
    objects: list[Annotation] = []
    for annotation in found:
        # Nothing was edited, mostly: then it is the first.
        place = next((i for i, row in enumerate(left) if _is_same(annotation, row)), None)
        if place is None:
            remarks[NEW_OBJECTS_REMARK] += 1
            objects.append(replace(annotation, id=next(new_ids)))
            continue
        row = left.pop(place)
        box = as_box(row["bbox"])
        assert box is not None
        extra = merged_extras(row.get("extra"), annotation.extra)
        objects.append(replace(annotation, id=row["id"], bbox=box, area=float(row["area"]), extra=extra))
    return tuple(objects)


def _is_same(annotation: Annotation, row: Mapping[str, Any]) -> bool:
    held = row.get("held", row["bbox"])
    return annotation.category_id == row["category_id"] and all(
        abs(a - b) <= SAME_BOX for a, b in zip(annotation.bbox, held, strict=True)
    )
