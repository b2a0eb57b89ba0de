"""Maps of scores to confidences: by hand, their law, and what they refuse."""

import json

import numpy as np
import pytest

from visionkit.errors import CheckpointError
from visionkit.score_map import ScoreMap, score_map_of

MAPS = (
    ScoreMap("temperature", scale=0.5),
    ScoreMap("platt", scale=2.0, shift=-1.5),
    ScoreMap("isotonic", points=((0.0, 0.0), (0.2, 0.1), (0.6, 0.1), (0.9, 0.95))),
)


def test_platt_by_hand():
    # logit(0.8) = log 4; 2 log 4 - log 4 = log 4: the score stands for itself, and 0.5 for 1 / (1 + 4) = 0.2.
    said = ScoreMap("platt", scale=2.0, shift=-np.log(4))(np.array([0.8, 0.5]))
    assert said == pytest.approx([0.8, 0.2])


def test_isotonic_by_hand():
    said = MAPS[2](np.array([0.0, 0.1, 0.4, 0.75, 1.0]))
    assert said == pytest.approx([0, 0.05, 0.1, 0.525, 0.95])  # flat behind the last point


@pytest.mark.parametrize("score_map", MAPS, ids=lambda m: m.method)
def test_law_confidences_never_fall_and_stay_shares(score_map):
    scores = np.linspace(0, 1, 1001)
    confidences = score_map(scores)
    assert (np.diff(confidences) >= 0).all()
    assert 0 <= confidences.min() <= confidences.max() <= 1
    assert score_map(np.empty(0)).shape == (0,)
    assert score_map(scores[500:501]) == confidences[500]
    assert score_map(scores.astype(np.float32)).dtype == np.float64


@pytest.mark.parametrize("score_map", MAPS, ids=lambda m: m.method)
def test_law_what_is_stored_is_read_again(score_map):
    assert ScoreMap.from_json(json.loads(json.dumps(score_map.to_json()))) == score_map


def test_a_card_may_have_none():
    assert score_map_of({}) is None
    assert score_map_of({"calibration": None}) is None
    assert score_map_of({"calibration": MAPS[0].to_json()}) == MAPS[0]


@pytest.mark.parametrize(
    "content",
    [
        "platt",
        {"method": "platt"},
        {**MAPS[1].to_json(), "scale": -1},
        {**MAPS[1].to_json(), "scale": float("nan")},
        {**MAPS[1].to_json(), "method": "magic"},
        {**MAPS[2].to_json(), "points": []},
        {**MAPS[2].to_json(), "points": [[0.5, 0.5], [0.4, 0.6]]},
        {**MAPS[2].to_json(), "points": [[0.5, 0.5], [0.6, 1.2]]},
        {**MAPS[2].to_json(), "points": [0.5]},
    ],
)
def test_what_is_no_map_is_refused(content):
    with pytest.raises(CheckpointError, match=r"^the model's calibration (cannot be read|is no map)"):
        ScoreMap.from_json(content)
