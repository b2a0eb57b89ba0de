"""Truth and detections as the rows COCO evaluation compares: fresh dicts, sound ids, one box, mask and area each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from pycocotools import mask as coco_mask

from visionkit.errors import DataError, UsageError
from visionkit.formats.records import AnnotatedImages, ImageRecord

Task = Literal["bbox", "segm"]


def check_task(task: str) -> None:
    """Raises UsageError unless the task is one of `Task`."""
    if task not in get_args(Task):
        raise UsageError(f"task must be one of {', '.join(get_args(Task))}, got {task!r}; choose one of them")


def truth_rows(truth: AnnotatedImages, task: Task) -> list[dict[str, Any]]:
    """Every annotation as `{"id", "image_id", "category_id", "bbox", "area", "iscrowd"[, "segmentation"]}`.

    Ids are renumbered from 1, because pycocotools takes a match with id 0 for no match. For `segm` each segmentation
    is a compressed RLE.

    Raises:
        DataError: the task is `segm` and an annotation has no segmentation.
    """
    rows: list[dict[str, Any]] = []
    for image in truth.images:
        for annotation in image.annotations:
            row: dict[str, Any] = {
                "id": len(rows) + 1,
                "image_id": image.id,
                "category_id": annotation.category_id,
                "bbox": list(annotation.bbox),
                "area": annotation.area,
                "iscrowd": int(annotation.iscrowd),
            }
            if task == "segm":
                what = f"annotation {annotation.id} of image {image.id}"
                row["segmentation"] = _rle(annotation.segmentation, image, what)
            rows.append(row)
    return rows


def detection_rows(truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], task: Task) -> list[dict[str, Any]]:
    """Every detection as `{"id", "image_id", "category_id", "score", "bbox", "area", "iscrowd"[, "segmentation"]}`.

    The rules are those of pycocotools' `loadRes`: where the first detection has a box, all must have one, and the
    area of each is its box's, even for `segm`; otherwise box and area are the mask's. (The area decides which
    unmatched detections count as false positives among small, medium and large objects.)

    Raises:
        DataError: an image or category the truth lacks, a box or mask missing, a box or score that is not finite.
    """
    images = {image.id: image for image in truth.images}
    _check_known("image ids", (d["image_id"] for d in detections), images, truth)
    _check_known("category ids", (d["category_id"] for d in detections), truth.classes.category_ids, truth)
    with_boxes = bool(detections) and _has_box(detections[0])
    rows: list[dict[str, Any]] = []
    for index, detection in enumerate(detections):
        image = images[detection["image_id"]]
        what = f"detection {index} (image {image.id})"
        row: dict[str, Any] = {
            "id": index + 1,
            "image_id": image.id,
            "category_id": detection["category_id"],
            "score": float(detection["score"]),
            "iscrowd": 0,
        }
        if task == "segm" or not with_boxes:
            row["segmentation"] = _rle(detection.get("segmentation"), image, what)
        if _has_box(detection):
            row["bbox"] = [float(v) for v in detection["bbox"]]
        elif with_boxes:
            raise DataError(f"{what} has no bbox, and the first detection has one; give all of them a bbox, or none")
        else:
            row["bbox"] = coco_mask.toBbox(row["segmentation"]).tolist()
        row["area"] = row["bbox"][2] * row["bbox"][3] if with_boxes else float(coco_mask.area(row["segmentation"]))
        rows.append(row)
    _check_finite(rows)
    return rows


def _has_box(detection: Mapping[str, Any]) -> bool:
    box = detection.get("bbox")
    return box is not None and len(box) > 0


def _check_known(kind: str, ids: Any, known: Any, truth: AnnotatedImages) -> None:
    unknown = sorted(set(ids) - set(known), key=str)
    if unknown:
        some = ", ".join(map(repr, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        raise DataError(
            f"detections name {len(unknown)} {kind} that {truth.source.name} lacks ({some}); "
            f"judge them against the annotations they were made for"
        )


def _check_finite(rows: Sequence[Mapping[str, Any]]) -> None:
    numbers = np.array([(*row["bbox"], row["score"]) for row in rows], np.float64).reshape(-1, 5)
    broken = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if len(broken):
        raise DataError(
            f"detection {broken[0]} (image {rows[broken[0]]['image_id']}) has a bbox or score that is not finite; "
            f"leave it out ({len(broken)} in all)"
        )


def _rle(segmentation: Any, image: ImageRecord, what: str) -> dict[str, Any]:
    """Polygons or an RLE of either kind as one compressed RLE of the image's size."""
    if not segmentation:
        raise DataError(f"{what} has no segmentation, which comparing masks needs; compare boxes with task bbox")
    if isinstance(segmentation, Mapping):
        if list(segmentation["size"]) != [image.height, image.width]:
            raise DataError(
                f"{what} has a mask of size {list(segmentation['size'])}, height and width of its image are "
                f"{[image.height, image.width]}; make masks in pixels of the original image"
            )
        if not isinstance(segmentation["counts"], list):
            return dict(segmentation)
        return dict(coco_mask.frPyObjects(dict(segmentation), image.height, image.width))
    return dict(coco_mask.merge(coco_mask.frPyObjects(segmentation, image.height, image.width)))
