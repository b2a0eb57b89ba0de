"""A dataset as COCO: `images/` and `annotations/{train,val,test}.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from visionkit.formats.extras import About
from visionkit.formats.new_dataset import Contents, NewDataset, short
from visionkit.formats.records import Annotation, ImageRecord

RENAMED = "pictures renamed, because another has their name"
SHORTENED = "file names that began with images/ or a folder elsewhere, and are relative to images/ now"


def write_coco(contents: Contents, new: NewDataset) -> None:
    """All that records and their extras say. An image keeps its file_name, but for a leading `images/`."""
    placed: dict[str, Path] = {}
    for split, images in contents.splits.items():
        about = contents.about.get(split, About())
        rows = [_image(image, _place(image, placed, new)) for image in images.images]
        objects = [_annotation(image.id, a) for image in images.images for a in image.annotations]
        categories = [{**row, **about.categories.get(row["id"], {})} for row in images.classes.to_json()]
        content = {**about.file, "images": rows, "annotations": objects, "categories": categories}
        new.write(f"annotations/{split}.json", json.dumps(content) + "\n")


def _place(image: ImageRecord, placed: dict[str, Path], new: NewDataset) -> str:
    """The name below `images/` that a picture got."""
    assert image.path is not None
    wanted = PureWindowsPath(image.file_name)
    # A name that leads elsewhere, as lists of YOLO may have it, is cut to its end.
    parts = wanted.parts if not wanted.anchor and ".." not in wanted.parts else (wanted.name,)
    name = first = PurePosixPath(*(parts[1:] if parts[0] == "images" and len(parts) > 1 else parts))
    new.remarks[SHORTENED] += first.parts != wanted.parts
    number = 1
    # Some file systems take `A.jpg` and `a.jpg` for one file.
    while placed.get(str(name).casefold(), image.path) != image.path:
        number += 1
        name = first.with_name(f"{first.stem}-{number}{first.suffix}")
    if number > 1:
        new.remarks[RENAMED] += 1
    if str(name).casefold() not in placed:
        placed[str(name).casefold()] = image.path
        new.place(image.path, f"images/{name}")
    return str(name)


def _image(image: ImageRecord, name: str) -> dict[str, Any]:
    row = {"id": image.id, "file_name": name, "width": image.width, "height": image.height}
    return {**row, **(image.extra or {})}


def _annotation(image_id: int, annotation: Annotation) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": annotation.id,
        "image_id": image_id,
        "category_id": annotation.category_id,
        "bbox": [short(side) for side in annotation.bbox],
        "area": short(annotation.area),
        "iscrowd": int(annotation.iscrowd),
    }
    segmentation = annotation.segmentation
    if isinstance(segmentation, Mapping):
        row["segmentation"] = segmentation
    elif segmentation is not None:
        row["segmentation"] = [[short(number) for number in polygon] for polygon in segmentation]
    return {**row, **(annotation.extra or {})}
