"""What leaves the house: what a model says of one image, in the image's own pixels. Schema `visionkit.result/1`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable

SCHEMA = "visionkit.result/1"


@dataclass(frozen=True)
class Result:
    """Detections of one image, highest score first.

    Args:
        path: where the image came from, as the user named it.
        width, height: pixels of the upright image (after EXIF orientation).
        classes: the model's class table; carries the dataset's ids and names.
        boxes: f32 [N, 4], x1 y1 x2 y2 in pixels of the upright image.
        scores: f32 [N] in [0, 1].
        labels: i64 [N] in 0..K-1.
        model_name, model_sha256: which model said so.
        milliseconds: time spent, by step: read, preprocess, model, postprocess.
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
    task: str = "detect"

    def __len__(self) -> int:
        return len(self.scores)

    def counts(self) -> dict[str, int]:
        """Objects by class name, in the order of labels; classes without an object are left out."""
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
                    "bbox": [round(float(v), 2) for v in box],
                    "score": round(float(score), 5),
                    "label": int(label),
                    "category_id": self.classes.category_ids[label],
                    "name": self.classes.names[label],
                }
                for box, score, label in zip(self.boxes, self.scores, self.labels, strict=True)
            ],
            "milliseconds": {step: round(ms, 2) for step, ms in self.milliseconds.items()},
        }
