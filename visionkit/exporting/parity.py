"""How well an exported graph says what its model says: both on the same letterboxed images, compared one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from visionkit.predict.backend import Raw, RawClasses, RawDetections, RawMap
from visionkit.result import Task

LEAST_SCORE = 0.05
"""Detections of either side of at least this score must have a counterpart."""

SAME_BOX = 0.5
"""Boxes of one class are the same object's where they overlap by at least so much, the most overlapping first."""

EDGE = 1e-3
"""A score this near to the least one, or an overlap this near to where suppression begins, may fall to either side;
of a least score below 0.05, a fiftieth of it."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What may differ. Of fp32 only the order of additions does.

    Args:
        unmatched: largest share of detections, or of decisions on pixels or images, without a counterpart.
        score: largest difference of a score, or of a probability; None where any will do.
        iou: smallest IoU of matched boxes; None where any will do.
        metric: most that AP, or the metric of the task, may fall.
    """

    unmatched: float
    score: float | None
    iou: float | None
    metric: float


FP32 = Tolerance(unmatched=0.0, score=1e-3, iou=0.99, metric=1e-3)
INT8 = Tolerance(unmatched=0.1, score=None, iou=None, metric=0.01)
"""Eight bits move every score a little, and with it which of two like boxes stays: AP must hold, and nine of ten
decisions."""

MAPS_DIFFER = 1e-4
"""Share of a map's pixels, of two classes almost alike, that fp32 may decide otherwise."""


class Parity(Protocol):
    """What was found so far of two sides of one task."""

    images: int

    def add(self, ours: Sequence[Raw], theirs: Sequence[Raw]) -> None:
        """Count a batch: what the model says of its images, and what the graph does."""

    def facts(self) -> dict[str, int | float | None]:
        """The figures by name."""

    def complaints(self, tolerance: Tolerance) -> list[str]:
        """What is out of tolerance, a line each."""


class DetectionParity:
    """Of detectors: boxes matched, and how matched ones differ.

    Args:
        iou: the overlap above which both sides suppressed.
        most: detections an image that both were asked for; of as many, the last may be another.
        least: score from which on a detection must have a counterpart.
    """

    def __init__(self, iou: float, most: int, least: float = LEAST_SCORE) -> None:
        self.iou = iou
        self.most = most
        self.least = least
        self.edge = min(EDGE, least / 50)
        self.images = 0
        self.detections = [0, 0]  # of the model and of the graph
        self.matched = self.unmatched = self.on_edge = 0
        self.largest_score_difference: float | None = None
        self.smallest_iou: float | None = None
        self.largest_mask_difference: float | None = None

    def add(self, ours: Sequence[Raw], theirs: Sequence[Raw]) -> None:
        for one, other in zip(ours, theirs, strict=True):
            assert isinstance(one, RawDetections)
            assert isinstance(other, RawDetections)
            self.images += 1
            full = [float(side.scores.min()) + self.edge for side in (one, other) if len(side.scores) >= self.most]
            self._add(self._counted(one), self._counted(other), max([self.least, *full]))

    def _add(self, one: RawDetections, other: RawDetections, least: float) -> None:
        overlap = np.where(one.labels[:, None] == other.labels, overlaps(one.boxes, other.boxes), 0.0)
        pairs = matched_pairs(overlap)
        for i, j in pairs:
            if max(one.scores[i], other.scores[j]) < least:
                continue
            self.matched += 1
            self.largest_score_difference = _larger(
                self.largest_score_difference, abs(float(one.scores[i]) - float(other.scores[j]))
            )
            self.smallest_iou = min(float(overlap[i, j]), 1.0 if self.smallest_iou is None else self.smallest_iou)
            if one.masks is not None and other.masks is not None:
                difference = float(np.abs(one.masks[i] - other.masks[j]).max(initial=0.0))
                self.largest_mask_difference = _larger(self.largest_mask_difference, difference)
        for side, there, of_side, shared in ((one, other, 0, overlap), (other, one, 1, overlap.T)):
            counted = side.scores >= least
            self.detections[of_side] += int(counted.sum())
            alone = counted.copy()
            alone[[pair[of_side] for pair in pairs]] = False
            for i in np.flatnonzero(alone).tolist():
                near_least = side.scores[i] < least + self.edge
                # What suppressed it there overlaps it as much as that took, and here just less.
                better = there.scores > side.scores[i] - self.edge
                near_overlap = bool((np.abs(shared[i][better] - self.iou) < EDGE).any())
                if near_least or near_overlap:
                    self.on_edge += 1
                else:
                    self.unmatched += 1

    def _counted(self, found: RawDetections) -> RawDetections:
        """Those that count, and those on the edge: a counterpart may score a little less. Boxes without area are none
        of the image, in prediction either."""
        kept = (found.scores >= self.least - self.edge) & (found.boxes[:, 2:] > found.boxes[:, :2]).all(1)
        masks = None if found.masks is None else found.masks[kept]
        return RawDetections(found.boxes[kept], found.scores[kept], found.labels[kept], masks)

    def facts(self) -> dict[str, int | float | None]:
        masks = (
            {} if self.largest_mask_difference is None else {"largest_mask_difference": self.largest_mask_difference}
        )
        return {
            "least_score": self.least,
            "detections_of_model": self.detections[0],
            "detections_of_export": self.detections[1],
            "matched": self.matched,
            "unmatched": self.unmatched,
            "on_edge": self.on_edge,
            "largest_score_difference": self.largest_score_difference,
            "smallest_iou": self.smallest_iou,
            **masks,
        }

    def complaints(self, tolerance: Tolerance) -> list[str]:
        if not self.detections[0]:
            return [f"the model finds nothing of score {self.least} in {self.images} images, so nothing was compared"]
        found = []
        detections = sum(self.detections)
        if self.unmatched > tolerance.unmatched * detections:
            found.append(
                f"{self.unmatched} of {detections} detections of both have no counterpart, "
                f"{_at_most(tolerance.unmatched * detections)} may have none"
            )
        found += _too_different("scores", self.largest_score_difference, tolerance.score)
        found += _too_different("masks", self.largest_mask_difference, tolerance.score and 10 * tolerance.score)
        if tolerance.iou is not None and self.smallest_iou is not None and self.smallest_iou < tolerance.iou:
            found.append(f"matched boxes overlap by only {self.smallest_iou:.4f}, {tolerance.iou} is the least")
        return found


class ClassParity:
    """Of classifiers that say every class: whether the best one is the same, and how probabilities differ."""

    def __init__(self) -> None:
        self.images = self.unmatched = 0
        self.largest_score_difference: float | None = None

    def add(self, ours: Sequence[Raw], theirs: Sequence[Raw]) -> None:
        for one, other in zip(ours, theirs, strict=True):
            assert isinstance(one, RawClasses)
            assert isinstance(other, RawClasses)
            self.images += 1
            difference = float(np.abs(_by_label(one) - _by_label(other)).max())
            self.largest_score_difference = _larger(self.largest_score_difference, difference)
            close = float(one.scores[0] - _by_label(one)[other.labels[0]]) < EDGE
            self.unmatched += int(one.labels[0] != other.labels[0] and not close)

    def facts(self) -> dict[str, int | float | None]:
        return {"other_best_class": self.unmatched, "largest_score_difference": self.largest_score_difference}

    def complaints(self, tolerance: Tolerance) -> list[str]:
        found = []
        if self.unmatched > tolerance.unmatched * self.images:
            found.append(
                f"{self.unmatched} of {self.images} images have another best class, "
                f"{_at_most(tolerance.unmatched * self.images)} may have one"
            )
        return found + _too_different("scores", self.largest_score_difference, tolerance.score)


class MapParity:
    """Of segmenters: pixels decided otherwise, and how probabilities differ."""

    def __init__(self) -> None:
        self.images = self.pixels = self.unmatched = 0
        self.largest_score_difference: float | None = None

    def add(self, ours: Sequence[Raw], theirs: Sequence[Raw]) -> None:
        for one, other in zip(ours, theirs, strict=True):
            assert isinstance(one, RawMap)
            assert isinstance(other, RawMap)
            self.images += 1
            self.pixels += one.scores[0].size
            self.unmatched += int((one.scores.argmax(0) != other.scores.argmax(0)).sum())
            difference = float(np.abs(_softmax(one.scores) - _softmax(other.scores)).max())
            self.largest_score_difference = _larger(self.largest_score_difference, difference)

    def facts(self) -> dict[str, int | float | None]:
        return {
            "pixels": self.pixels,
            "pixels_of_another_class": self.unmatched,
            "largest_score_difference": self.largest_score_difference,
        }

    def complaints(self, tolerance: Tolerance) -> list[str]:
        found = []
        most = max(tolerance.unmatched, MAPS_DIFFER) * self.pixels
        if self.unmatched > most:
            found.append(f"{self.unmatched} of {self.pixels} pixels have another class, {_at_most(most)} may have one")
        return found + _too_different("probabilities", self.largest_score_difference, tolerance.score)


def parity_of(task: Task, *, iou: float | None, most: int, least: float = LEAST_SCORE) -> Parity:
    """What counts the agreement of two sides of a task; the arguments are a detector's, as for `DetectionParity`."""
    if task == "detect":
        assert iou is not None
        return DetectionParity(iou, most, least)
    return ClassParity() if task == "classify" else MapParity()


def overlaps(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """IoU [N, M] of boxes [N, 4] and [M, 4]; 0 of two empty ones.

    >>> overlaps(np.array([[0, 0, 2, 2]], np.float32), np.array([[1, 0, 3, 2]], np.float32)).round(4)  # 2 / (4 + 4 - 2)
    array([[0.3333]])
    """
    one, other = a[:, None].astype(np.float64), b[None].astype(np.float64)
    shared = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    intersection = shared.clip(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clip(min=0).prod(-1) for box in (one, other)]
    union = areas[0] + areas[1] - intersection
    found: NDArray[np.float64] = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return found


def matched_pairs(overlap: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs (row, column), each of them in one pair at most: those that overlap most first, down to `SAME_BOX`.

    >>> matched_pairs(np.array([[0.9, 0.95], [0.8, 0.1]]))  # the best pair is 0-1, which leaves 1-0
    [(0, 1), (1, 0)]
    """
    rows, columns = (overlap >= SAME_BOX).nonzero()
    order = np.argsort(-overlap[rows, columns], kind="stable")
    pairs, of_row, of_column = [], set(), set()
    for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if i not in of_row and j not in of_column:
            pairs.append((i, j))
            of_row.add(i)
            of_column.add(j)
    return pairs


def _by_label(found: RawClasses) -> NDArray[np.float32]:
    scores = np.zeros(len(found.labels), np.float32)
    scores[found.labels] = found.scores
    return scores


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(scores - scores.max(0))
    of_all: NDArray[np.float32] = powers / powers.sum(0)
    return of_all


def _larger(known: float | None, value: float) -> float:
    return value if known is None else max(known, value)


def _at_most(count: float) -> str:
    return "none" if count < 1 else str(int(count))


def _too_different(what: str, difference: float | None, most: float | None) -> list[str]:
    if most is None or difference is None or difference <= most:
        return []
    return [f"{what} differ by {difference:.2g}, {most:g} is the most"]
