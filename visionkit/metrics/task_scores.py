"""What a model is judged by, task by task."""

from __future__ import annotations

from collections.abc import Mapping

from visionkit.metrics.classification import ClassificationScores
from visionkit.metrics.coco_map import CocoScores
from visionkit.metrics.mean_iou import SegmentationScores
from visionkit.result import Task

TaskScores = CocoScores | ClassificationScores | SegmentationScores

SCORE_NAMES: Mapping[Task, tuple[str, ...]] = {
    "detect": ("AP", "AP50", "AP75", "AR100", "mean_iou_matched"),
    "classify": ("accuracy", "f1", "precision", "recall", "roc_auc", "top5"),
    "segment": ("mIoU", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"),
}
"""The scores that a run's history keeps, attributes of the task's record; training looks for the highest of the first,
which is its metric. No name stands for two tasks."""

TASKS: Mapping[type[TaskScores], Task] = {
    CocoScores: "detect",
    ClassificationScores: "classify",
    SegmentationScores: "segment",
}


def scores_by_name(scores: TaskScores) -> dict[str, float | None]:
    """Those of the scores that a run's history keeps, the metric first; None where one is not defined."""
    return {name: getattr(scores, name) for name in SCORE_NAMES[TASKS[type(scores)]]}
