"""Scores of what a backend says of a split, gathered picture by picture, as its task is judged."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassMatch
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.semantic_map import semantic_map
from visionkit.metrics.classification import classification_scores
from visionkit.metrics.coco_map import coco_scores
from visionkit.metrics.mean_iou import MapCounts
from visionkit.predict.coco_writer import coco_rows
from visionkit.predict.maps import NO_CLASS
from visionkit.result import Result, Task


class Scoring(Protocol):
    """Gathers what one side says, by the data's classes."""

    def add(self, result: Result, image_id: int, label: int) -> None:
        """A picture: what is said of it, the id of its image, and its class where pictures have one."""

    def metrics(self) -> dict[str, float | None]:
        """The scores by name, the task's metric first."""


class DetectionScoring:
    """COCO's AP of boxes, and of masks where `masks`."""

    def __init__(self, truth: AnnotatedImages, match: ClassMatch, *, masks: bool) -> None:
        self.truth = truth
        self.masks = masks
        self.ids = {
            match.given.category_ids[theirs]: match.wanted.category_ids[ours] for ours, theirs in match.pairs
        }  # fmt: skip
        self.rows: list[dict[str, Any]] = []

    def add(self, result: Result, image_id: int, label: int) -> None:
        self.rows += [
            {**row, "category_id": self.ids[row["category_id"]]}
            for row in coco_rows(result, image_id)
            if row["category_id"] in self.ids
        ]

    def metrics(self) -> dict[str, float | None]:
        boxes = coco_scores(self.truth, self.rows)
        found = {"AP": boxes.AP, "AP50": boxes.AP50}
        return {**found, "mask_AP": coco_scores(self.truth, self.rows, "segm").AP} if self.masks else found


class ClassScoring:
    """Accuracy; of sides that say every class."""

    def __init__(self, truth: AnnotatedImages, match: ClassMatch) -> None:
        self.truth = truth
        self.columns = [theirs for _, theirs in match.pairs]
        self.labels: list[int] = []
        self.probabilities: list[NDArray[np.float32]] = []

    def add(self, result: Result, image_id: int, label: int) -> None:
        self.labels.append(label)
        by_label = np.zeros(len(result.labels), np.float32)
        by_label[result.labels] = result.scores
        self.probabilities.append(by_label[self.columns])

    def metrics(self) -> dict[str, float | None]:
        labels = np.array(self.labels, np.int64)
        scores = classification_scores(labels, np.stack(self.probabilities), self.truth.classes)
        return {"accuracy": scores.accuracy, "f1": scores.f1}


class MapScoring:
    """Mean IoU."""

    def __init__(self, truth: AnnotatedImages, match: ClassMatch) -> None:
        self.truth = truth
        self.records = {record.id: record for record in truth.images}
        self.counts = MapCounts(truth.classes)
        # What the data has no class for is wrong wherever it is judged.
        self.ours = np.full(256, NO_CLASS, np.uint8)
        for label, theirs in match.pairs:
            self.ours[theirs] = label

    def add(self, result: Result, image_id: int, label: int) -> None:
        assert result.semantic is not None
        truth = semantic_map(self.records[image_id], self.truth.classes)
        self.counts.add(truth, self.ours[result.semantic])

    def metrics(self) -> dict[str, float | None]:
        scores = self.counts.scores()
        return {"mIoU": scores.mIoU, "pixel_accuracy": scores.pixel_accuracy}


def scoring_of(task: Task, truth: AnnotatedImages, match: ClassMatch, *, masks: bool = False) -> Scoring:
    """What gathers the scores of one side.

    Args:
        match: which class of the data is which of the model.
        masks: of a detector, whether its masks are judged too.
    """
    if task == "detect":
        return DetectionScoring(truth, match, masks=masks)
    return ClassScoring(truth, match) if task == "classify" else MapScoring(truth, match)
