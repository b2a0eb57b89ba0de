"""Scores made comparable with shares: a map fitted on detections, and its error on those it was not fitted on.

Three kinds of map are tried (`visionkit.score_map`). Each is fitted on the detections of one half of the images and
judged on the other, then the other way round: every detection is judged by a map that never saw its image. The kind
with the lowest expected calibration error (`visionkit.metrics.calibration`) is fitted once more, on all images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import DataError
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.calibration import reliability, right_and_wrong
from visionkit.metrics.coco_columns import Task
from visionkit.score_map import METHODS, Method, ScoreMap, logit

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEAST_SCORE = 0.05
"""Detections of lower scores do not enter: nobody looks at them, and they outnumber the others many times."""
FEWEST = 50
"""Detections without which nothing is fitted."""
FEWEST_A_POINT, MOST_POINTS = 20, 50
"""Detections behind each point of an isotonic map at least, and its points before neighbours are pooled."""

# Newton's method converges in a handful of steps; each that does not lower the loss is halved.
_STEPS, _HALVINGS = 50, 30


@dataclass(frozen=True, slots=True)
class FittedMap:
    """A map of a model's scores, and what it is worth.

    Args:
        map: fitted on all images.
        images: with detections that entered.
        detections: of score `LEAST_SCORE` or more, right or wrong.
        ece_before: of the scores themselves.
        ece_after: of confidences, each by a map fitted on the other half of the images.
        by_method: the same of each kind of map that could be fitted.
    """

    map: ScoreMap
    images: int
    detections: int
    ece_before: float
    ece_after: float
    by_method: Mapping[Method, float]


def fit_score_map(
    truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], task: Task = "bbox", seed: int = 0
) -> FittedMap:
    """The map that turns a model's scores into the share of detections that are right.

    Args:
        truth, detections, task: as `visionkit.metrics.coco_map.coco_scores` takes them; of images the model did not
            learn from.
        seed: of the halves of the images.

    Raises:
        UsageError: an unknown task.
        DataError: too few detections, a score outside [0, 1], and as `coco_scores`.
    """
    scores, is_right, image = right_and_wrong(truth, detections, task)
    counted = scores >= LEAST_SCORE
    scores, is_right, image = scores[counted], is_right[counted], image[counted]
    seen = np.unique(image)
    if len(scores) < FEWEST or len(seen) < 2:
        raise DataError(
            f"{truth.source.name} has {len(scores)} detections of score {LEAST_SCORE} or more on {len(seen)} images, "
            f"calibration needs {FEWEST} on 2 or more; calibrate on more images"
        )
    # Every second of the images, drawn by seed: both halves have detections.
    second_half = np.random.default_rng(seed).permutation(seen)[::2]
    half = np.isin(image, second_half)
    errors: dict[Method, float] = {}
    for method in METHODS:
        maps = [FITS[method](scores[part], is_right[part]) for part in (~half, half)]
        of_first, of_second = maps
        if of_first is None or of_second is None:
            continue
        held_out = np.where(half, of_first(scores), of_second(scores))
        errors[method] = _ece(held_out, is_right)
    best = min(errors, key=errors.__getitem__)
    fitted = FITS[best](scores, is_right)
    assert fitted is not None
    return FittedMap(fitted, len(seen), len(scores), _ece(scores, is_right), errors[best], errors)


def _ece(confidences: Floats, is_right: Bools) -> float:
    ece = reliability(confidences, is_right).ece
    assert ece is not None
    return ece


def fit_temperature(scores: Floats, is_right: Bools) -> ScoreMap | None:
    """One number that logits are multiplied by: 1 / temperature. None where it would not be above 0.

    Args:
        scores: f64 [N] in [0, 1].
        is_right: bool [N].
    """
    (scale,) = _logistic(logit(scores)[None], is_right)
    return ScoreMap("temperature", scale=scale) if scale > 0 else None


def fit_platt(scores: Floats, is_right: Bools) -> ScoreMap | None:
    """Two numbers, by which logits are multiplied and shifted. None where the first would not be above 0.

    Args: as `fit_temperature`.
    """
    scale, shift = _logistic(np.stack([logit(scores), np.ones(len(scores))]), is_right)
    return ScoreMap("platt", scale=scale, shift=shift) if scale > 0 else None


def _logistic(features: Floats, is_right: Bools) -> list[float]:
    """The weights [F] of a logistic regression on features [F, N] by Newton's method.

    The targets are Platt's (1999, section 2.2), a little inside of 0 and 1, so that no weight grows without bound.
    """
    right = int(is_right.sum())
    wrong = len(is_right) - right
    targets = np.where(is_right, (right + 1) / (right + 2), 1 / (wrong + 2))

    def loss(weights: Floats) -> float:
        values = weights @ features
        return float((np.logaddexp(0, values) - targets * values).sum())

    weights = np.eye(1, len(features))[0]  # leaves scores as they are
    lowest = loss(weights)
    for _ in range(_STEPS):
        shares = 1 / (1 + np.exp(-(weights @ features)))
        curvature = (features * (shares * (1 - shares))) @ features.T + 1e-9 * np.eye(len(features))
        step = np.linalg.solve(curvature, features @ (shares - targets))
        for _ in range(_HALVINGS):
            if loss(weights - step) <= lowest:
                break
            step = step / 2
        else:
            break
        weights = weights - step
        lowest = loss(weights)
        if np.abs(step).max() < 1e-9:
            break
    return [float(weight) for weight in weights]


def fit_isotonic(scores: Floats, is_right: Bools) -> ScoreMap:
    """Points that never fall, joined by lines; from (0, 0) to the first.

    Detections are taken in groups of `FEWEST_A_POINT` or more neighbours, of equal scores all in one, and neighbours
    pooled until their shares rise (pool adjacent violators: Ayer et al., "An Empirical Distribution Function for
    Sampling with Incomplete Information", 1955).

    Args: as `fit_temperature`.
    """
    order = np.argsort(scores, kind="stable")
    values, first = np.unique(scores[order], return_index=True)
    size = max(FEWEST_A_POINT, -(-len(scores) // MOST_POINTS))
    group = np.repeat(first, np.diff(first, append=len(scores))) // size
    # A last group that is not full belongs to the one before it.
    if len(values) and np.count_nonzero(group == group[-1]) < size:
        before = group[group < group[-1]]
        group[group == group[-1]] = before[-1] if len(before) else group[-1]
    _, member = np.unique(group, return_inverse=True)
    pools: list[tuple[float, float, int]] = []  # sums of scores and of hits, and how many
    for sum_of_scores, hits, count in zip(
        np.bincount(member, scores[order]).tolist(),
        np.bincount(member, is_right[order]).tolist(),
        np.bincount(member).tolist(),
        strict=True,
    ):
        pool = sum_of_scores, hits, count
        while pools and pools[-1][1] / pools[-1][2] >= pool[1] / pool[2]:
            last = pools.pop()
            pool = last[0] + pool[0], last[1] + pool[1], last[2] + pool[2]
        pools.append(pool)
    points = [(total / count, hits / count) for total, hits, count in pools]
    return ScoreMap("isotonic", points=tuple(points if points[0][0] == 0 else [(0.0, 0.0), *points]))


FITS: Mapping[Method, Callable[[Floats, Bools], ScoreMap | None]] = {
    "temperature": fit_temperature,
    "platt": fit_platt,
    "isotonic": fit_isotonic,
}
