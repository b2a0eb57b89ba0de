"""Scores of a classifier: accuracy, top-5, precision, recall, F-beta, ROC AUC and the confusion matrix.

Each is one class against the rest, then the plain mean over the classes where it is defined, as scikit-learn's
`average="macro"`, to which the tests hold these numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable

TOP = 5


@dataclass(frozen=True, slots=True)
class ClassRow:
    """The scores of one class against the rest, each in [0, 1], or None where it is not defined.

    Args:
        precision: of the images called so, the share that are; None where no image is called so.
        recall: of the images that are, the share called so; None where there is none.
        f1: harmonic mean of the two; None where no image is or is called so.
        f_beta: weighted harmonic mean of the two, likewise; None where no weight was given.
        roc_auc: probability that an image of the class scores higher for it than another, a tie counting half; None
            where all images are of the class, or none is.
        images: of the class.
        predicted: images called so.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    roc_auc: float | None
    images: int
    predicted: int
    f_beta: float | None = None


@dataclass(frozen=True, slots=True)
class ClassificationScores:
    """The scores of a classifier on N images, each in [0, 1], or None where it is not defined.

    Args:
        images: N.
        accuracy: share of images whose class has the highest score.
        top5: share of images whose class is among the five with the highest scores; None where there are no more.
        precision, recall, f1, roc_auc, f_beta: means over the classes where they are defined.
        per_class: the scores by class name, in the order of labels.
        confusion: images by true label (rows) and predicted label (columns), K x K.
        beta: how many times as much as precision recall counts in `f_beta`; None where it was not asked for.
    """

    images: int
    accuracy: float
    top5: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    roc_auc: float | None
    per_class: Mapping[str, ClassRow]
    confusion: tuple[tuple[int, ...], ...]
    beta: float | None = None
    f_beta: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that `visionkit evaluate --json` prints; what is not defined is null."""
        return {"task": "classify", **asdict(self)}


def classification_scores(
    labels: NDArray[np.int64], scores: NDArray[np.floating], classes: ClassTable, beta: float | None = None
) -> ClassificationScores:
    """Judge a classifier.

    Of classes with equal scores the one with the lower label is ranked first.

    Args:
        labels: i64 [N], the truth, at least one image.
        scores: [N, K] of each image for each class.
        beta: give F-beta too, in which recall counts so many times as much as precision; above 0.

    >>> scores = np.array([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
    >>> found = classification_scores(np.array([0, 1, 1]), scores, ClassTable((1, 2), ("cat", "dog")))
    >>> round(found.accuracy, 4), found.confusion, found.per_class["dog"].recall, found.per_class["dog"].roc_auc
    (0.6667, ((1, 0), (1, 1)), 0.5, 1.0)
    """
    count, size = scores.shape
    assert count > 0
    assert size == len(classes)
    confusion = confusion_matrix(labels, scores.argmax(axis=1), size)
    precision, recall, f1 = precisions(confusion), recalls(confusion), f_beta(confusion)
    weighted = np.full(size, np.nan) if beta is None else f_beta(confusion, beta)
    auc = np.array([roc_auc(labels == label, scores[:, label]) for label in range(size)])
    rows = {
        name: ClassRow(
            _defined(precision[label]),
            _defined(recall[label]),
            _defined(f1[label]),
            _defined(auc[label]),
            int(confusion[label].sum()),
            int(confusion[:, label].sum()),
            _defined(weighted[label]),
        )
        for label, name in enumerate(classes.names)
    }
    return ClassificationScores(
        images=count,
        accuracy=float(np.trace(confusion) / count),
        top5=float((true_ranks(labels, scores) < TOP).mean()) if size > TOP else None,
        precision=_mean_defined(precision),
        recall=_mean_defined(recall),
        f1=_mean_defined(f1),
        roc_auc=_mean_defined(auc),
        per_class=rows,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        beta=beta,
        f_beta=_mean_defined(weighted),
    )


def confusion_matrix(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """i64 [K, K], images by true label (rows) and predicted label (columns); labels and predictions are i64 [N]."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def precisions(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """f64 [K], of each class the share of its column on the diagonal; NaN where the column is empty."""
    return _ratio(confusion.diagonal(), confusion.sum(axis=0))


def recalls(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """f64 [K], of each class the share of its row on the diagonal; NaN where the row is empty."""
    return _ratio(confusion.diagonal(), confusion.sum(axis=1))


def f_beta(confusion: NDArray[np.int64], beta: float = 1.0) -> NDArray[np.float64]:
    """f64 [K], (1 + beta²) P R / (beta² P + R) of each class; NaN where no image is, or is called, of the class.

    Source: van Rijsbergen 1979, Information Retrieval, chapter 7: recall counts beta times as much as precision.
    """
    # By counts, of which P = hits / column and R = hits / row are made: 0 where P or R has no denominator.
    weighted = beta**2 * confusion.sum(axis=1) + confusion.sum(axis=0)
    return _ratio((1 + beta**2) * confusion.diagonal(), weighted)


def roc_auc(positive: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Area under the ROC curve: the share of pairs of a positive and a negative that the scores put in order, a tie
    counting half. NaN where one of the two kinds is missing.

    Source: Hanley and McNeil 1982, The Meaning and Use of the Area under a ROC Curve: it is the Mann-Whitney U of the
    positives, here by their ranks, over the number of pairs.

    >>> roc_auc(np.array([True, True, False, False]), np.array([0.9, 0.4, 0.4, 0.1]))  # 1 + 1 + 1/2 + 1 of 4 pairs
    0.875
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # Of equal scores each has the mean of the ranks they take, counted from 1.
    ranks = np.cumsum(counts) - (counts - 1) / 2
    wins = ranks[place][positive].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def true_ranks(labels: NDArray[np.int64], scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """i64 [N], how many classes are ranked before the true one."""
    true = np.take_along_axis(scores, labels[:, None], axis=1)
    lower = np.arange(scores.shape[1]) < labels[:, None]
    before: NDArray[np.int64] = ((scores > true) | ((scores == true) & lower)).sum(axis=1)
    return before


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return ratio


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean_defined(values: NDArray[np.float64]) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None
