"""A classifier's scores: by hand, where they are not defined, and as scikit-learn has them."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.metrics.classification import (
    classification_scores,
    confusion_matrix,
    f_beta,
    precisions,
    recalls,
    roc_auc,
    true_ranks,
)


def table(classes: int) -> ClassTable:
    return ClassTable(tuple(range(1, classes + 1)), tuple(f"class {i}" for i in range(classes)))


# Eight images of three classes, called: 0 0 0 1 | 1 1 2 | 0.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
CALLED = np.array([0, 0, 0, 1, 1, 1, 2, 0])
CONFUSION = np.array([[3, 1, 0], [0, 2, 1], [1, 0, 0]])


def test_images_by_true_and_predicted_class() -> None:
    assert (confusion_matrix(LABELS, CALLED, 3) == CONFUSION).all()


def test_precision_recall_and_f_by_hand() -> None:
    np.testing.assert_allclose(precisions(CONFUSION), [3 / 4, 2 / 3, 0 / 1])
    np.testing.assert_allclose(recalls(CONFUSION), [3 / 4, 2 / 3, 0 / 1])
    np.testing.assert_allclose(f_beta(CONFUSION), [3 / 4, 2 / 3, 0])  # precision and recall are equal, so is their mean
    # Precision 1/1, recall 1/2: F1 = 2 * 1/2 / (3/2) = 2/3, F2 = 5 * 1/2 / (4 * 1 + 1/2) = 5/9.
    halved = np.array([[1, 1], [0, 2]])
    assert f_beta(halved)[0] == pytest.approx(2 / 3)
    assert f_beta(halved, beta=2)[0] == pytest.approx(5 / 9)


def test_of_a_class_without_images_only_precision_is_defined() -> None:
    called_wrongly = np.array([[1, 1], [0, 0]])
    np.testing.assert_array_equal(precisions(called_wrongly), [1, 0])
    np.testing.assert_array_equal(recalls(called_wrongly), [0.5, np.nan])
    np.testing.assert_array_equal(f_beta(np.array([[2, 0], [0, 0]])), [1, np.nan])


def test_the_scores_together() -> None:
    scores = np.eye(3)[CALLED] * 0.5 + 0.1
    found = classification_scores(LABELS, scores, table(3))
    assert found.images == 8
    assert found.accuracy == 5 / 8
    assert found.top5 is None  # of three classes five is no choice
    assert found.precision == pytest.approx((3 / 4 + 2 / 3 + 0) / 3)
    assert found.confusion == ((3, 1, 0), (0, 2, 1), (1, 0, 0))
    first = found.per_class["class 0"]
    assert (first.precision, first.recall, first.f1, first.images, first.predicted) == (0.75, 0.75, 0.75, 4, 4)
    # Of 4 positives 3 score high, of 4 negatives 1. Of 16 pairs 3 * 3 are in order, high and high 3 * 1 and low and low
    # 1 * 3 tie, low against high is lost: (9 + 6 / 2) / 16.
    assert first.roc_auc == pytest.approx(12 / 16)


def test_f_beta_is_given_where_it_is_asked_for() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]])  # called: 0 1 1 1
    plain = classification_scores(np.array([0, 0, 1, 1]), scores, table(2))
    assert (plain.beta, plain.f_beta, plain.per_class["class 0"].f_beta) == (None, None, None)
    found = classification_scores(np.array([0, 0, 1, 1]), scores, table(2), beta=2)
    # Class 0: precision 1, recall 1/2, 5/9 as above. Class 1: 2/3 and 1: 5 * 2/3 / (4 * 2/3 + 1) = 10/11.
    assert (found.per_class["class 0"].f_beta, found.per_class["class 1"].f_beta) == pytest.approx((5 / 9, 10 / 11))
    assert found.f_beta == pytest.approx((5 / 9 + 10 / 11) / 2)
    assert {**found.to_json(), "beta": None, "f_beta": None, "per_class": None} == {
        **plain.to_json(), "per_class": None
    }  # fmt: skip


def test_a_class_that_is_absent_is_left_out_of_the_means() -> None:
    found = classification_scores(np.array([0, 1]), np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]), table(3))
    absent = found.per_class["class 2"]
    assert (absent.precision, absent.recall, absent.f1, absent.roc_auc) == (None, None, None, None)
    assert (found.precision, found.recall, found.f1, found.roc_auc) == (1, 1, 1, 1)
    assert found.to_json()["per_class"]["class 2"]["roc_auc"] is None
    assert found.to_json()["task"] == "classify"


def test_one_image() -> None:
    found = classification_scores(np.array([1]), np.array([[0.5, 0.5]]), table(2))
    assert found.accuracy == 0  # a tie goes to the lower label
    assert found.roc_auc is None


def test_the_rank_of_the_true_class() -> None:
    scores = np.array([[0.1, 0.4, 0.4, 0.1]] * 4)
    # Best are 1 and 2, in the order of labels, then 0 and 3.
    assert true_ranks(np.array([0, 1, 2, 3]), scores).tolist() == [2, 0, 1, 3]


def test_top_5_of_six_classes() -> None:
    scores = np.tile(np.linspace(0.6, 0.1, 6), (6, 1))
    found = classification_scores(np.arange(6), scores, table(6))
    assert found.top5 == pytest.approx(5 / 6)
    assert found.accuracy == pytest.approx(1 / 6)


def slow_roc_auc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Pair by pair."""
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    return sum(pairs) / len(pairs)


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_roc_auc_is_that_of_all_pairs(levels: int) -> None:
    random = np.random.default_rng(levels)
    scores, positive = random.integers(levels, size=60) / levels, random.random(60) < 0.3
    assert roc_auc(positive, scores) == pytest.approx(slow_roc_auc(positive, scores), abs=1e-12)


def test_roc_auc_is_not_defined_of_one_kind() -> None:
    assert np.isnan(roc_auc(np.array([True, True]), np.array([0.1, 0.2])))
    assert np.isnan(roc_auc(np.array([], bool), np.array([])))


@pytest.fixture(scope="module")
def metrics() -> Any:
    return pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed: its numbers are not compared")


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_scikit_learn_agrees(metrics: Any, classes: int) -> None:
    random = np.random.default_rng(classes)
    labels = random.integers(classes, size=400)
    # Few levels, so that many scores are equal; sums to 1, as scikit-learn demands for its ROC AUC.
    logits = random.integers(4, size=(400, classes)) + 1.5 * np.eye(classes)[labels]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found, called = classification_scores(labels, scores, table(classes)), scores.argmax(axis=1)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, called), abs=1e-12)
    assert (np.array(found.confusion) == metrics.confusion_matrix(labels, called)).all()
    for ours, theirs in ((found.precision, "precision"), (found.recall, "recall"), (found.f1, "f1")):
        assert ours == pytest.approx(getattr(metrics, f"{theirs}_score")(labels, called, average="macro"), abs=1e-12)
    for beta in (0.5, 2):
        expected = metrics.fbeta_score(labels, called, beta=beta, average=None)
        np.testing.assert_allclose(f_beta(np.array(found.confusion), beta), expected, atol=1e-12)
        mean = classification_scores(labels, scores, table(classes), beta).f_beta
        assert mean == pytest.approx(metrics.fbeta_score(labels, called, beta=beta, average="macro"), abs=1e-12)
    one_against_rest = [metrics.roc_auc_score(labels == label, scores[:, label]) for label in range(classes)]
    assert found.roc_auc == pytest.approx(np.mean(one_against_rest), abs=1e-12)
    if classes > 2:
        whole = metrics.roc_auc_score(labels, scores, multi_class="ovr", average="macro")
        assert found.roc_auc == pytest.approx(whole, abs=1e-12)
    if classes > 5:
        # Without ties, about which its order differs from ours.
        untied = scores + 1e-9 * random.random(scores.shape)
        top5 = metrics.top_k_accuracy_score(labels, untied, k=5)
        assert classification_scores(labels, untied, table(classes)).top5 == pytest.approx(top5, abs=1e-12)
