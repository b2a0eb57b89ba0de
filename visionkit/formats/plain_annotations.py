"""The usual case of a COCO file, in which every annotation is sound and whole: seen column by column, not row by row.

It decides as `visionkit.formats.coco` does row by row, or not at all: where anything is out of the ordinary, that has
the word, and its messages and remarks.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import DataError
from visionkit.formats.boxes import OVERHANG, OVERHANG_REMARK, SHORTEST_SIDE
from visionkit.formats.coco_segmentation import FARTHEST_PIXEL, checked_segmentation
from visionkit.formats.findings import Findings
from visionkit.formats.records import Annotation, ImageRecord

Floats = NDArray[np.float64]

KEYS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
NUMBERS = frozenset((int, float))
LARGEST_ID = 2**63
DEGENERATE_REMARK = "polygons of fewer than three points left out"


def plain_annotations(
    rows: list[Any], images: Mapping[int, ImageRecord], categories: Mapping[int, str], findings: Findings
) -> list[tuple[int, Annotation]] | None:
    """(image id, annotation) of every row, where all are sound and none lacks a key; None where it takes a closer look.

    Args:
        rows: the annotations of a parsed COCO file.
        images, categories: that are sound, by id.
        findings: get the remark on boxes that reach over the edge.
    """
    columns = _sound_columns(rows, images, categories)
    if columns is None:
        return None
    ids, image_ids, category_ids, box, area, crowds, sizes = columns
    annotations = []
    degenerate = 0
    values = zip(ids, category_ids, box.tolist(), area.tolist(), crowds, image_ids, rows, strict=True)
    for row_id, category_id, (x, y, width, height), row_area, crowd, image_id, row in values:
        segmentation = row.get("segmentation")
        if segmentation is not None:
            image = images[image_id]
            try:
                segmentation, empty = checked_segmentation(segmentation, image.width, image.height)
            except DataError:
                return None
            degenerate += empty
        annotation = Annotation(row_id, category_id, (x, y, width, height), row_area, crowd == 1, segmentation)
        annotations.append((image_id, annotation))
    beyond = np.concatenate([-box[:, :2], box[:, :2] + box[:, 2:] - sizes], axis=1).max(axis=1) > OVERHANG
    for what, count in ((OVERHANG_REMARK, int((beyond & (sizes[:, 0] > 0)).sum())), (DEGENERATE_REMARK, degenerate)):
        if count:
            findings.remark(what, count)
    return annotations


def _sound_columns(
    rows: list[Any], images: Mapping[int, ImageRecord], categories: Mapping[int, str]
) -> tuple[list[int], list[int], list[int], Floats, Floats, list[int], Floats] | None:
    """The columns of `KEYS`, boxes [N, 4] and areas as numbers, and the images' sizes [N, 2]; None where one value is
    out of the ordinary."""
    if set(map(type, rows)) != {dict}:
        return None
    try:
        columns = [list(map(itemgetter(key), rows)) for key in KEYS]
        ids, image_ids, category_ids, boxes, areas, crowds = columns
        numbers = set(map(type, chain(areas, chain.from_iterable(boxes))))
        whole = set(map(type, chain(ids, image_ids, category_ids, crowds)))
        shapes = {(type(box), len(box)) for box in boxes}
        box, area = np.array(boxes, np.float64), np.array(areas, np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):  # what is no number, no list, or beyond all floats
        return None
    if not (numbers <= NUMBERS and whole == {int} and shapes == {(list, 4)} and set(crowds) <= {0, 1}):
        return None
    known = images.keys() >= set(image_ids) and categories.keys() >= set(category_ids)
    new = len(set(ids)) == len(ids) and -LARGEST_ID <= min(ids) <= max(ids) < LARGEST_ID
    if not (known and new and np.isfinite(area).all() and (area >= 0).all()):
        return None
    sizes = np.array([(images[image_id].width, images[image_id].height) for image_id in image_ids], np.float64)
    return (ids, image_ids, category_ids, box, area, crowds, sizes) if _are_sound(box, sizes) else None


def _are_sound(boxes: Floats, sizes: Floats) -> bool:
    """Whether boxes [N, 4] x y w h would pass `visionkit.formats.boxes.check_box` on images of sizes [N, 2], 0 where
    these are not known."""
    if not (np.abs(boxes) <= FARTHEST_PIXEL).all() or (boxes[:, 2:] < SHORTEST_SIDE).any():
        return False
    inside = np.minimum(boxes[:, :2] + boxes[:, 2:], sizes) - np.maximum(boxes[:, :2], 0)
    return bool(((inside >= SHORTEST_SIDE).all(axis=1) | (sizes[:, 0] == 0)).all())
