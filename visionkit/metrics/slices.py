"""Where a detector is weak: AP of small, long, crowded objects, and of those at the edge.

The rule is the one by which COCO has AP of small, medium and large objects: objects outside a slice are ignored, and so
are detections that find them, and detections that find nothing where they themselves lie outside. An AP of a slice is
thus the AP on data that has no other objects.

G objects, N detections, S slices, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_columns import Found, Integers, Objects, Task, check_task, detection_columns, truth_columns
from visionkit.metrics.coco_matching import (
    HIGHEST_THRESHOLD,
    Bits,
    greedy_matches,
    matched_settings,
    overlapping_pairs,
    position_in_run,
)
from visionkit.metrics.coco_precision import IOU_THRESHOLDS, MOST_DETECTIONS, precision_at_recalls

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

THRESHOLDS = len(IOU_THRESHOLDS)
MOST_SLICES = 64 // THRESHOLDS
SMALL_SIDE, LARGE_SIDE = 0.1, 0.3
"""Shares of the image's side: the root of the box's area over the root of the image's."""
LONG = 1.5
CROWDED = 3
EDGE = 0.01


@dataclass(frozen=True, slots=True)
class SliceScore:
    """AP and AP50 of the objects of one slice; None without one."""

    objects: int
    AP: float | None
    AP50: float | None


def sliced_scores(
    truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], task: Task = "bbox"
) -> dict[str, dict[str, SliceScore]]:
    """AP by kind of object: `size` (side below 0.1, above 0.3 of the image's), `shape` (sides 1.5 to 1 apart),
    `crowding` (other objects that touch it), `position` (at the edge, within 1 % of it).

    Sizes of images that are not known (0) make their objects `large` and not at the edge.

    Args, Raises: as `visionkit.metrics.coco_map.coco_scores`.
    """
    check_task(task)
    objects, found = truth_columns(truth, task), detection_columns(truth, detections, task)
    found = found.take(np.flatnonzero(position_in_run(found.group) < MOST_DETECTIONS[-1]))
    classes = len(truth.classes)
    by_position = sorted(truth.images, key=lambda image: image.id)
    sizes = np.array([(image.width, image.height) for image in by_position], np.float64).reshape(-1, 2)
    scores = {}
    for name, (labels, of_boxes) in SLICINGS.items():
        objects_in = of_boxes(objects.boxes, objects.group // classes, sizes, objects, classes)
        found_in = of_boxes(found.boxes, found.group // classes, sizes, objects, classes)
        of_slices = slice_scores(objects, found, objects_in, found_in, classes)
        scores[name] = dict(zip(labels, of_slices, strict=True))
    return scores


def slice_scores(objects: Objects, found: Found, objects_in: Bools, found_in: Bools, classes: int) -> list[SliceScore]:
    """The score of each slice.

    Args:
        objects, found: the truth, and at most 100 detections of a class in an image.
        objects_in, found_in: bool [G, S] and [N, S], who belongs to which slice; S at most `MOST_SLICES`.
    """
    slices = objects_in.shape[1]
    assert slices <= MOST_SLICES
    pairs = overlapping_pairs(found, objects, IOU_THRESHOLDS[0])
    ignored = _bits(~objects_in | objects.crowd[:, None])
    matches = greedy_matches(pairs, found.group, _reaching(pairs.iou, slices), ignored, objects.crowd)
    matched = matched_settings(pairs, matches, len(found.score))
    hits = matched_settings(pairs, matches & ~ignored[pairs.objects], len(found.score))
    misses = _bits(found_in) & ~matched

    order = np.lexsort((-found.score, found.label))
    of_class = np.split(order, np.searchsorted(found.label[order], np.arange(1, classes)))
    counts = np.zeros((classes, slices), np.int64)
    np.add.at(counts, objects.label, objects_in & ~objects.crowd[:, None])
    scores = []
    for s in range(slices):
        ap = np.array(
            [
                [
                    precision_at_recalls(_at(hits[ranked], s, t), _at(misses[ranked], s, t), counts[label, s]).mean()
                    for t in range(THRESHOLDS)
                ]
                for label, ranked in enumerate(of_class)
                if counts[label, s]
            ]
        ).reshape(-1, THRESHOLDS)
        defined = len(ap) > 0
        scores.append(
            SliceScore(
                int(counts[:, s].sum()),
                float(ap.mean()) if defined else None,
                float(ap[:, 0].mean()) if defined else None,
            )
        )
    return scores


# Settings: threshold t of slice s is bit s * THRESHOLDS + t.


def _bits(is_in: Bools) -> Bits:
    """[n, S] -> [n], all thresholds of these slices."""
    of_slice = [((1 << THRESHOLDS) - 1) << (s * THRESHOLDS) for s in range(is_in.shape[1])]
    settings: Bits = is_in.astype(np.uint64) @ np.array(of_slice, np.uint64)
    return settings


def _reaching(iou: Floats, slices: int) -> Bits:
    """[n] -> [n], in every slice the thresholds that the IoU reaches."""
    in_all = sum(1 << (s * THRESHOLDS) for s in range(slices))
    table = np.array([((1 << reached) - 1) * in_all for reached in range(THRESHOLDS + 1)], np.uint64)
    reached: Bits = table[np.searchsorted(np.minimum(IOU_THRESHOLDS, HIGHEST_THRESHOLD), iou, side="right")]
    return reached


def _at(bits: Bits, s: int, t: int) -> Bools:
    at: Bools = (bits & np.uint64(1 << (s * THRESHOLDS + t))) != 0
    return at


# --- slices: boxes [n, 4] x y w h on images [n] of sizes [I, 2] -> bool [n, S] ---------------------------------------


def _sizes(boxes: Floats, image: Integers, sizes: Floats, objects: Objects, classes: int) -> Bools:
    area = sizes[image].prod(axis=1)
    side = np.sqrt(np.divide(boxes[:, 2] * boxes[:, 3], area, out=np.ones(len(boxes)), where=area > 0))
    return np.stack((side < SMALL_SIDE, (side >= SMALL_SIDE) & (side <= LARGE_SIDE), side > LARGE_SIDE), axis=1)


def _shapes(boxes: Floats, image: Integers, sizes: Floats, objects: Objects, classes: int) -> Bools:
    width, height = boxes[:, 2], boxes[:, 3]
    tall, wide = height > LONG * width, width > LONG * height
    return np.stack((tall, ~(tall | wide), wide), axis=1)


def _crowding(boxes: Floats, image: Integers, sizes: Floats, objects: Objects, classes: int) -> Bools:
    touching = np.zeros(len(boxes), np.int64)
    of_object = objects.group // classes
    for one in np.unique(image):
        mine, theirs = np.flatnonzero(image == one), objects.boxes[of_object == one]
        a, b = boxes[mine, None], theirs[None]
        overlap = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
        near = (overlap > 0).all(axis=2)
        # An object is not its own neighbour, and a detection's best overlap is what it is of.
        touching[mine] = np.maximum(near.sum(axis=1) - 1, 0)
    return np.stack((touching == 0, (touching > 0) & (touching < CROWDED), touching >= CROWDED), axis=1)


def _positions(boxes: Floats, image: Integers, sizes: Floats, objects: Objects, classes: int) -> Bools:
    limit = sizes[image]
    low = boxes[:, :2] <= EDGE * limit
    high = boxes[:, :2] + boxes[:, 2:] >= (1 - EDGE) * limit
    edge = ((low | high) & (limit > 0)).any(axis=1)
    return np.stack((edge, ~edge), axis=1)


SLICINGS = {
    "size": (("small", "medium", "large"), _sizes),
    "shape": (("tall", "square", "wide"), _shapes),
    "crowding": (("alone", "touched by 1 or 2", "touched by 3 or more"), _crowding),
    "position": (("at the edge", "inside"), _positions),
}


def slices_to_json(scores: Mapping[str, Mapping[str, SliceScore]]) -> dict[str, Any]:
    """As `visionkit evaluate --json` prints them."""
    return {name: {label: asdict(score) for label, score in of_kind.items()} for name, of_kind in scores.items()}
