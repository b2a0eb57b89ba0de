"""COCO results files (https://cocodataset.org/#format-results): detections as a flat list, read and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visionkit.errors import DataError
from visionkit.formats.coco import as_box, is_id, is_number
from visionkit.formats.coco_segmentation import FARTHEST_PIXEL, checked_segmentation
from visionkit.formats.findings import Findings, shown
from visionkit.formats.json_file import read_json, without_collection, write_json
from visionkit.formats.records import AnnotatedImages, ImageRecord
from visionkit.formats.sound_results import sound_results

_LIST_RULE = "every detection must be a JSON object; correct or remove it"
_BOX_RULE = (
    f"a bbox must be four finite numbers x, y, width, height within {FARTHEST_PIXEL:.0f} px, no side negative; "
    "correct or remove it"
)
_SHAPE_RULE = "a detection needs a bbox or a segmentation; add one or remove it"
_SCORE_RULE = "a score must be a finite number; correct or remove it"


def read_results(
    file: Path, truth: AnnotatedImages, on_skip: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """Read detections and check them against the ground truth they are to be judged by, as `checked_results`.

    Raises:
        DataError: also where the file cannot be read.
    """
    return checked_results(read_json(file), file, truth, on_skip)


def checked_results(
    content: Any, file: Path, truth: AnnotatedImages, on_skip: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """Detections, checked against the ground truth they belong to.

    Args:
        content: what should be a list of them; its rows may be those that are returned.
        file: where they come from, for messages.
        on_skip: leave bad detections out, those on images or of classes that the truth left out too, instead of
            refusing the file; called with a line for each.

    Returns:
        One `{"image_id", "category_id", "score"[, "bbox"][, "segmentation"]}` a detection, in file order, with
        `bbox` x, y, width, height in pixels; other keys are left out. An empty list is sound: nothing was found.

    Raises:
        DataError: not a list of detections, or one names an image or category the truth lacks, or has a box,
            segmentation or score that cannot be judged; names the first of each kind and counts the rest. With
            `on_skip`: no detection would be left.
    """
    if not isinstance(content, list):
        raise DataError(
            f"{file} is not a list, COCO results are a list of detections with image_id, category_id, bbox and score; "
            "name the file of predictions, not of annotations"
        )
    with without_collection():
        rows = sound_results(content, truth)
    if rows is not None:
        return rows
    findings = Findings(file, skip_bad=on_skip is not None)
    images = {image.id: image for image in truth.images}
    categories = frozenset(truth.classes.category_ids)
    checked = []
    for index, content_row in enumerate(content):
        mark = findings.mark()
        row = _read_row(content_row, f"[{index}]", images, categories, truth, findings)
        if not findings.is_bad(mark):
            checked.append(row)
    findings.refuse_errors()
    if content and not checked:
        findings.refuse_nothing_left("detections")
    if on_skip is not None:
        for line in findings.left_out:
            on_skip(line)
    return checked


def _read_row(
    row: Any,
    item: str,
    images: Mapping[int, ImageRecord],
    categories: frozenset[int],
    truth: AnnotatedImages,
    findings: Findings,
) -> dict[str, Any]:
    """A detection's known keys; where an error was found, what comes back is not meant to be used."""
    if not isinstance(row, dict):
        findings.error(f"{item} is {shown(row)}", _LIST_RULE)
        return {}
    image_id, category_id, score = row.get("image_id"), row.get("category_id"), row.get("score")
    if not is_id(image_id) or image_id not in images:
        fact = f"{item} has image_id {shown(image_id)}"
        findings.error(fact, f"image ids must be among those of {truth.source}; judge against the matching annotations")
        return {}
    if not is_id(category_id) or category_id not in categories:
        fact = f"{item} has category_id {shown(category_id)}"
        rule = f"category ids must be among those of {truth.source}; write the dataset's own ids, not labels"
        findings.error(fact, rule)
    if not is_number(score):
        findings.error(f"{item} has {f'score {shown(score)}' if 'score' in row else 'no score'}", _SCORE_RULE)
    return {
        "image_id": image_id,
        "category_id": category_id,
        "score": score,
        **_read_shape(row, images[image_id], item, findings),
    }


def _read_shape(row: dict[str, Any], image: ImageRecord, item: str, findings: Findings) -> dict[str, Any]:
    """The `bbox` and `segmentation` of a detection, those that it has."""
    shape: dict[str, Any] = {}
    if row.get("bbox"):
        box = as_box(row["bbox"])
        if box is None or box[2] < 0 or box[3] < 0:
            findings.error(f"{item} has bbox {shown(row['bbox'])}", _BOX_RULE)
        else:
            shape["bbox"] = list(box)
    try:
        segmentation, _ = checked_segmentation(row.get("segmentation"), image.width, image.height)
    except DataError as rule:
        findings.error(f"{item} has segmentation {shown(row['segmentation'])}", str(rule))
    else:
        if segmentation:
            shape["segmentation"] = segmentation
    if not row.get("bbox") and not row.get("segmentation"):
        findings.error(f"{item} has neither bbox nor segmentation", _SHAPE_RULE)
    return shape


def write_results(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write detections as a COCO results file, a line each; the file appears whole or not at all.

    Raises:
        DataError: a number is not finite (JSON has no such numbers), or the file cannot be written.
    """
    try:
        lines = [json.dumps(row, allow_nan=False, default=_plain) for row in rows]
    except ValueError as error:
        raise DataError(
            f"{file} is not written: a detection holds a number that is not finite; leave it out"
        ) from error
    write_json(file, "[" + ",\n".join(lines) + "]\n")


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays as Python's own."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")
