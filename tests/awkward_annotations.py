"""Annotation files with one thing wrong or unusual in each, made from a sound one, and pictures for them.

They have the names, and meet the reader with the same words, as those of the reference data `awkward`, so that one
table of what is expected serves both.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

Coco = dict[str, Any]

NAMES = ("car", "person", "potted plant", "cell phone", "horse", "bowl", "banana", "apple")
# The categories of the objects in images 1, 2 and 3.
OBJECTS = ((1, 2, 3, 3, 4, 3), (5, 2, 2, 5), (6, 7, 7, 7, 7, 7, 8, 8, 8))
SIZES = ((320, 212), (320, 212), (320, 240))


def sound() -> Coco:
    """Three images with 19 objects of 8 classes, 60 px squares in rows of three; nothing wrong."""
    annotations: list[dict[str, Any]] = []
    for image_id, categories in enumerate(OBJECTS, start=1):
        for place, category_id in enumerate(categories):
            x, y = 5 + 65 * (place % 3), 5 + 65 * (place // 3)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": [x, y, 60, 60],
                    "area": 3600,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + 60, y, x + 60, y + 60, x, y + 60]],
                }
            )
    images = [{"id": i, "file_name": f"ok_{i}.jpg", "width": w, "height": h} for i, (w, h) in enumerate(SIZES, start=1)]
    return {"images": images, "annotations": annotations, "categories": _categories(range(1, 9))}


def _categories(ids: Any) -> list[dict[str, Any]]:
    return [{"id": category_id, "name": name} for category_id, name in zip(ids, NAMES, strict=True)]


Change = Callable[[Coco], object]


def _set(section: str, row: int, **values: Any) -> Change:
    return lambda coco: coco[section][row].update(values)


def _without(section: str, row: int, key: str) -> Change:
    return lambda coco: coco[section][row].pop(key)


def _every(section: str, change: Change) -> Change:
    return lambda coco: [change(row) for row in coco[section]]


def _all(*changes: Change) -> Change:
    return lambda coco: [change(coco) for change in changes]


def _new_ids(section: str, key: str, new: Callable[[int], Any]) -> Change:
    """All ids of a list replaced, and where annotations refer to them."""
    return _all(
        _every(section, lambda row: row.update(id=new(row["id"]))),
        _every("annotations", lambda row: row.update({key: new(row[key])})),
    )


def _polygon(*points: int) -> Change:
    return _set("annotations", 0, segmentation=[list(points)])


def _crowd(segmentation: dict[str, Any]) -> Change:
    """A crowd region in image 1, columns 250 to 259 of its 320: 250 x 212 = 53000 pixels before, 2120 in it."""
    row = {"id": 20, "image_id": 1, "category_id": 1, "bbox": [250, 0, 10, 212], "area": 2120, "iscrowd": 1}
    return lambda coco: coco["annotations"].append({**row, "segmentation": segmentation})


GAPS = (7, 19, 20, 44, 90, 2, 15, 33)

CHANGES: dict[str, Change] = {
    "annotation_without_bbox": _without("annotations", 1, "bbox"),
    "annotation_without_category": _without("annotations", 1, "category_id"),
    "annotation_without_id": _without("annotations", 1, "id"),
    "annotation_without_image": _without("annotations", 1, "image_id"),
    "box_outside": _set("annotations", 0, bbox=[1000, 1000, 50, 50]),
    "box_partly_outside": _set("annotations", 0, bbox=[-20, -20, 380, 272]),
    "broken_files": _all(
        _set("images", 0, file_name="truncated.jpg"),
        _set("images", 1, file_name="zero_bytes.jpg"),
        _set("images", 2, file_name="text.jpg"),
    ),
    "category_gaps": _new_ids("categories", "category_id", lambda i: GAPS[i - 1]),
    "category_ids_from_zero": _new_ids("categories", "category_id", lambda i: i - 1),
    "crowd_rle": _crowd({"size": [212, 320], "counts": [53000, 2120, 12720]}),
    "crowd_rle_compressed": _crowd({"size": [212, 320], "counts": "Xhc1XR2`]<"}),
    "crowd_without_mask": _set("annotations", 0, iscrowd=1, segmentation=[]),
    "duplicate_annotation_ids": _set("annotations", 1, id=1),
    "duplicate_category_ids": _set("categories", 1, id=1),
    "duplicate_image_ids": _set("images", 1, id=1),
    "duplicate_image_names": _set("images", 1, file_name="ok_1.jpg"),
    "empty_annotations": lambda coco: coco.update(annotations=[]),
    "empty_images": lambda coco: coco.update(images=[], annotations=[]),
    "exif_size": _set("images", 0, file_name="exif_6.jpg"),
    "extra_keys": _all(
        lambda coco: coco.update(info=None, licenses=None, more=[1]),
        _every("images", lambda row: row.update(license=None, url=1)),
        _every("annotations", lambda row: row.update(attributes={"occluded": True}, keypoints=[])),
    ),
    "good": lambda coco: None,
    "image_ids_from_zero": _new_ids("images", "image_id", lambda i: i - 1),
    "image_without_file_name": _without("images", 1, "file_name"),
    "image_without_size": _every("images", lambda row: (row.pop("width"), row.pop("height"))),
    "missing_files": _all(
        _set("images", 0, file_name="nowhere_1.jpg"), _set("images", 1, file_name="sub/nowhere_2.jpg")
    ),
    "nan_box": _set("annotations", 0, bbox=[float("nan"), 46.4, 139.6, 135.0]),
    "negative_box": _set("annotations", 0, bbox=[120, 110, -60, -50]),
    "negative_category_id": _new_ids("categories", "category_id", lambda i: i - 2),
    "no_annotations": lambda coco: coco.pop("annotations"),
    "no_categories": lambda coco: coco.pop("categories"),
    "no_images": lambda coco: coco.pop("images"),
    "no_iscrowd_no_area": _every(
        "annotations", lambda row: [row.pop(key) for key in ("iscrowd", "area", "segmentation")]
    ),
    "null_box": _set("annotations", 0, bbox=None),
    "one_empty_image": lambda coco: coco.update(annotations=coco["annotations"][:10]),
    "path_traversal": _set("images", 0, file_name="../../../../../../etc/hostname"),
    "paths_in_names": _every("images", lambda row: row.update(file_name=f"images/{row['file_name']}")),
    "polygon_empty": _polygon(),
    "polygon_outside": _polygon(-50, -50, 370, -50, 370, 262, -50, 262),
    "polygon_two_points": _polygon(10, 10, 50, 50),
    "short_box": _set("annotations", 0, bbox=[10, 20, 30]),
    "string_ids": _all(
        _new_ids("categories", "category_id", str),
        _new_ids("images", "image_id", str),
        _every("annotations", lambda row: row.update(id=str(row["id"]))),
    ),
    "unknown_category": _set("annotations", 0, category_id=77),
    "unknown_image": _set("annotations", 0, image_id=77),
    "unused_category": lambda coco: coco["categories"].append({"id": 9, "name": "unicorn"}),
    "utf8_names": _all(
        _set("images", 0, file_name="Zürich 日本語 café.jpg"),
        _set("categories", 0, name="Straßenbahn"),
        _set("categories", 3, name="🐴"),
    ),
    "wrong_size": _every("images", lambda row: row.update(width=row["height"], height=row["width"])),
    "zero_area_box": _all(_set("annotations", 0, bbox=[50, 50, 0, 30]), _set("annotations", 1, bbox=[50, 50, 30, 0])),
}

# What no change to a parsed file can make: the text itself is damaged.
TEXTS: dict[str, str] = {"empty_file": "", "truncated": json.dumps(sound())[:2000]}


def write_awkward(root: Path) -> Path:
    """`images/` and `annotations/NAME.json`, one for each name."""
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    _write_images(root / "images")
    for name, change in CHANGES.items():
        coco = copy.deepcopy(sound())
        change(coco)
        (root / "annotations" / f"{name}.json").write_text(json.dumps(coco), encoding="utf-8")
    for name, text in TEXTS.items():
        (root / "annotations" / f"{name}.json").write_text(text, encoding="utf-8")
    return root


def _write_images(folder: Path) -> None:
    for number, size in enumerate(SIZES, start=1):
        Image.linear_gradient("L").resize(size).convert("RGB").save(folder / f"ok_{number}.jpg")
    whole = (folder / "ok_1.jpg").read_bytes()
    (folder / "Zürich 日本語 café.jpg").write_bytes(whole)
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    (folder / "zero_bytes.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no picture")
    turned, buffer = Image.Exif(), BytesIO()
    turned[0x0112] = 6  # a quarter turn: stored 212 x 320, upright 320 x 212
    Image.new("RGB", (212, 320)).save(buffer, "JPEG", exif=turned)
    (folder / "exif_6.jpg").write_bytes(buffer.getvalue())
