"""What leaves the house: what a model says of one image, in the image's own pixels. Schema `visionkit.result/1`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable

SCHEMA = "visionkit.result/1"
SCHEMA_FILE = Path(__file__).with_name("result.schema.json")

Task = Literal["detect", "segment", "classify"]
"""What a model is for: its class says so in the attribute `task`, and so does each of its results."""

Rle = dict[str, Any]
"""A mask as COCO's compressed run-length encoding: `{"size": [height, width], "counts": str}`."""


@dataclass(frozen=True)
class Result:
    """Detections of one image, or the classes it may be of, highest score first; or the classes of its pixels, the
    largest first.

    Args:
        path: where the image came from, as the user named it.
        width, height: pixels of the upright image (after EXIF orientation).
        classes: the model's class table; carries the dataset's ids and names.
        boxes: f32 [N, 4], x1 y1 x2 y2 in pixels of the upright image; of a classification or a semantic
            map none, [0, 4].
        scores: f32 [N] in [0, 1]; of a semantic map the share of the image's pixels that each class has.
        labels: i64 [N] in 0..K-1.
        model_name, model_sha256: which model said so.
        milliseconds: time spent, by step: read, preprocess, model, postprocess.
        semantic: u8 [height, width], the label of each pixel, 255 where its class was not asked for; or None.
        masks: of each of N objects, of the image's size; None where the model says none.
        why: what the model decided and why, the document of `visionkit.predict.why`; None where no one asked.
        confidences: f32 [N] in [0, 1], of detections: the share of those with such a score that are right; None where
            the model was never calibrated. Scores, their order and thresholds are the same with and without.
    """

    path: str
    width: int
    height: int
    classes: ClassTable
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    model_name: str = ""
    model_sha256: str = ""
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    task: Task = "detect"
    semantic: NDArray[np.uint8] | None = None
    masks: tuple[Rle, ...] | None = None
    why: Mapping[str, Any] | None = None
    confidences: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def counts(self) -> dict[str, int]:
        """Items by class name, in the order of labels; classes without one are left out."""
        per_label = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(n) for name, n in zip(self.classes.names, per_label, strict=True) if n}

    def to_json(self) -> dict[str, Any]:
        """One JSON object of schema `visionkit.result/1`. Coordinates to 2 decimals, scores to 5."""
        return {
            "schema": SCHEMA,
            "task": self.task,
            "image": {"path": self.path, "width": self.width, "height": self.height},
            "model": {"name": self.model_name, "sha256": self.model_sha256},
            "items": [
                {
                    **own,
                    "share" if self.task == "segment" else "score": round(float(score), 5),
                    **confidence,
                    "label": int(label),
                    "category_id": self.classes.category_ids[label],
                    "name": self.classes.names[label],
                }
                for own, score, confidence, label in zip(
                    self._regions_to_json(), self.scores, self._confidences_to_json(), self.labels, strict=True
                )
            ],
            "milliseconds": {step: round(ms, 2) for step, ms in self.milliseconds.items()},
            **({} if self.why is None else {"why": self.why}),
        }

    def _confidences_to_json(self) -> list[dict[str, float]]:
        """What each score is worth, of a calibrated model."""
        if self.confidences is None:
            return [{}] * len(self)
        return [{"confidence": round(float(value), 5)} for value in self.confidences]

    def _regions_to_json(self) -> list[dict[str, Any]]:
        """Where each item lies, as its task says it: a box, a mask, nowhere."""
        if self.task == "classify":
            return [{}] * len(self)
        if self.semantic is not None:
            return [{"mask": _run_lengths(self.semantic == label)} for label in self.labels]
        boxes: list[dict[str, Any]] = [{"bbox": [round(float(v), 2) for v in box]} for box in self.boxes]
        if self.masks is None:
            return boxes
        return [{**box, "mask": mask} for box, mask in zip(boxes, self.masks, strict=True)]


def result_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every `Result.to_json` obeys: `result.schema.json`, which lies beside this
    file."""
    schema: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A mask [H, W] as COCO's compressed RLE."""
    from pycocotools import mask as coco_mask  # noqa: PLC0415 - only masks need it

    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
