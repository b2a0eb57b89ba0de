"""At which step an object is lost: each step by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from visionkit.models.explanation import Candidates, Explanation, explain
from visionkit.models.lost_objects import Outcome, object_outcomes
from visionkit.ops.nms import best_pairs
from visionkit.types import Target

OBJECT = [0.0, 0, 10, 10]
ELSEWHERE = [50.0, 50, 60, 60]


def target(*objects: tuple[list[float], int], ignore: bool = False) -> Target:
    return Target(
        torch.tensor([box for box, _ in objects]).reshape(-1, 4),
        torch.tensor([label for _, label in objects], dtype=torch.int64),
        torch.full((len(objects),), ignore),
    )


def decide(
    boxes: list[list[float]], scores: list[list[float]], *, max_det: int = 9, most: int = 99, **others: Any
) -> tuple[Candidates, Explanation]:
    """Two classes, a least score of 0.5, an NMS threshold of 0.5."""
    said = torch.tensor(scores)
    given = Candidates(torch.tensor(boxes), said, *best_pairs(said, score=0.5, candidates=most)[:2], **others)
    return given, explain(given, score=0.5, iou=0.5, max_det=max_det)


def outcome_of(
    boxes: list[list[float]], scores: list[list[float]], truth: Target | None = None, **others: Any
) -> Outcome:
    """Of the first object, which is of class 0 where no truth is given."""
    outcome = object_outcomes(*decide(boxes, scores, **others), truth or target((OBJECT, 0)))[0]
    assert outcome is not None
    return outcome


def test_found() -> None:
    outcome = outcome_of([ELSEWHERE, [0.0, 0, 10, 8]], [[0.9, 0], [0.8, 0.1]])
    assert (outcome.step, outcome.box) == ("found", (0, 0, 10, 8))
    assert (outcome.iou, outcome.score) == pytest.approx((0.8, 0.8))


def test_scored_low() -> None:
    # Of two boxes that overlap it enough, by 0.8 and 0.6, the one that scores more.
    outcome = outcome_of([[0.0, 0, 10, 8], [0.0, 0, 10, 6], [0.0, 0, 10, 4]], [[0.1, 0], [0.2, 0], [0.4, 0]])
    assert (outcome.step, outcome.box) == ("scored_low", (0, 0, 10, 6))
    assert (outcome.iou, outcome.score) == pytest.approx((0.6, 0.2))


def test_wrong_class() -> None:
    outcome = outcome_of([[0.0, 0, 10, 8]], [[0.3, 0.7]])
    assert outcome.step == "wrong_class"
    assert (outcome.iou, outcome.score) == pytest.approx((0.8, 0.3))
    assert outcome.rival is not None
    assert (outcome.rival.label, outcome.rival.box) == (1, (0, 0, 10, 8))
    assert (outcome.rival.score, outcome.rival.iou) == pytest.approx((0.7, 0.8))


def test_wrong_class_where_its_own_class_has_no_box_near() -> None:
    # Each class has a box of its own: that of class 0 is elsewhere.
    scores = torch.tensor([[0.3, 0.7]])
    own = Candidates(torch.tensor([[ELSEWHERE, OBJECT]]), scores, *best_pairs(scores, score=0.5, candidates=9)[:2])
    (outcome,) = object_outcomes(own, explain(own, score=0.5, iou=0.5, max_det=9), target((OBJECT, 0)))
    assert outcome is not None
    assert (outcome.step, outcome.iou, outcome.score) == ("wrong_class", 0, None)


def test_suppressed() -> None:
    boxes = [[0.0, 4, 10, 14], [0.0, 2, 10, 12]]
    # Box 0 has an IoU of 6 / 14 with the object and of 8 / 12 with box 1, which has 8 / 12 with the object.
    outcome = outcome_of(boxes, [[0.9, 0], [0.8, 0]])
    assert outcome.step == "suppressed"
    assert (outcome.iou, outcome.score) == pytest.approx((8 / 12, 0.8))
    assert outcome.rival is not None
    assert outcome.rival.box == (0, 4, 10, 14)
    assert (outcome.rival.score, outcome.rival.iou) == pytest.approx((0.9, 8 / 12))


def test_beyond_max_det_goes_before_suppressed() -> None:
    boxes = [ELSEWHERE, [0.0, 0, 10, 9], [0.0, 0, 10, 10]]
    outcome = outcome_of(boxes, [[0.9, 0], [0.8, 0], [0.7, 0]], max_det=1)
    assert (outcome.step, outcome.box) == ("beyond_max_det", (0, 0, 10, 9))


def test_beyond_the_candidates() -> None:
    outcome = outcome_of([ELSEWHERE, OBJECT], [[0.9, 0], [0.8, 0]], most=1)
    assert (outcome.step, outcome.score) == ("beyond_candidates", pytest.approx(0.8))


def test_too_small() -> None:
    scores = torch.tensor([[0.9, 0.0]])
    none = torch.zeros(0, dtype=torch.int64)
    given = Candidates(torch.tensor([OBJECT]), scores, none, none, too_small=torch.tensor([[True, True]]))
    (outcome,) = object_outcomes(given, explain(given, score=0.5, iou=0.5, max_det=9), target((OBJECT, 0)))
    assert outcome is not None
    assert outcome.step == "too_small"


def test_taken_by_another_object() -> None:
    # One detection, two objects: the one that it overlaps more has it.
    truth = target((OBJECT, 0), ([0.0, 0, 10, 9], 0))
    first, second = object_outcomes(*decide([[0.0, 0, 10, 8.5]], [[0.9, 0]]), truth)
    assert first is not None
    assert second is not None
    assert (first.step, first.other) == ("taken", 1)
    assert (second.step, second.other) == ("found", None)


def test_two_detections_two_objects() -> None:
    # As COCO has it: the better detection takes the object it overlaps most, the other one what is left.
    truth = target((OBJECT, 0), ([0.0, 4, 10, 14], 0))
    outcomes = object_outcomes(*decide([[0.0, 0, 10, 9], [0.0, 4, 10, 13]], [[0.8, 0], [0.9, 0]]), truth)
    assert [outcome.step for outcome in outcomes if outcome] == ["found", "found"]
    assert [outcome.score for outcome in outcomes if outcome] == pytest.approx([0.8, 0.9])


def test_no_candidate() -> None:
    outcome = outcome_of([[0.0, 0, 10, 4], ELSEWHERE], [[0.9, 0], [0.9, 0]])
    assert (outcome.step, outcome.score, outcome.box) == ("no_candidate", None, None)
    assert outcome.iou == pytest.approx(0.4)


def test_no_box_at_all() -> None:
    given = Candidates(torch.zeros(0, 4), torch.zeros(0, 2), *torch.zeros(2, 0, dtype=torch.int64))
    (outcome,) = object_outcomes(given, explain(given, score=0.5, iou=0.5, max_det=9), target((OBJECT, 0)))
    assert outcome is not None
    assert (outcome.step, outcome.iou) == ("no_candidate", 0)


PROPOSALS = {"proposal": torch.tensor([[0.0, 0, 10, 3], ELSEWHERE])}


def test_no_proposal_of_someone_else_s() -> None:
    outcome = outcome_of([[0.0, 0, 10, 4], ELSEWHERE], [[0.1, 0], [0.9, 0]], of_boxes=PROPOSALS)
    assert (outcome.step, outcome.proposal) == ("no_proposal", None)
    assert outcome.proposal_iou == pytest.approx(0.3)


def test_where_a_proposal_was_near_no_candidate_is() -> None:
    near = {"proposal": torch.tensor([[0.0, 0, 10, 7], ELSEWHERE])}
    assert outcome_of([[0.0, 0, 10, 4], ELSEWHERE], [[0.1, 0], [0.9, 0]], of_boxes=near).step == "no_candidate"


def test_a_proposal_may_be_far_where_its_box_is_near() -> None:
    assert outcome_of([[0.0, 0, 10, 8], ELSEWHERE], [[0.1, 0], [0.9, 0]], of_boxes=PROPOSALS).step == "scored_low"


def test_no_proposal_and_what_became_of_the_anchor_that_was_nearest() -> None:
    anchors = torch.tensor([ELSEWHERE, [0.0, 0, 10, 9]])
    objectness = torch.tensor([[0.9], [0.1]])
    entering = torch.tensor([0]), torch.tensor([0])  # the best of the level
    first = Candidates(anchors, objectness, *entering, of_boxes={"stride": torch.tensor([8, 16])})
    proposed = first, explain(first, score=0.0, iou=0.7, max_det=9)
    outcome = outcome_of([[0.0, 0, 10, 4], ELSEWHERE], [[0.1, 0], [0.9, 0]], of_boxes=PROPOSALS, proposed=proposed)
    assert (outcome.step, outcome.proposal) == ("no_proposal", "beyond_candidates")
    assert outcome.proposal_iou == pytest.approx(0.9)
    assert outcome.facts["stride"] == 16


def test_ignored_objects_have_no_outcome_and_no_detection() -> None:
    assert object_outcomes(*decide([OBJECT], [[0.9, 0]]), target((OBJECT, 0), ignore=True)) == [None]


def test_no_objects() -> None:
    assert object_outcomes(*decide([OBJECT], [[0.9, 0]]), target()) == []


def test_facts_of_the_candidate_come_along() -> None:
    facts = {"cell": torch.tensor([[1, 2], [3, 4]])}
    for scores, step in (([[0.9, 0], [0.8, 0]], "found"), ([[0.9, 0], [0.2, 0]], "scored_low")):
        outcome = outcome_of([ELSEWHERE, OBJECT], scores, of_boxes=facts)
        assert (outcome.step, outcome.facts["cell"].tolist()) == (step, [3, 4])
