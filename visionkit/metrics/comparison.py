"""Which of two detectors is better, and whether these images can tell: a paired bootstrap over images.

Both are judged on the same draws of images (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter
16; paired by image as in Koehn, "Statistical Significance Tests for Machine Translation Evaluation", 2004): what an
image is hard in, it is hard in for both, so their difference moves far less than either's AP, and two detectors whose
own intervals overlap may still differ beyond doubt. The test tells of the choice of images alone; another training of
the same recipe differs too (`--seeds`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.counted import counted
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_columns import Task, detection_columns, truth_columns
from visionkit.metrics.coco_map import coco_scores
from visionkit.metrics.coco_precision import judge
from visionkit.metrics.intervals import FEWEST_IMAGES, PERCENTILES, RESAMPLES, Interval, image_counts, resampled_ap


@dataclass(frozen=True, slots=True)
class Difference:
    """One number of detectors A and B; what is not defined is None.

    Args:
        difference: b - a.
        interval95: of the difference; None below `FEWEST_IMAGES` images too.
        p: how likely a difference this large is, up or down, were there none: twice the share of draws on the other
            side of 0, at most 1.
    """

    a: float | None
    b: float | None
    difference: float | None
    interval95: Interval | None = None
    p: float | None = None

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval95 is not None and not self.interval95[0] <= 0 <= self.interval95[1]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two detectors on the same images.

    Args:
        images: how many.
        per_class: AP of each class, without intervals.
    """

    task: Task
    images: int
    AP: Difference
    AP50: Difference
    per_class: Mapping[str, Difference]

    @property
    def verdict(self) -> str:
        """One sentence on AP."""
        if self.AP.difference is None:
            return "no AP is defined: there is no object to find"
        if self.AP.interval95 is None:
            are = "is" if self.images == 1 else "are"
            return f"{counted(self.images, 'image')} {are} too few to tell; at least {FEWEST_IMAGES} are needed"
        if not self.AP.is_told_apart:
            return f"not distinguishable on {counted(self.images, 'image')}"
        better, worse = ("B", "A") if self.AP.difference > 0 else ("A", "B")
        on = counted(self.images, "image")
        return f"{better} is better than {worse} on {on}, beyond their choice (p = {self.AP.p:.3f})"

    def to_json(self) -> dict[str, Any]:
        """The object that `visionkit compare --json` prints; what is not defined is null."""
        return {**asdict(self), "verdict": self.verdict}


def compare_detections(
    truth: AnnotatedImages,
    a: Sequence[Mapping[str, Any]],
    b: Sequence[Mapping[str, Any]],
    task: Task = "bbox",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """How detections `b` differ from `a` in AP and AP50.

    Args:
        truth, a, b, task: as `coco_scores` takes them.
        seed: of the draws of images.
        resamples: how many draws.

    Raises:
        UsageError, DataError: as `coco_scores`.
    """
    of_a, of_b = coco_scores(truth, a, task), coco_scores(truth, b, task)
    enough = len(truth.images) >= FEWEST_IMAGES
    drawn = _drawn_differences(truth, (a, b), task, seed, resamples) if enough else (None, None)
    return Comparison(
        task,
        len(truth.images),
        _difference(of_a.AP, of_b.AP, drawn[0]),
        _difference(of_a.AP50, of_b.AP50, drawn[1]),
        {name: _difference(row.AP, of_b.per_class[name].AP) for name, row in of_a.per_class.items()},
    )


def _drawn_differences(
    truth: AnnotatedImages, pair: Sequence[Sequence[Mapping[str, Any]]], task: Task, seed: int, resamples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of AP and of AP50, f64 [R] each: second minus first, both on the same draw of images."""
    objects, counts = truth_columns(truth, task), image_counts(len(truth.images), seed, resamples)
    (ap_a, ap50_a), (ap_b, ap50_b) = (
        resampled_ap(objects, judge(objects, detection_columns(truth, rows, task)), len(truth.classes), counts)
        for rows in pair
    )
    return ap_b - ap_a, ap50_b - ap50_a


def _difference(a: float | None, b: float | None, drawn: NDArray[np.float64] | None = None) -> Difference:
    if a is None or b is None:
        return Difference(a, b, None)
    if drawn is None:
        return Difference(a, b, b - a)
    defined = drawn[~np.isnan(drawn)]
    low, high = np.percentile(defined, PERCENTILES).tolist()
    # The draw that is the data itself is one of them: no finite number of draws shows a chance of 0.
    tail = 1 + min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return Difference(a, b, b - a, (low, high), min(1.0, 2 * tail / (len(defined) + 1)))
