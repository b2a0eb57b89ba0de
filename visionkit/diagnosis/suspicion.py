"""Labels that a model doubts, the most doubtful first.

Four kinds of label errors (the idea of Northcutt et al., "Confident Learning", 2021, for boxes): an object that nobody
labelled, a label where there is nothing, a label of another class, a label beside its object. A model that learnt from
these very labels has learnt their errors too and doubts them less: one trained on other images sees more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.diagnosis.findings import Finding
from visionkit.diagnosis.geometry import Box, overlap
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord

CONFIDENT = 0.3
"""A detection with a lower score accuses nobody."""
SAME_PLACE, BESIDE, ELSEWHERE = 0.5, 0.1, 0.2
"""IoU from which two boxes are of one object, from which a label may have been meant for an object, and below which a
detection has nothing to do with a label."""
FEW = 3
"""Doubts of one kind and class: the fourth as sure weighs less than half of what it would alone."""

_Doubt = tuple[int, Finding]  # a category id and what is doubted of it


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a model says of an image: D detections beside the image's G labels, crowds left out.

    Args:
        scores, categories: [D].
        ious: [G, D].
        boxes: D boxes x y w h.
    """

    image: ImageRecord
    objects: tuple[Annotation, ...]
    scores: NDArray[np.float64]
    categories: NDArray[np.int64]
    ious: NDArray[np.float64]
    boxes: tuple[Box, ...]

    @classmethod
    def of(cls, image: ImageRecord, rows: Sequence[Mapping[str, Any]]) -> _Seen:
        objects = tuple(annotation for annotation in image.annotations if not annotation.iscrowd)
        boxes = tuple(_box(row) for row in rows)
        ious = np.array([[overlap(a.bbox, box) for box in boxes] for a in objects]).reshape(len(objects), len(rows))
        scores = np.array([row["score"] for row in rows], np.float64)
        return cls(image, objects, scores, np.array([row["category_id"] for row in rows], np.int64), ious, boxes)


def find_suspicious(truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Findings VK601 to VK604, each with how sure the model is, those first that tell most of a label.

    A doubt tells the less the more often the model has it: of a class that it sees everywhere without labels, or often
    misses, most doubts are its own mistakes. So each weighs by how many of its kind and class are as sure.

    Args:
        detections: COCO results rows of a model on these images, those of low scores too: they speak for a label.
    """
    by_image: dict[int, list[Mapping[str, Any]]] = {image.id: [] for image in truth.images}
    for row in detections:
        by_image[row["image_id"]].append(row)
    names = dict(zip(truth.classes.category_ids, truth.classes.names, strict=True))
    doubts: list[_Doubt] = []
    unseen: list[tuple[ImageRecord, Annotation, float]] = []
    for image in truth.images:
        seen = _Seen.of(image, by_image[image.id])
        explained: set[int] = set()  # detections that a label beside them was meant for
        for place, annotation in enumerate(seen.objects):
            own = seen.categories == annotation.category_id
            support = _highest(seen.scores[own & (seen.ious[place] >= SAME_PLACE)])
            found = _renamed(truth, seen, place, support, names) or _moved(
                truth, seen, place, support, names, explained
            )
            if found is None:
                unseen.append((image, annotation, support))
            else:
                doubts.append((annotation.category_id, found))
        doubts += _unlabelled(truth, seen, names, explained)
    return _most_telling_first(doubts + _unseen(truth, unseen, names))


def _most_telling_first(doubts: Sequence[_Doubt]) -> list[Finding]:
    known: Counter[tuple[str, int]] = Counter()
    weighed: list[tuple[float, Finding]] = []
    for category_id, finding in sorted(doubts, key=lambda doubt: -(doubt[1].score or 0.0)):
        known[finding.code, category_id] += 1
        weighed.append(((finding.score or 0.0) / (1 + known[finding.code, category_id] / FEW), finding))
    return [finding for _, finding in sorted(weighed, key=lambda pair: -pair[0])]


def _renamed(
    truth: AnnotatedImages, seen: _Seen, place: int, support: float, names: Mapping[int, str]
) -> Finding | None:
    """A label that a confident detection of another class lies on, more confident than any of its own."""
    annotation = seen.objects[place]
    others = seen.categories != annotation.category_id
    best = _best(seen, others & (seen.ious[place] >= SAME_PLACE))
    if best is None or seen.scores[best] <= support:
        return None
    words = f"is labelled {names[annotation.category_id]}, the model says {names[int(seen.categories[best])]}"
    return _of_label(
        "VK603", truth, seen.image, annotation, words, float(seen.scores[best]) - support, seen.boxes[best]
    )


def _moved(
    truth: AnnotatedImages, seen: _Seen, place: int, support: float, names: Mapping[int, str], explained: set[int]
) -> Finding | None:
    """A label beside a confident detection of its class that no label lies on; `explained` gets the detection."""
    if support >= CONFIDENT:
        return None
    annotation = seen.objects[place]
    near = (seen.ious[place] >= BESIDE) & (seen.ious.max(axis=0) < SAME_PLACE)
    near &= seen.categories == annotation.category_id
    best = _best(seen, near)
    if best is None or best in explained:
        return None
    explained.update(np.flatnonzero(near).tolist())
    where = [round(value, 1) for value in seen.boxes[best]]
    words = f"is labelled {names[annotation.category_id]}, the model places it at {where}"
    return _of_label(
        "VK604", truth, seen.image, annotation, words, float(seen.scores[best]) - support, seen.boxes[best]
    )


def _best(seen: _Seen, which: NDArray[np.bool_]) -> int | None:
    """The most confident detection of those, if it is confident."""
    among = np.flatnonzero(which & (seen.scores >= CONFIDENT))
    return int(among[np.argmax(seen.scores[among])]) if len(among) else None


def _unlabelled(truth: AnnotatedImages, seen: _Seen, names: Mapping[int, str], explained: set[int]) -> list[_Doubt]:
    """Confident detections where no label of any class lies, crowds included; of several on one spot the first."""
    image = seen.image
    crowds = [annotation.bbox for annotation in image.annotations if annotation.iscrowd]
    told: list[Box] = []
    doubts = []
    for index in np.argsort(-seen.scores, kind="stable").tolist():
        box, score = seen.boxes[index], float(seen.scores[index])
        if score < CONFIDENT:
            break
        taken = [*crowds, *told]
        near_label = index in explained or seen.ious[:, index].max(initial=0.0) >= ELSEWHERE
        if near_label or any(overlap(box, other) >= ELSEWHERE for other in taken):
            continue
        told.append(box)
        where = [round(value, 1) for value in box]
        words = f"{names[int(seen.categories[index])]} {score:.2f} at {where} has no label"
        item = f"image {image.id} ({image.file_name})"
        found = Finding("VK601", truth.source, item, words, image_id=image.id, score=score, box=box)
        doubts.append((int(seen.categories[index]), found))
    return doubts


def _unseen(
    truth: AnnotatedImages, labels: Sequence[tuple[ImageRecord, Annotation, float]], names: Mapping[int, str]
) -> list[_Doubt]:
    """Labels that get less support than others of their class do: of a class the model never finds, none stands out."""
    doubts = []
    of_class: dict[int, list[float]] = {}
    for _, annotation, support in labels:
        of_class.setdefault(annotation.category_id, []).append(support)
    for image, annotation, support in labels:
        if support >= CONFIDENT:
            continue
        usual = float(np.median(of_class[annotation.category_id]))
        doubt = usual - support
        if doubt >= CONFIDENT:
            words = f"is labelled {names[annotation.category_id]}, the model sees none there ({support:.2f})"
            doubts.append((annotation.category_id, _of_label("VK602", truth, image, annotation, words, doubt)))
    return doubts


def _of_label(
    code: str,
    truth: AnnotatedImages,
    image: ImageRecord,
    annotation: Annotation,
    words: str,
    doubt: float,
    box: Box | None = None,
) -> Finding:
    item = f"annotation {annotation.id} of image {image.id} ({image.file_name})"
    return Finding(
        code, truth.source, item, words, image_id=image.id, annotation_id=annotation.id, score=doubt, box=box
    )


def _box(row: Mapping[str, Any]) -> Box:
    x, y, width, height = row["bbox"]
    return x, y, width, height


def _highest(scores: NDArray[np.float64]) -> float:
    return float(scores.max(initial=0.0))
