"""What a report says, as one JSON object: the page draws it, and nothing else is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionkit.formats.records import AnnotatedImages, ImageRecord
from visionkit.metrics.calibration import detection_calibration
from visionkit.metrics.coco_columns import Task
from visionkit.metrics.coco_map import CocoScores
from visionkit.metrics.detection_confusion import NOTHING, DetectionConfusion, detection_confusion
from visionkit.metrics.errors import ErrorSplit, error_split
from visionkit.metrics.operating_points import OperatingCurve, curves_and_pooled
from visionkit.metrics.referee import TWELVE
from visionkit.metrics.slices import sliced_scores, slices_to_json
from visionkit.report.outlines import mask_path
from visionkit.report.thumbnails import Thumbnails
from visionkit.score_map import ScoreMap

SHOWN_SCORE = 0.25
"""Of detections with a lower score only the right ones are shown: nobody draws the others."""

Rows = Sequence[Mapping[str, Any]]
SCORES = (*TWELVE, "mean_iou_matched")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the report knows of every object and detection."""

    errors: ErrorSplit
    confusion: DetectionConfusion


def detector_content(
    title: str,
    truth: AnnotatedImages,
    rows: Rows,
    scores: CocoScores,
    task: Task = "bbox",
    facts: Sequence[str] = (),
    score_map: ScoreMap | None = None,
) -> dict[str, Any]:
    """The content of a report on detections.

    Args:
        title: what was judged.
        truth, rows, scores: the annotated images, COCO results on them, and what `coco_scores` made of these.
        facts: lines for below the title, such as the data and the command.
        score_map: of a calibrated model, whose confidences are then held against its mistakes too.

    Images that cannot be read, or whose files are not known, come without a picture.
    """
    judgement = Judgement(error_split(truth, rows, task), detection_confusion(truth, rows, SHOWN_SCORE, task=task))
    curves, pooled = curves_and_pooled(truth, rows, task)
    verdicts = zip(rows, judgement.errors.detections, strict=True)
    shown = Counter(verdict for row, verdict in verdicts if row["score"] >= SHOWN_SCORE)
    in_range = all(0 <= row["score"] <= 1 for row in rows)
    maps: dict[str, ScoreMap | None] = {"calibration": None}
    if score_map is not None:
        maps["calibrated"] = score_map
    return {
        "kind": "detections",
        "title": title,
        "facts": list(facts),
        "task": task,
        "classes": list(truth.classes.names),
        "scores": {name: getattr(scores, name) for name in SCORES},
        "intervals": dict(scores.interval95 or {}),
        "per_class": {
            name: {
                "AP": row.AP,
                "AP50": row.AP50,
                "AR100": row.AR100,
                "objects": row.objects,
                "best": None if (best := curves[name].best) is None else best.score,
                "f1": None if best is None else best.f1,
            }
            for name, row in scores.per_class.items()
        },
        "curves": {name: _points(curve) for name, curve in curves.items()},
        "pooled": {"points": _points(pooled), "best": None if pooled.best is None else asdict(pooled.best)},
        "errors": {
            kind: {**asdict(cost), "shown": cost.count if kind == "missed" else shown[kind]}
            for kind, cost in judgement.errors.costs().items()
        },
        "confusion": judgement.confusion.counts.tolist(),
        "slices": slices_to_json(sliced_scores(truth, rows, task)),
        **{
            name: detection_calibration(truth, rows, SHOWN_SCORE, task=task, score_map=one).to_json()
            for name, one in maps.items()
            if in_range
        },
        "shown_score": SHOWN_SCORE,
        "images": _images(truth, rows, judgement, task),
    }


def _points(curve: OperatingCurve) -> list[list[float]]:
    """Score, precision, recall and F1 of each point."""
    return [[round(v, 4) for v in (p.score, p.precision, p.recall, p.f1)] for p in curve.points]


def _images(truth: AnnotatedImages, rows: Rows, judgement: Judgement, task: Task) -> list[dict[str, Any]]:
    """The images, the worst first."""
    of_image: dict[int, list[int]] = {image.id: [] for image in truth.images}
    for index, row in enumerate(rows):
        of_image[row["image_id"]].append(index)
    thumbnails = Thumbnails.for_images(len(truth.images))
    images: list[dict[str, Any]] = []
    start = 0
    for image in truth.images:
        stop = start + len(image.annotations)
        objects = _objects(truth, image, range(start, stop), judgement, task)
        found = _found(truth, image, rows, of_image[image.id], judgement, task)
        images.append(
            {
                "name": image.file_name,
                "width": image.width,
                "height": image.height,
                "objects": objects,
                "found": found,
                "badness": round(_badness(objects, found), 3),
                "path": image.path,
            }
        )
        start = stop
    images.sort(key=lambda entry: -entry["badness"])
    for entry in images:
        path: Path | None = entry.pop("path")
        entry["thumbnail"], size = (None, None) if path is None else thumbnails.of(path)
        if size is not None and not entry["width"]:
            entry["width"], entry["height"] = size
    return images


def _objects(
    truth: AnnotatedImages, image: ImageRecord, places: range, judgement: Judgement, task: Task
) -> list[dict[str, Any]]:
    objects = []
    for annotation, place in zip(image.annotations, places, strict=True):
        entry = {
            "box": _rounded(annotation.bbox),
            "label": truth.classes.label(annotation.category_id),
            "verdict": "crowd" if annotation.iscrowd else judgement.errors.objects[place],
            "said": judgement.confusion.said[place],
        }
        if task == "segm":
            entry["path"] = mask_path(annotation.segmentation, image.width, image.height)
        objects.append(entry)
    return objects


def _found(
    truth: AnnotatedImages,
    image: ImageRecord,
    rows: Rows,
    indices: Sequence[int],
    judgement: Judgement,
    task: Task,
) -> list[dict[str, Any]]:
    found = []
    for index in indices:
        row, verdict = rows[index], judgement.errors.detections[index]
        if row["score"] < SHOWN_SCORE and verdict != "right":
            continue
        entry = {
            "box": _rounded(row.get("bbox") or (0, 0, 0, 0)),
            "label": truth.classes.label(row["category_id"]),
            "score": round(float(row["score"]), 4),
            "verdict": verdict,
            "meant": judgement.confusion.meant[index] if judgement.confusion.counted[index] else NOTHING - 1,
        }
        if task == "segm":
            entry["path"] = mask_path(row.get("segmentation"), image.width, image.height)
        found.append(entry)
    return sorted(found, key=lambda entry: -entry["score"])


def _badness(objects: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> float:
    """How much is wrong in an image: its mistakes, weighed by their scores, and its objects that were not found."""
    wrong = sum(entry["score"] for entry in found if entry["verdict"] not in ("right", "ignored"))
    missed = sum(entry["verdict"] not in ("right", "ignored", "crowd") for entry in objects)
    return float(wrong + missed)


def _rounded(box: Sequence[float]) -> list[float]:
    return [round(float(value), 1) for value in box]
