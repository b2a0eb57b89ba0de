"""Scores of what a backend says of a split, gathered batch by batch, as its task is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassMatch
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.semantic_map import semantic_map
from visionkit.imaging.letterbox import Frame
from visionkit.metrics.classification import classification_scores
from visionkit.metrics.coco_map import coco_scores
from visionkit.metrics.mean_iou import MapCounts
from visionkit.predict.backend import Raw, RawClasses, RawDetections, RawMap
from visionkit.predict.maps import NO_CLASS, labels_in_pixels
from visionkit.predict.masks import pasted_masks
from visionkit.result import Task


class Scoring(Protocol):
    """Gathers what one side says, by the data's classes."""

    def add(self, found: Sequence[Raw], frames: Sequence[Frame], ids: Sequence[int], labels: Sequence[int]) -> None:
        """A batch: records, where the images lie in the letterboxes, their ids, and the class of each where pictures
        have one."""

    def metrics(self) -> dict[str, float | None]:
        """The scores by name, the task's metric first."""


class DetectionScoring:
    """COCO's AP of boxes, and of masks where `masks`."""

    def __init__(self, truth: AnnotatedImages, match: ClassMatch, *, masks: bool) -> None:
        self.truth = truth
        self.masks = masks
        self.ids = {theirs: match.wanted.category_ids[ours] for ours, theirs in match.pairs}
        self.rows: list[dict[str, Any]] = []

    def add(self, found: Sequence[Raw], frames: Sequence[Frame], ids: Sequence[int], labels: Sequence[int]) -> None:
        for raw, frame, image_id in zip(found, frames, ids, strict=True):
            assert isinstance(raw, RawDetections)
            self.rows += self._rows(raw, frame, image_id)

    def _rows(self, raw: RawDetections, frame: Frame, image_id: int) -> list[dict[str, Any]]:
        boxes = frame.to_original(raw.boxes)
        boxes[:, 2:] -= boxes[:, :2]
        masks: Sequence[dict[str, Any]] = [{}] * len(boxes)
        if self.masks and raw.masks is not None:
            whole = frame.to_plane(raw.boxes)
            masks = [{"segmentation": mask} for mask in pasted_masks(raw.masks, whole, frame.height, frame.width)]
        return [
            {"image_id": image_id, "category_id": self.ids[label], "bbox": box, "score": score, **mask}
            for box, score, label, mask in zip(
                boxes.tolist(), raw.scores.tolist(), raw.labels.tolist(), masks, strict=True
            )
            # A box wholly in the padding is none of the image.
            if label in self.ids and box[2] > 0 and box[3] > 0
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

    def add(self, found: Sequence[Raw], frames: Sequence[Frame], ids: Sequence[int], labels: Sequence[int]) -> None:
        self.labels += labels
        for raw in found:
            assert isinstance(raw, RawClasses)
            by_label = np.zeros(len(raw.labels), np.float32)
            by_label[raw.labels] = raw.scores
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

    def add(self, found: Sequence[Raw], frames: Sequence[Frame], ids: Sequence[int], labels: Sequence[int]) -> None:
        for raw, frame, image_id in zip(found, frames, ids, strict=True):
            assert isinstance(raw, RawMap)
            predicted = self.ours[labels_in_pixels(raw.scores, frame)]
            self.counts.add(semantic_map(self.records[image_id], self.truth.classes), predicted)

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
