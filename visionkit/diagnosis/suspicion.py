"""Labels that a model doubts, the most doubtful first.

Three kinds of label errors (the idea of Northcutt et al., "Confident Learning", 2021, for boxes): an object that nobody
labelled, a label where there is nothing, a label of another class. A model that learnt from these very labels has
learnt their errors too and doubts them less: one trained on other images sees more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.diagnosis.findings import Finding
from visionkit.diagnosis.geometry import Box, overlap
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord

CONFIDENT = 0.3
"""A detection with a lower score accuses nobody."""
SAME_PLACE, ELSEWHERE = 0.5, 0.2
"""IoU from which two boxes are of one object, and below which they have nothing to do with each other."""


def find_suspicious(truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Findings VK601, VK602 and VK603, each with how sure the model is, surest first.

    Args:
        detections: COCO results rows of a model on these images, those of low scores too: they speak for a label.
    """
    by_image: dict[int, list[Mapping[str, Any]]] = {image.id: [] for image in truth.images}
    for row in detections:
        by_image[row["image_id"]].append(row)
    names = dict(zip(truth.classes.category_ids, truth.classes.names, strict=True))
    findings: list[Finding] = []
    unseen: list[tuple[ImageRecord, Annotation, float]] = []
    for image in truth.images:
        objects = [annotation for annotation in image.annotations if not annotation.iscrowd]
        rows = by_image[image.id]
        ious = np.array([[overlap(a.bbox, _box(row)) for row in rows] for a in objects]).reshape(
            len(objects), len(rows)
        )
        scores = np.array([row["score"] for row in rows])
        categories = np.array([row["category_id"] for row in rows])
        findings += _unlabelled(truth, image, rows, ious, names)
        for annotation, near in zip(objects, ious, strict=True):
            own = categories == annotation.category_id
            support = _highest(scores[own & (near >= SAME_PLACE)])
            others = np.flatnonzero(~own & (near >= SAME_PLACE) & (scores >= CONFIDENT))
            if len(others):
                best = others[np.argmax(scores[others])]
                doubt = float(scores[best]) - support
                if doubt > 0:
                    words = (
                        f"is labelled {names[annotation.category_id]}, the model says {names[int(categories[best])]}"
                    )
                    findings.append(_of_label("VK603", truth, image, annotation, words, doubt))
                    continue
            unseen.append((image, annotation, support))
    findings += _unseen(truth, unseen, names)
    return sorted(findings, key=lambda finding: -(finding.score or 0.0))


def _unlabelled(
    truth: AnnotatedImages,
    image: ImageRecord,
    rows: Sequence[Mapping[str, Any]],
    ious: NDArray[np.float64],
    names: Mapping[int, str],
) -> list[Finding]:
    """Confident detections where no label of any class lies, crowds included; of several on one spot the first."""
    crowds = [annotation.bbox for annotation in image.annotations if annotation.iscrowd]
    told: list[Box] = []
    findings = []
    for index in sorted(range(len(rows)), key=lambda i: -rows[i]["score"]):
        row, box = rows[index], _box(rows[index])
        if row["score"] < CONFIDENT:
            break
        taken = [*crowds, *told]
        if ious[:, index].max(initial=0.0) >= ELSEWHERE or any(overlap(box, other) >= ELSEWHERE for other in taken):
            continue
        told.append(box)
        where = [round(value, 1) for value in box]
        words = f"{names[row['category_id']]} {row['score']:.2f} at {where} has no label"
        item = f"image {image.id} ({image.file_name})"
        findings.append(Finding("VK601", truth.source, item, words, image_id=image.id, score=float(row["score"])))
    return findings


def _unseen(
    truth: AnnotatedImages, labels: Sequence[tuple[ImageRecord, Annotation, float]], names: Mapping[int, str]
) -> list[Finding]:
    """Labels that get less support than others of their class do: of a class the model never finds, none stands out."""
    findings = []
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
            findings.append(_of_label("VK602", truth, image, annotation, words, doubt))
    return findings


def _of_label(
    code: str, truth: AnnotatedImages, image: ImageRecord, annotation: Annotation, words: str, doubt: float
) -> Finding:
    item = f"annotation {annotation.id} of image {image.id} ({image.file_name})"
    return Finding(code, truth.source, item, words, image_id=image.id, annotation_id=annotation.id, score=doubt)


def _box(row: Mapping[str, Any]) -> Box:
    x, y, width, height = row["bbox"]
    return x, y, width, height


def _highest(scores: NDArray[np.float64]) -> float:
    return float(scores.max(initial=0.0))
