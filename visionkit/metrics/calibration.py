"""Whether a score is a probability: of the detections that say 0.8, are 80 % right?

Reliability table and expected calibration error (ECE), Guo et al., "On Calibration of Modern Neural Networks" (2017),
section 2, of detections as in Küppers et al., "Multivariate Confidence Calibration for Object Detection" (2020): what
is counted is precision, the share of detections that find an object at IoU 0.5 by COCO's rule. Missed objects have no
score and do not enter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import DataError, UsageError
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_columns import Task, check_task, detection_columns, truth_columns
from visionkit.metrics.coco_precision import judge
from visionkit.score_map import ScoreMap


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The detections with `low` <= score < `high`; the last bin has its upper end too.

    Args:
        detections: how many there are.
        mean_score: what they promise; None where there are none.
        precision: the share that is right; likewise.
    """

    low: float
    high: float
    detections: int
    mean_score: float | None
    precision: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well scores and precision agree.

    Args:
        ece: the mean over detections of the distance between the mean score and the precision of their bin; 0 is
            perfect. None without detections.
        detections: how many entered: not those on crowd regions, nor those beyond the best 100 of a class in an image.
        bins: the reliability table, lowest scores first.
    """

    ece: float | None
    detections: int
    bins: tuple[ReliabilityBin, ...]

    def to_json(self) -> dict[str, Any]:
        """As one object; what is not defined is null."""
        return asdict(self)


def detection_calibration(
    truth: AnnotatedImages,
    detections: Sequence[Mapping[str, Any]],
    score: float = 0.0,
    bins: int = 10,
    task: Task = "bbox",
    score_map: ScoreMap | None = None,
) -> Calibration:
    """The reliability of the scores of detections, or of the confidences that a map makes of them.

    A model gives out far more detections with low scores than anybody looks at, and the error of all is mostly theirs;
    `score` leaves them out.

    Args:
        truth, detections, task: as `visionkit.metrics.coco_map.coco_scores` takes them.
        score: the lowest score that takes part.
        bins: into how many equal parts [0, 1] is cut.
        score_map: of a calibrated model; then the bins, and what is promised, are of confidences.

    Raises:
        UsageError: an unknown task, or `bins` below 1.
        DataError: a score outside [0, 1], and as `coco_scores`.
    """
    if bins < 1:
        raise UsageError(f"bins must be at least 1, got {bins}; use 10")
    scores, is_right, _ = right_and_wrong(truth, detections, task)
    scores, is_right = scores[scores >= score], is_right[scores >= score]
    return reliability(scores if score_map is None else score_map(scores), is_right, bins)


def right_and_wrong(
    truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], task: Task = "bbox"
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """The scores f64 [N] of the detections that count, whether each is right, bool [N], and the position of its image
    in ascending order of ids, i64 [N].

    Args, Raises: as `detection_calibration`.
    """
    check_task(task)
    objects, found = truth_columns(truth, task), detection_columns(truth, detections, task)
    outside = found.row[(found.score < 0) | (found.score > 1)]
    if len(outside):
        first = int(outside.min())
        raise DataError(
            f"detection {first} has score {detections[first]['score']}, calibration compares scores with shares; "
            f"give scores in [0, 1] ({len(outside)} in all)"
        )
    judged = judge(objects, found)
    hits, misses = judged.over_all_areas()
    counted = hits[0] | misses[0]
    return judged.found.score[counted], hits[0, counted], judged.found.group[counted] // len(truth.classes)


def reliability(scores: NDArray[np.float64], is_right: NDArray[np.bool_], bins: int = 10) -> Calibration:
    """The reliability table of anything that is right or wrong with a score.

    Args:
        scores: f64 [N] in [0, 1].
        is_right: bool [N].
        bins: into how many equal parts [0, 1] is cut.
    """
    edges = np.arange(bins + 1) / bins  # 3 / 10 is 0.3; np.linspace has 0.30000000000000004
    of_bin = np.minimum(np.searchsorted(edges, scores, side="right") - 1, bins - 1)
    counts = np.bincount(of_bin, minlength=bins)
    promised = np.bincount(of_bin, scores, minlength=bins)
    right = np.bincount(of_bin, is_right, minlength=bins)
    table = tuple(
        ReliabilityBin(low, high, count, sum_of_scores / count if count else None, hits / count if count else None)
        for low, high, count, sum_of_scores, hits in zip(
            edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), promised.tolist(), right.tolist(), strict=True
        )
    )
    # A bin's weight is its share of the detections, which cancels the division of its sums.
    ece = float(np.abs(promised - right).sum() / len(scores)) if len(scores) else None
    return Calibration(ece, len(scores), table)
