"""Precision, recall and F1 at score thresholds: by hand."""

import numpy as np
import pytest
from coco_referee import detection, truth_of, truth_with

from visionkit.metrics.operating_points import (
    MOST_POINTS,
    BestThresholds,
    OperatingPoint,
    best_thresholds,
    curves_and_pooled,
    operating_curves,
)

HERE, THERE, NOWHERE = [0, 0, 40, 40], [100, 100, 40, 40], [300, 300, 40, 40]


def test_by_hand() -> None:
    truth = truth_of(truth_with({"bbox": HERE}, {"bbox": THERE}))
    found = [detection(HERE, 0.9), detection(NOWHERE, 0.8), detection(THERE, 0.7)]
    curve = operating_curves(truth, found)["cell"]
    # Hit, miss, hit of 2 objects: precision 1/1, 1/2, 2/3; recall 1/2, 1/2, 2/2; F1 2/3, 1/2, 4/5.
    rows = [(p.score, p.precision, p.recall, p.f1) for p in curve.points]
    expected = [(0.9, 1, 1 / 2, 2 / 3), (0.8, 1 / 2, 1 / 2, 1 / 2), (0.7, 2 / 3, 1, 4 / 5)]
    assert np.array(rows) == pytest.approx(np.array(expected))
    assert curve.best == OperatingPoint(*rows[2])
    assert curve.objects == 2


def test_all_classes_together_by_hand() -> None:
    truth = truth_of(truth_with({"bbox": HERE}, {"bbox": THERE, "category_id": 2}, categories=((1, "a"), (2, "b"))))
    found = [detection(THERE, 0.9, category_id=2), detection(NOWHERE, 0.8, category_id=2), detection(HERE, 0.7)]
    curves, pooled = curves_and_pooled(truth, found)
    assert curves == operating_curves(truth, found)
    # Alone each class is best at its own score; together hit, miss, hit of 2 objects, as above.
    assert [curve.best and curve.best.score for curve in curves.values()] == [0.7, 0.9]
    assert pooled.best == OperatingPoint(0.7, 2 / 3, 1, 4 / 5)
    assert (pooled.objects, len(pooled.points)) == (2, 3)
    per_class = {"a": OperatingPoint(0.7, 1, 1, 1), "b": OperatingPoint(0.9, 1, 1, 1)}
    assert best_thresholds(truth, found) == BestThresholds(pooled.best, per_class)
    assert best_thresholds(truth, []) == BestThresholds(None, {"a": None, "b": None})


def test_equal_scores_are_one_point() -> None:
    truth = truth_of(truth_with({"bbox": HERE}, {"bbox": THERE}))
    found = [detection(HERE, 0.5), detection(NOWHERE, 0.5), detection(THERE, 0.5)]
    (point,) = operating_curves(truth, found)["cell"].points
    assert (point.precision, point.recall) == pytest.approx((2 / 3, 1))


def test_without_objects_or_detections_there_is_no_curve() -> None:
    truth = truth_of(truth_with({"bbox": HERE}, categories=((1, "cell"), (2, "other"))))
    curves = operating_curves(truth, [detection(NOWHERE, 0.5, category_id=2)])
    assert (curves["other"].points, curves["other"].best, curves["other"].objects) == ((), None, 0)
    assert (curves["cell"].points, curves["cell"].best, curves["cell"].objects) == ((), None, 1)


def test_without_a_hit_there_is_no_best() -> None:
    curve = operating_curves(truth_of(truth_with({"bbox": HERE})), [detection(NOWHERE, 0.5)])["cell"]
    assert curve.best is None
    assert curve.points[0].precision == 0


def test_crowds_are_ignored() -> None:
    truth = truth_of(truth_with({"bbox": HERE}, {"bbox": THERE, "iscrowd": 1}))
    curve = operating_curves(truth, [detection(HERE, 0.9), detection(THERE, 0.95)])["cell"]
    assert [(p.precision, p.recall) for p in curve.points] == [(1, 1)]


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    truth = truth_of(truth_with(*({"bbox": HERE, "image_id": i} for i in range(1, 501)), images=500))
    found = [detection(HERE, i / 1000, image_id=i) for i in range(1, 501)]
    curve = operating_curves(truth, found)["cell"]
    assert len(curve.points) == MOST_POINTS
    assert (curve.points[0].score, curve.points[-1].score) == (0.5, 0.001)
    assert curve.points[-1].recall == 1
