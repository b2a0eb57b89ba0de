"""How well features tell classes apart: a k-NN vote over other images, and the evidence of a linear model."""

import numpy as np
import pytest
from numpy.typing import NDArray

from visionkit.advice.separability import knn_recall, log_maximum_evidence, separability_of, standardised


def angle(*degrees: float) -> NDArray[np.float64]:
    radians = np.radians(degrees)
    return np.stack((np.cos(radians), np.sin(radians)), 1)


def test_neighbours_of_other_images_vote() -> None:
    features = angle(0, 1, 2, 90, 91, 3.5)
    labels = np.array([0, 0, 0, 1, 1, 1])
    images = np.array([0, 1, 2, 3, 4, 5])
    # One neighbour: 0 -> 1, 1 -> 0 or 2, 2 -> 1, 90 <-> 91; the last has 2, of the other class.
    recall = knn_recall(features, labels, images, neighbours=1)
    assert recall.tolist() == pytest.approx([1, 2 / 3])


def test_crops_of_the_same_image_do_not_vote() -> None:
    features, labels = angle(0, 1, 40, 50), np.array([0, 0, 1, 1])
    # Each one's nearest is of its own class, but of its own image: what is left is of the other class.
    assert knn_recall(features, labels, np.array([0, 0, 1, 1]), neighbours=1).tolist() == [0, 0]
    assert knn_recall(features, labels, np.array([0, 1, 2, 3]), neighbours=1).tolist() == [1, 1]


def test_among_equal_votes_the_nearest_decides() -> None:
    features, labels = angle(0, 5, -10), np.array([0, 0, 1])
    # 0 -> {5: class 0, -10: class 1}, right; 5 -> {0, -10}, right; -10 -> {0, 5}, both of class 0, wrong.
    assert knn_recall(features, labels, np.arange(3), neighbours=2).tolist() == [1, 0]


def test_a_class_counts_as_much_as_another_however_many_it_has() -> None:
    features = np.concatenate((angle(*range(20)), angle(90, 5)))
    labels = np.array([0] * 20 + [1] * 2)
    recall = knn_recall(features, labels, np.arange(22), neighbours=1)
    assert recall[1] == 0


def test_features_are_brought_to_one_size_and_constant_ones_to_0() -> None:
    found = standardised(np.array([[1.0, 100, 5], [3, 300, 5]]))
    assert found.tolist() == [[-1, -1, 0], [1, 1, 0]]


def clouds(apart: float, count: int = 40, dimensions: int = 6) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % 2
    features = random.normal(size=(count, dimensions))
    features += apart * labels[:, None]
    return features, labels


def slow_evidence(features: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """The highest log evidence of a grid of precisions, by the multivariate normal density of the target itself: with
    weights of variance 1 / alpha and noise of variance 1 / beta it has covariance F F' / alpha + 1 / beta."""
    best = -np.inf
    for alpha in np.geomspace(1e-2, 1e7, 50):
        for beta in np.geomspace(1e-1, 1e3, 40):
            covariance = features @ features.T / alpha + np.eye(len(target)) / beta
            _, determinant = np.linalg.slogdet(covariance)
            density = target @ np.linalg.solve(covariance, target) + determinant + len(target) * np.log(2 * np.pi)
            best = max(best, -density / 2)
    return best / len(target)


@pytest.mark.parametrize("apart", [0.5, 2, 5])
@pytest.mark.parametrize("dimensions", [3, 6])
def test_the_evidence_is_the_density_of_the_labels_at_its_highest(apart: float, dimensions: int) -> None:
    features, labels = clouds(apart, dimensions=dimensions)
    expected = np.mean([slow_evidence(features, (labels == c) * 1.0) for c in (0, 1)])
    assert log_maximum_evidence(features, labels) == pytest.approx(expected, abs=0.01)


def test_the_evidence_with_more_features_than_crops() -> None:
    features, labels = clouds(2, count=12, dimensions=30)
    found = log_maximum_evidence(features, labels)
    assert np.isfinite(found)


def test_classes_further_apart_have_more_evidence_and_a_better_vote() -> None:
    near, far = (separability_of(*clouds(apart), np.arange(40), background=False) for apart in (0.3, 6))
    assert near is not None
    assert far is not None
    assert far.logme > near.logme
    assert far.knn == 1
    assert near.knn < 0.7
    assert (far.crops, far.fewest, far.background) == (40, 20, False)


def test_features_that_say_nothing_are_no_error() -> None:
    found = separability_of(np.ones((6, 4)), np.array([0, 0, 0, 1, 1, 1]), np.arange(6), background=True)
    assert found is not None
    assert np.isfinite(found.logme)
    assert -1 <= found.knn <= 0.1


@pytest.mark.parametrize(
    ("labels", "images"),
    [
        ([], []),
        ([0, 0, 0], [0, 1, 2]),  # one class
        ([0, 0, 1], [0, 1, 2]),  # the second has one crop
        ([0, 0, 1, 1], [0, 1, 2, 2]),  # and here two of one image
    ],
)
def test_nothing_can_be_told_apart(labels: list[int], images: list[int]) -> None:
    features = np.random.default_rng(0).normal(size=(len(labels), 3))
    found = separability_of(features, np.array(labels, np.int64), np.array(images, np.int64), background=False)
    assert found is None


def test_a_class_of_one_crop_is_left_out_of_the_others_vote() -> None:
    features, labels = clouds(6)
    with_one = np.concatenate((features, features[:1])), np.append(labels, 2), np.arange(41)
    found = separability_of(*with_one, background=False)
    assert found is not None
    assert (found.crops, found.knn) == (40, 1)
