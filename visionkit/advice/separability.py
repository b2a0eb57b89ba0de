"""How well the features that a backbone has already tell the classes of the user's objects apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 5
MOST_STEPS = 100
CHANGE = 1e-6
"""Of alpha and beta, by which the evidence counts as at its highest."""

LEAST = 1e-9
"""In place of 0, where features explain everything or nothing."""


@dataclass(frozen=True, slots=True)
class Separability:
    """How far classes lie apart.

    Args:
        knn: mean over classes of how often the nearest crops of other images name the right one, brought from chance to
            0 and from always to 1; below 0 it is worse than chance.
        logme: log of the maximum evidence of a crop, a mean over classes; only differences mean something.
        crops: that were looked at.
        fewest: of a class.
        background: whether one of the classes is what lies beside the objects.
    """

    knn: float
    logme: float
    crops: int
    fewest: int
    background: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "knn": self.knn,
            "logme": self.logme,
            "crops": self.crops,
            "fewest": self.fewest,
            "background": self.background,
        }


def separability_of(
    features: NDArray[np.float64], labels: NDArray[np.int64], image: NDArray[np.int64], *, background: bool
) -> Separability | None:
    """The separability of crops; None where fewer than two classes have crops of two images.

    Args:
        features: [N, D].
        labels: i64 [N].
        image: i64 [N], the image that each crop is of.
        background: whether one label stands for what lies beside objects.
    """
    usable = [c for c in np.unique(labels) if len(np.unique(image[labels == c])) > 1]
    if len(usable) < 2:
        return None
    kept = np.isin(labels, usable)
    features, labels, image = standardised(features[kept]), labels[kept], image[kept]
    recall = knn_recall(features, labels, image)
    chance = 1 / len(usable)
    counts = np.unique(labels, return_counts=True)[1]
    return Separability(
        knn=(float(recall.mean()) - chance) / (1 - chance),
        logme=log_maximum_evidence(features, labels),
        crops=len(labels),
        fewest=int(counts.min()),
        background=background,
    )


def standardised(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each of the D features [N, D] with mean 0 and deviation 1, or all 0 where it is constant."""
    deviation = features.std(0)
    scaled: NDArray[np.float64] = (features - features.mean(0)) / np.where(deviation > 0, deviation, 1)
    return scaled


def knn_recall(
    features: NDArray[np.float64], labels: NDArray[np.int64], image: NDArray[np.int64], neighbours: int = NEIGHBOURS
) -> NDArray[np.float64]:
    """Of each class, in the order of their labels: the share of crops whose nearest neighbours name it.

    Neighbours are the crops of other images of the largest cosine; crops of one image share light and place, and would
    name each other for that. Each votes by its place, the nearest counts most among equals.

    Args:
        features: [N, D], centred.
        labels, image: i64 [N].
        neighbours: how many vote.
    """
    length = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features / np.where(length > 0, length, 1)
    classes = np.unique(labels)
    right = np.zeros(len(labels))
    for i, direction in enumerate(directions):
        others = np.flatnonzero(image != image[i])
        if len(others) == 0:
            continue
        nearest = others[np.argsort(-(directions[others] @ direction), kind="stable")[:neighbours]]
        # One vote each; what the nearer ones have more is less than a vote.
        weights = 1 + 1e-3 / np.arange(1, len(nearest) + 1)
        votes = np.bincount(np.searchsorted(classes, labels[nearest]), weights, minlength=len(classes))
        right[i] = classes[votes.argmax()] == labels[i]
    return np.array([right[labels == c].mean() for c in classes])


def log_maximum_evidence(features: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """LogME: log of the highest evidence that a linear model with a normal prior gives the labels, a crop, as a mean
    over the classes, each as 0 or 1.

    Source: You et al. 2021, LogME: Practical Assessment of Pre-trained Models for Transfer Learning: its
    fixed-point iteration, in the basis of the singular vectors.

    Args:
        features: [N, D], N at least 1.
        labels: i64 [N].
    """
    left, sizes, _ = np.linalg.svd(features, full_matrices=False)
    return float(np.mean([_evidence(left, sizes, features.shape[1], (labels == c) * 1.0) for c in np.unique(labels)]))


def _evidence(
    left: NDArray[np.float64], sizes: NDArray[np.float64], dimensions: int, target: NDArray[np.float64]
) -> float:
    """Of one target [N], over N; the features are `left` @ diag(`sizes`) @ any rotation."""
    count = len(target)
    along = left.T @ target
    # What no feature reaches is error whatever the weights.
    beyond = max(float(target @ target - along @ along), 0.0)
    squares = sizes**2
    alpha = beta = 1.0
    for _ in range(MOST_STEPS):
        weights = beta * sizes * along / (alpha + beta * squares)
        length = float(weights @ weights)
        error = beyond + float(((along - sizes * weights) ** 2).sum())
        effective = float((beta * squares / (alpha + beta * squares)).sum())
        before = alpha, beta
        alpha = max(effective, LEAST) / max(length, LEAST)
        beta = max(count - effective, LEAST) / max(error, LEAST)
        if np.allclose(before, (alpha, beta), rtol=CHANGE, atol=0):
            break
    weights = beta * sizes * along / (alpha + beta * squares)
    error = beyond + float(((along - sizes * weights) ** 2).sum())
    determinant = float(np.log(alpha + beta * squares).sum()) + (dimensions - len(sizes)) * np.log(alpha)
    return float(
        count * np.log(beta)
        + dimensions * np.log(alpha)
        - count * np.log(2 * np.pi)
        - beta * error
        - alpha * float(weights @ weights)
        - determinant
    ) / (2 * count)
