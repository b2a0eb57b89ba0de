"""What a COCO file says beside what records hold, such as licences and `extra.patient`; read to be written again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from visionkit.formats.coco_layouts import CocoSplit
from visionkit.formats.dataset_layout import Split
from visionkit.formats.json_file import read_json
from visionkit.formats.kept_ids import KeptIds
from visionkit.formats.records import AnnotatedImages

_IMAGE_KEYS = ("id", "file_name", "width", "height")
_ANNOTATION_KEYS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")
_CATEGORY_KEYS = ("id", "name")
_LISTS = ("images", "annotations", "categories")


@dataclass(frozen=True, slots=True)
class About:
    """What a COCO file says of no image and no object.

    Args:
        file: its further keys, such as `info` and `licenses`.
        categories: category id -> the further keys of its row, such as `supercategory`.
    """

    file: Mapping[str, Any] = field(default_factory=dict)
    categories: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


def read_with_extras(files: Split, *, skip_bad: bool = False) -> tuple[AnnotatedImages, About]:
    """A split whose records have their `extra`, and what its file says besides. Raises DataError as the split."""
    found = files.read(skip_bad=skip_bad)
    if isinstance(files, KeptIds):  # restores the extras of records itself
        kept = files.kept()
        about = kept.get("about")
        categories = {row["id"]: row.get("extra", {}) for row in kept["categories"]}
        return found, About(about if isinstance(about, dict) else {}, categories)
    if not isinstance(files, CocoSplit):
        return found, About()
    content = read_json(files.annotations)
    of_images = _extras(content["images"], _IMAGE_KEYS)
    of_objects = _extras(content["annotations"], _ANNOTATION_KEYS)
    images = tuple(
        replace(
            image,
            extra=of_images.get(image.id),
            annotations=tuple(replace(a, extra=of_objects.get(a.id)) for a in image.annotations),
        )
        for image in found.images
    )
    about = {key: value for key, value in content.items() if key not in _LISTS}
    return replace(found, images=images), About(about, _extras(content["categories"], _CATEGORY_KEYS))


def _extras(rows: Iterable[Any], known: tuple[str, ...]) -> dict[int, dict[str, Any]]:
    """Id -> the further keys of its row, of the rows that have any."""
    extras: dict[int, dict[str, Any]] = {}
    for row in rows:
        if isinstance(row, dict) and type(row.get("id")) is int:
            extra = {key: value for key, value in row.items() if key not in known}
            if extra:
                extras.setdefault(row["id"], extra)
    return extras
