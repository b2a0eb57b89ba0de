"""What detections on a split are scored by: COCO's numbers, what is asked for beside them, and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from visionkit.api.report import report_detections, with_images_in
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_map import CocoScores, Task, coco_scores
from visionkit.metrics.errors import error_split
from visionkit.metrics.operating_points import best_thresholds
from visionkit.metrics.referee import TWELVE, referee_verdict
from visionkit.metrics.slices import sliced_scores
from visionkit.metrics.voc_map import voc_scores
from visionkit.score_map import ScoreMap


@dataclass(frozen=True, slots=True)
class Beside:
    """What is wanted beside COCO's numbers; names as `visionkit.api.evaluate.evaluate` has them.

    Args:
        score_map: of a calibrated model, for its report.
    """

    referee: bool = False
    voc: bool = False
    slices: bool = False
    errors: bool = False
    thresholds: bool = False
    report: Path | None = None
    score_map: ScoreMap | None = None

    @property
    def asked(self) -> tuple[str, ...]:
        """The flags of what is wanted of detections alone."""
        wanted = {
            "--referee": self.referee,
            "--voc": self.voc,
            "--slices": self.slices,
            "--errors": self.errors,
            "--thresholds": self.thresholds,
        }
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)


def score_detections(
    truth: AnnotatedImages,
    rows: Sequence[Mapping[str, Any]],
    task: Task,
    beside: Beside,
    title: str,
    images: str | Path | None = None,
) -> CocoScores:
    """The scores of COCO results with their intervals, and the report on them.

    Args:
        title: of the report.
        images: folder of the files that the report shows; those of `truth` where None.
    """
    scores = coco_scores(truth, rows, task, intervals=True)
    if beside.referee:
        ours = {name: getattr(scores, name) for name in TWELVE}
        scores = replace(scores, referee=referee_verdict(truth, rows, ours, task))
    if beside.voc:
        scores = replace(scores, voc=voc_scores(truth, rows))
    if beside.slices:
        scores = replace(scores, slices=sliced_scores(truth, rows, task))
    if beside.errors:
        scores = replace(scores, errors=error_split(truth, rows, task).costs())
    if beside.thresholds:
        scores = replace(scores, thresholds=best_thresholds(truth, rows, task))
    if beside.report is not None:
        pictured = truth if images is None else with_images_in(truth, Path(images))
        report_detections(beside.report, title, pictured, rows, scores, score_map=beside.score_map)
    return scores
