"""Reliability and its error: by hand, and against loops."""

import json

import numpy as np
import pytest
from coco_referee import detection, truth_of, truth_with

from visionkit.errors import DataError, UsageError
from visionkit.metrics.calibration import detection_calibration, reliability
from visionkit.score_map import ScoreMap

BOX, OTHER, NOWHERE = [0, 0, 100, 100], [300, 0, 100, 100], [0, 300, 50, 50]


def test_a_table_by_hand():
    # Of four detections about 0.9 three are right, of two at 0.3 none.
    found = reliability(np.array([0.92, 0.88, 0.94, 0.86, 0.3, 0.3]), np.array([1, 1, 0, 1, 0, 0], bool), bins=2)
    low, high = found.bins
    assert (low.low, low.high, low.detections, low.mean_score, low.precision) == (0, 0.5, 2, 0.3, 0)
    assert (high.low, high.high, high.detections, high.precision) == (0.5, 1, 4, 3 / 4)
    assert high.mean_score == pytest.approx(0.9)
    # 4/6 of the detections are 0.15 off, 2/6 are 0.3 off.
    assert found.ece == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.3)
    assert found.detections == 6


def test_bins_share_no_score():
    # 0.3 opens the fourth of ten bins, though as floats 0.3 is below 3 * 0.1; 1 closes the last.
    found = reliability(np.array([0, 0.1, 0.3, 0.5, 1]), np.zeros(5, bool))
    assert [row.detections for row in found.bins] == [1, 1, 0, 1, 0, 1, 0, 0, 0, 1]


def test_scores_that_are_shares_have_no_error():
    scores = np.repeat([0.25, 0.75], 4)
    assert reliability(scores, np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)).ece == 0


def test_none_has_no_error_and_one_has_its_own():
    nothing = reliability(np.empty(0), np.empty(0, bool), bins=1)
    assert (nothing.ece, nothing.detections) == (None, 0)
    assert json.loads(json.dumps(nothing.to_json()))["bins"] == [
        {"low": 0, "high": 1, "detections": 0, "mean_score": None, "precision": None}
    ]
    assert reliability(np.array([0.7]), np.array([True])).ece == pytest.approx(0.3)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_error_as_loops_have_it(bins):
    rng = np.random.default_rng(bins)
    scores = rng.random(200)
    is_right = rng.random(200) < scores**2  # overconfident
    ece = 0.0
    for k in range(bins):
        own = [n for n in range(200) if k <= scores[n] * bins < k + 1]
        if own:
            ece += len(own) / 200 * abs(sum(scores[own]) / len(own) - sum(is_right[own]) / len(own))
    found = reliability(scores, is_right, bins)
    assert found.ece == pytest.approx(ece, abs=1e-12)
    assert found.ece > 0.1


def test_detections_are_right_at_iou_one_half():
    truth = truth_of(truth_with({"bbox": BOX}, {"bbox": OTHER}, {"bbox": [0, 200, 200, 200], "iscrowd": 1}))
    rows = [
        detection([0, 0, 100, 50], 0.9),  # IoU 0.5: right
        detection(BOX, 0.8),  # takes the object no more: wrong
        detection([300, 0, 100, 49], 0.6),  # IoU 0.49: wrong
        detection([10, 210, 50, 50], 0.7),  # on a crowd region: does not enter
        detection([500, 400, 50, 50], 0.1),  # wrong
    ]
    found = detection_calibration(truth, rows)
    # Every bin has one: 0.1, 0.8, 0.6 off and 0.1 off.
    assert (found.detections, found.ece) == (4, pytest.approx((0.1 + 0.8 + 0.6 + 0.1) / 4))
    confident = detection_calibration(truth, rows, score=0.6)
    assert (confident.detections, confident.ece) == (3, pytest.approx((0.1 + 0.8 + 0.6) / 3))
    # Halved, 0.45 and 0.4 share a bin, one of them right; 0.3 and 0.05 are wrong.
    halved = ScoreMap("isotonic", points=((0.0, 0.0), (1.0, 0.5)))
    assert detection_calibration(truth, rows, score_map=halved).ece == pytest.approx((0.15 + 0.3 + 0.05) / 4)
    # Which detections take part goes by scores.
    assert detection_calibration(truth, rows, score=0.6, score_map=halved).detections == 3
    assert detection_calibration(truth, []).ece is None


def test_what_is_refused():
    truth = truth_of(truth_with({"bbox": BOX}))
    with pytest.raises(DataError, match=r"^detection 1 has score 1.5, .*; give scores in \[0, 1\] \(2 in all\)$"):
        detection_calibration(truth, [detection(BOX, s) for s in (0.5, 1.5, -1)])
    with pytest.raises(UsageError, match="bins must be at least 1, got 0; use 10"):
        detection_calibration(truth, [], bins=0)
    with pytest.raises(UsageError, match="task must be one of bbox, segm"):
        detection_calibration(truth, [], task="keypoints")
