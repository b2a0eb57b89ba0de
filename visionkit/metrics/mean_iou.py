"""How good semantic maps are: mean IoU and what belongs to it, counted image by image in a confusion matrix.

Sources: Long et al. 2015, Fully Convolutional Networks, section 5 (pixel accuracy, mean accuracy, mean IU, frequency
weighted IU); Cheng et al. 2021, Boundary IoU, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.metrics.intervals import FEWEST_IMAGES, RESAMPLES, Interval, image_counts, interval_of_draws

IGNORED = 255
"""The label of pixels that no one judges."""

BOUNDARY_SHARE = 0.02
"""Width of a boundary as a share of the image's diagonal. Source: Cheng et al. 2021, section 5."""

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SegmentationClassScores:
    """The scores of one class over all images; None where one is not defined.

    Args:
        IoU: pixels that truth and prediction both give to the class, of those that either gives to it.
        accuracy: share of its true pixels that are found.
        boundary_iou: IoU of the pixels near the class's contours, those around what no one judges too; None where it
            was not asked for.
        pixels: true ones.
        predicted_pixels: of those that are judged.
    """

    IoU: float | None
    accuracy: float | None
    boundary_iou: float | None
    pixels: int
    predicted_pixels: int


@dataclass(frozen=True, slots=True)
class SegmentationScores:
    """The scores of semantic maps, each in [0, 1], or None where it is not defined.

    Args:
        images: how many were judged.
        mIoU: mean of the classes' IoU. A class that neither truth nor prediction has anywhere is in no mean.
        pixel_accuracy: share of judged pixels that are right.
        mean_accuracy: mean over the classes with true pixels of the share of these that are found.
        frequency_weighted_iou: mean of the classes' IoU, each weighted by its true pixels.
        boundary_iou: mean of the classes' boundary IoU; None where it was not asked for.
        per_class: the scores by class name, in the order of labels.
        confusion: judged pixels by true class (rows) and predicted class (columns), K x (K + 1); the last column is
            what was given to no class.
        interval95: the 95 % intervals of mIoU and pixel_accuracy by bootstrap over images, see
            `visionkit.metrics.intervals`; None where not asked for, and each of them of few images.
    """

    images: int
    mIoU: float | None  # noqa: N815 - as the field writes it
    pixel_accuracy: float | None
    mean_accuracy: float | None
    frequency_weighted_iou: float | None
    boundary_iou: float | None
    per_class: Mapping[str, SegmentationClassScores]
    confusion: tuple[tuple[int, ...], ...] = ()
    interval95: Mapping[str, Interval | None] | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that `visionkit evaluate --json` prints; what is not defined is null."""
        return {"task": "segment", **asdict(self)}


class MapCounts:
    """Pixels counted over images as they come; of an image three numbers a class are kept at most.

    Args:
        classes: of the labels.
        boundaries: whether to count boundaries too, which takes several times as long as all else.
        intervals: give 95 % intervals too.

    >>> counts = MapCounts(ClassTable((0, 1), ("road", "car")))
    >>> counts.add(np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 1, 1, 1]], np.uint8))
    >>> scores = counts.scores()  # road 1 of 2, car 1 of 2
    >>> scores.mIoU, round(scores.pixel_accuracy, 4)
    (0.5, 0.6667)
    """

    def __init__(self, classes: ClassTable, *, boundaries: bool = False, intervals: bool = False) -> None:
        self.classes = classes
        self.boundaries = boundaries
        self.images = 0
        # Rows are truth, columns prediction; one column more for what was given to no class.
        self.confusion = np.zeros((len(classes), len(classes) + 1), np.int64)
        # Of each class, boundary pixels that both have and that either has.
        self.boundary = np.zeros((len(classes), 2), np.int64)
        # Of each image its right, true and predicted pixels by class, i64 [3, K].
        self.of_images: list[NDArray[np.int64]] | None = [] if intervals else None

    def add(self, truth: Labels, predicted: Labels) -> None:
        """Count an image.

        Args:
            truth: u8 [H, W]; `IGNORED` is not judged.
            predicted: u8 [H, W]; a label that is no class, such as `IGNORED`, is wrong wherever it is judged.
        """
        assert truth.shape == predicted.shape
        confusion = map_confusion(truth, predicted, len(self.classes))
        self.confusion += confusion
        if self.of_images is not None:
            self.of_images.append(np.stack(_right_true_predicted(confusion)))
        if self.boundaries:
            self._add_boundaries(truth, predicted)
        self.images += 1

    def _add_boundaries(self, truth: Labels, predicted: Labels) -> None:
        width = boundary_width(*truth.shape)
        # Where no one judges the truth ends, and so must the prediction: else what is right everywhere scores below 1.
        predicted = np.where(truth == IGNORED, np.uint8(IGNORED), predicted)
        for label in np.union1d(truth, predicted).tolist():
            if label < len(self.classes):
                near_truth, near_predicted = (near_boundary(m == label, width) for m in (truth, predicted))
                self.boundary[label] += (
                    np.count_nonzero(near_truth & near_predicted),
                    np.count_nonzero(near_truth | near_predicted),
                )

    def scores(self) -> SegmentationScores:
        """Of all images that were added."""
        right, true, predicted = _right_true_predicted(self.confusion)
        iou = _shares(right, true + predicted - right)
        accuracy = _shares(right, true)
        boundary = _shares(*self.boundary.T)
        per_class = {
            name: SegmentationClassScores(
                IoU=_number(iou[label]),
                accuracy=_number(accuracy[label]),
                boundary_iou=_number(boundary[label]),
                pixels=int(true[label]),
                predicted_pixels=int(predicted[label]),
            )
            for label, name in enumerate(self.classes.names)
        }
        return SegmentationScores(
            images=self.images,
            mIoU=_mean(iou),
            pixel_accuracy=_number(_shares(right.sum(), true.sum())),
            mean_accuracy=_mean(accuracy),
            frequency_weighted_iou=_number(_shares(np.nansum(true * iou), true.sum())),
            boundary_iou=_mean(boundary),
            per_class=per_class,
            confusion=tuple(tuple(row) for row in self.confusion.tolist()),
            interval95=None if self.of_images is None else _intervals(self.of_images),
        )


def _right_true_predicted(confusion: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Of a confusion matrix [K, K + 1], pixels by class, i64 [K] each."""
    return np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)[:-1]


def _intervals(of_images: Sequence[NDArray[np.int64]]) -> dict[str, Interval | None]:
    """Of mIoU and pixel accuracy, of the counts [3, K] of I images."""
    if len(of_images) < FEWEST_IMAGES:
        return {"mIoU": None, "pixel_accuracy": None}
    table = np.stack(of_images).astype(np.float64)
    drawn = np.tensordot(image_counts(len(table), seed=0, resamples=RESAMPLES).astype(np.float64), table, axes=1)
    right, true, predicted = drawn.transpose(1, 0, 2)  # [R, K] each
    iou = _shares(right, true + predicted - right)
    defined = ~np.isnan(iou)
    return {
        "mIoU": interval_of_draws(_shares(np.where(defined, iou, 0).sum(axis=1), defined.sum(axis=1))),
        "pixel_accuracy": interval_of_draws(_shares(right.sum(axis=1), true.sum(axis=1))),
    }


def map_confusion(truth: Labels, predicted: Labels, classes: int) -> NDArray[np.int64]:
    """i64 [K, K + 1], the judged pixels of a map by true label (rows) and predicted label (columns); the last column is
    what was given to no class.

    Args: as `MapCounts.add`, and K.
    """
    judged = truth != IGNORED
    columns = np.minimum(predicted, classes)[judged].astype(np.int64)
    pairs = truth[judged] * np.int64(classes + 1) + columns
    return np.bincount(pairs, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def boundary_width(height: int, width: int) -> int:
    """Pixels from the contour inwards that belong to a boundary: `BOUNDARY_SHARE` of the diagonal, at least one."""
    return max(1, round(BOUNDARY_SHARE * float(np.hypot(height, width))))


def near_boundary(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The pixels of a mask [H, W] that at most `width` steps of a king lead out of, off the image too.

    That is the mask without what `width` erosions by 3x3 pixels leave of it, in one pass instead of `width`.
    """
    # Zeros around it: what touches the image's border ends there.
    padded = np.pad(mask.astype(np.uint8), 1)
    distance = np.asarray(cv2.distanceTransform(padded, cv2.DIST_C, 3))[1:-1, 1:-1]
    near: NDArray[np.bool_] = mask & (distance <= width)
    return near


def _shares(part: Any, whole: Any) -> NDArray[np.float64]:
    """part / whole, NaN where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return shares


def _mean(values: NDArray[np.float64]) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
