"""The usual case of a results file, in which every detection is sound: seen column by column, not row by row.

It decides as `visionkit.formats.coco_results` does row by row, or not at all: where anything is out of the ordinary,
that has the word, and its messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.formats.coco_segmentation import FARTHEST_PIXEL, are_sound_rles
from visionkit.formats.records import AnnotatedImages, ImageRecord

KEYS = ("image_id", "category_id", "score", "bbox")
NUMBERS = frozenset((int, float))
NO_MASK = frozenset((type(None), list, dict))  # empty


def sound_results(content: list[Any], truth: AnnotatedImages) -> list[dict[str, Any]] | None:
    """The detections of a parsed results file, as `visionkit.formats.coco_results.read_results` gives them; None where
    it takes a closer look to say.

    Args:
        content: its rows may be those of the result.
    """
    if not content or set(map(type, content)) != {dict}:
        return None
    try:
        image_ids, category_ids, scores, boxes = (list(map(itemgetter(key), content)) for key in KEYS)
    except KeyError:
        return None
    images = {image.id: image for image in truth.images}
    known = _are_ids(image_ids, images.keys()) and _are_ids(category_ids, frozenset(truth.classes.category_ids))
    types = _box_types(boxes)
    if not (known and types and _numbers(scores, set(map(type, scores))) is not None and _are_boxes(boxes, types)):
        return None
    # Whoever has no more than these keys has no other: all have them.
    if set(map(len, content)) == {len(KEYS)}:
        return content if types == {float} else [_row(row) for row in content]
    if not _are_masks([row.get("segmentation") for row in content], image_ids, images):
        return None
    return [_row(row) for row in content]


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    image_id, category_id, score, box = (row[key] for key in KEYS)
    known = {"image_id": image_id, "category_id": category_id, "score": score, "bbox": list(map(float, box))}
    return {**known, "segmentation": row["segmentation"]} if row.get("segmentation") else known


def _are_ids(values: Sequence[Any], known: Set[int]) -> bool:
    return set(map(type, values)) == {int} and set(values) <= known


def _numbers(values: Iterable[Any], types: Set[type]) -> NDArray[np.float64] | None:
    """f64 [N] of values of these types; None unless all are finite numbers."""
    if not types <= NUMBERS:
        return None
    try:
        numbers = np.fromiter(values, np.float64)
    except OverflowError:  # a whole number beyond all floats
        return None
    return numbers if np.isfinite(numbers).all() else None


def _box_types(boxes: Sequence[Any]) -> Set[type]:
    """The types of the numbers in boxes; nothing where one is no list of four."""
    if set(map(type, boxes)) != {list} or set(map(len, boxes)) != {4}:
        return set()
    return set(map(type, chain.from_iterable(boxes)))


def _are_boxes(boxes: Sequence[Any], types: Set[type]) -> bool:
    numbers = _numbers(chain.from_iterable(boxes), types)
    if numbers is None:
        return False
    return bool((np.abs(numbers) <= FARTHEST_PIXEL).all() and (numbers.reshape(-1, 4)[:, 2:] >= 0).all())


def _are_masks(segmentations: Sequence[Any], image_ids: Sequence[int], images: Mapping[int, ImageRecord]) -> bool:
    """Whether all that are masks are compressed RLEs of their images' sizes, which are known."""
    if not {type(mask) for mask in segmentations if not mask} <= NO_MASK:
        return False
    pairs = [(mask, images[image]) for mask, image in zip(segmentations, image_ids, strict=True) if mask]
    sizes = [[image.height, image.width] for _, image in pairs]
    return all(image.width and image.height for _, image in pairs) and are_sound_rles([m for m, _ in pairs], sizes)
