"""Maps of scores fitted on detections: on known curves, against slow references, and what they refuse."""

import numpy as np
import pytest
from coco_referee import detection, truth_of, truth_with

from visionkit.errors import DataError, UsageError
from visionkit.metrics.score_calibration import (
    FEWEST_A_POINT,
    fit_isotonic,
    fit_platt,
    fit_score_map,
    fit_temperature,
)
from visionkit.score_map import logit


def drawn(share_of, count=4000, seed=0):
    """Scores, and whether each is right, as often as a curve says."""
    random = np.random.default_rng(seed)
    scores = random.uniform(0.05, 0.99, count)
    return scores, random.random(count) < share_of(scores)


def test_a_temperature_is_found_again():
    # Logits twice as large as they should be: half of them is right.
    found = fit_temperature(*drawn(lambda s: 1 / (1 + np.exp(-0.5 * logit(s)))))
    assert found.method == "temperature"
    assert found.scale == pytest.approx(0.5, abs=0.05)
    assert found.shift == 0


def test_platts_two_numbers_are_found_again():
    found = fit_platt(*drawn(lambda s: 1 / (1 + np.exp(-(0.7 * logit(s) + 1.2)))))
    assert (found.scale, found.shift) == pytest.approx((0.7, 1.2), abs=0.1)


def test_platts_numbers_have_the_lowest_loss_nearby():
    scores, is_right = drawn(lambda s: s**2, count=300)
    found = fit_platt(scores, is_right)
    right = int(is_right.sum())
    targets = np.where(is_right, (right + 1) / (right + 2), 1 / (300 - right + 2))

    def loss(scale, shift):
        shares = 1 / (1 + np.exp(-(scale * logit(scores) + shift)))
        return -(targets * np.log(shares) + (1 - targets) * np.log(1 - shares)).sum()

    best = loss(found.scale, found.shift)
    assert all(best <= loss(found.scale + a, found.shift + b) for a in (-0.01, 0, 0.01) for b in (-0.01, 0, 0.01))


def test_scores_that_say_the_opposite_have_no_increasing_map():
    scores, is_right = drawn(lambda s: 1 - s)
    assert fit_platt(scores, is_right) is None
    assert fit_temperature(scores, is_right) is None
    # One share for all is what is left of them.
    points = np.array(fit_isotonic(scores, is_right).points)
    assert np.ptp(points[1:, 1]) < 0.3


def test_all_right_and_all_wrong_are_fitted_too():
    scores = np.linspace(0.1, 0.9, 100)
    for is_right in (np.ones(100, bool), np.zeros(100, bool)):
        assert fit_isotonic(scores, is_right)(np.array([0.6])) == pytest.approx(float(is_right[0]))
        for fit in (fit_platt, fit_temperature):
            found = fit(scores, is_right)
            assert found is None or np.isfinite(found(scores)).all()


def test_an_isotonic_map_by_hand():
    # Groups of 20 with shares 0.1, 0.5, 0.4, 0.9: the two in the middle fall and are pooled to 0.45.
    scores = np.repeat([0.1, 0.3, 0.5, 0.9], FEWEST_A_POINT)
    is_right = np.concatenate([np.arange(FEWEST_A_POINT) < hits for hits in (2, 10, 8, 18)])
    points = np.array(fit_isotonic(scores, is_right).points)
    assert points == pytest.approx(np.array([[0, 0], [0.1, 0.1], [0.4, 0.45], [0.9, 0.9]]))


def test_equal_scores_stay_in_one_group_and_a_rest_joins_the_last():
    scores = np.concatenate([np.full(FEWEST_A_POINT + 15, 0.2), np.full(FEWEST_A_POINT, 0.6), np.full(3, 0.8)])
    is_right = np.concatenate([np.zeros(FEWEST_A_POINT + 15, bool), np.ones(FEWEST_A_POINT + 3, bool)])
    points = np.array(fit_isotonic(scores, is_right).points)
    assert points[1] == pytest.approx([0.2, 0])
    assert points[-1] == pytest.approx([(FEWEST_A_POINT * 0.6 + 3 * 0.8) / (FEWEST_A_POINT + 3), 1])


@pytest.mark.parametrize("seed", range(3))
def test_pooling_as_a_slow_reference_has_it(seed):
    """The best rising step function in the sense of least squares: the max-min formula (Robertson et al., 1988)."""
    scores, is_right = drawn(lambda s: s**3, count=400, seed=seed)
    points = np.array(fit_isotonic(scores, is_right).points)[1:]
    order = np.argsort(scores)
    groups = is_right[order].reshape(-1, FEWEST_A_POINT).mean(axis=1)  # 20 groups of 20
    steps = [
        max(min(groups[i : j + 1].mean() for j in range(at, len(groups))) for i in range(at + 1))
        for at in range(len(groups))
    ]
    assert points[:, 1] == pytest.approx(sorted(set(np.round(steps, 12))))


# On detections

BOX, NOWHERE = [0, 0, 50, 50], [300, 300, 50, 50]


def case(images=60, seed=0):
    """Each image has an object; a detection on it or beside it, right half as often as its score says."""
    random = np.random.default_rng(seed)
    annotations = [{"bbox": BOX, "image_id": i} for i in range(1, images + 1)]
    found = []
    for i in range(1, images + 1):
        for number in range(4):
            score = float(random.uniform(0.1, 0.95))
            hit = number == 0 and random.random() < 0.9
            found.append(detection(BOX if hit else [300, 60 * number, 50, 50], score if hit else score * 0.6, i))
    return truth_of(truth_with(*annotations, images=images)), found


def test_a_fitted_map_tells_what_it_is_worth():
    truth, found = case()
    fitted = fit_score_map(truth, found)
    assert fitted.images == 60
    assert fitted.ece_after == fitted.by_method[fitted.map.method] == min(fitted.by_method.values())
    assert fitted.ece_after < fitted.ece_before
    assert fit_score_map(truth, found) == fitted  # the halves are drawn by seed


def test_too_few_detections_are_refused():
    truth, found = case()
    with pytest.raises(DataError, match=r"has 3 detections of score 0\.05 or more on 1 images, calibration needs 50"):
        fit_score_map(truth, [detection(BOX, 0.9, 1, 1), *(detection(NOWHERE, 0.8, 1, 1),) * 2])
    with pytest.raises(DataError, match="has 0 detections"):
        fit_score_map(truth, [{**row, "score": 0.01} for row in found])
    with pytest.raises(DataError, match=r"has score 1\.5, calibration compares scores with shares"):
        fit_score_map(truth, [{**row, "score": 1.5} for row in found])
    with pytest.raises(UsageError, match="task must be one of"):
        fit_score_map(truth, found, "keypoints")
