"""Where an object was lost: the step of a detector that the last of its candidates did not get over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from visionkit.models.explanation import (
    BEYOND_CANDIDATES,
    BEYOND_MAX_DET,
    FATES,
    KEPT,
    SUPPRESSED,
    TOO_SMALL,
    Candidates,
    Explanation,
)
from visionkit.ops.boxes import box_iou
from visionkit.types import Target

Step = Literal[
    "no_proposal",
    "no_candidate",
    "scored_low",
    "wrong_class",
    "too_small",
    "beyond_candidates",
    "suppressed",
    "beyond_max_det",
    "taken",
    "found",
]
"""In the order in which a detector takes them."""

ENOUGH = 0.5
"""IoU from which on a box is about an object, as COCO's AP50 has it."""

_STEP_OF_FATE: dict[int, Step] = {
    KEPT: "taken",
    BEYOND_MAX_DET: "beyond_max_det",
    SUPPRESSED: "suppressed",
    BEYOND_CANDIDATES: "beyond_candidates",
    TOO_SMALL: "too_small",
}


@dataclass(frozen=True, slots=True)
class Rival:
    """The box that came before a candidate: it suppressed it, or says another class.

    Args:
        box: x1 y1 x2 y2 in network pixels.
        iou: with the candidate that it suppressed; of another class, with the object.
    """

    box: tuple[float, ...]
    score: float
    label: int
    iou: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one object.

    - `found`: a detection of its class overlaps it enough, and counts for it;
    - `taken`: one does, but counts for another object;
    - `beyond_max_det`, `suppressed`, `too_small`, `beyond_candidates`: a candidate of its class that overlaps it enough
      scored enough, and got no farther;
    - `wrong_class`: none of its class scored enough; a detection of another class overlaps it enough;
    - `scored_low`: none of its class scored enough;
    - `no_candidate`: no box of its class overlaps it enough;
    - `no_proposal`: nor does any proposal.

    Args:
        step: the last that a candidate for it reached; of several the farthest.
        iou: of the candidate that reached it; the largest there is where none overlaps enough.
        score: of this candidate for the object's class; None where there is none.
        box: of this candidate, x1 y1 x2 y2 in network pixels.
        facts: where it came from.
        rival: what suppressed it, or says the wrong class.
        other: the object that its detection counts for, where `taken`.
        proposal: where `no_proposal`, what became of the anchor whose box overlaps it most, a name of `FATES`; None
            where proposals came from elsewhere.
        proposal_iou: the overlap of that box; of the nearest proposal where these came from elsewhere.
    """

    step: Step
    iou: float
    score: float | None = None
    box: tuple[float, ...] | None = None
    facts: Mapping[str, Tensor] = field(default_factory=dict)
    rival: Rival | None = None
    other: int | None = None
    proposal: str | None = None
    proposal_iou: float | None = None


@torch.no_grad()
def object_outcomes(given: Candidates, told: Explanation, target: Target) -> list[Outcome | None]:
    """What became of each of an image's objects; None for what is ignored.

    Args:
        given, told: of this image.
        target: its truth, in network pixels and the model's labels.
    """
    overlap = box_iou(target.boxes[:, None], told.boxes)  # [G, P]
    kept = int((told.fate == KEPT).sum())  # they stand first
    found = found_objects(told.label[:kept], target, overlap[:, :kept])
    return [
        None if target.ignore[g] else _outcome(g, given, told, target, overlap[g], found)
        for g in range(len(target.labels))
    ]


def found_objects(labels: Tensor, target: Target, overlap: Tensor) -> dict[int, int]:
    """By the place of each detection that is right, the object that it counts for: by COCO's rule, the best score
    first, each the free object of its class that it overlaps most.

    Args:
        labels: i64 [D], of the detections, best first.
        overlap: [G, D].
    """
    free = ~target.ignore
    objects: dict[int, int] = {}
    for place, label in enumerate(labels.tolist()):
        fitting = free & (target.labels == label)
        iou = torch.where(fitting, overlap[:, place], 0)
        if len(iou) and float(iou.max()) >= ENOUGH:
            objects[place] = int(iou.argmax())
            free[objects[place]] = False
    return objects


def _outcome(
    g: int, given: Candidates, told: Explanation, target: Target, overlap: Tensor, found: Mapping[int, int]
) -> Outcome:
    label = int(target.labels[g])
    place = next((place for place, of in found.items() if of == g), None)
    if place is not None:
        return _of_place("found", place, told, overlap)
    # The list begins with what got farthest, the best score first.
    entered = (told.fate <= SUPPRESSED) & (told.label == label) & (overlap >= ENOUGH)
    if entered.any():
        place = int(entered.to(torch.uint8).argmax())
        by = int(told.remover[place])
        rival = _rival(by, told, told.overlap[place]) if by >= 0 else None
        step = _STEP_OF_FATE[int(told.fate[place])]
        return _of_place(step, place, told, overlap, rival=rival, other=found.get(place))
    wrong = ((told.fate == KEPT) & (told.label != label) & (overlap >= ENOUGH)).nonzero().flatten().tolist()
    rival = _rival(wrong[0], told, overlap[wrong[0]]) if wrong else None
    shared = box_iou(given.boxes_of_class(label), target.boxes[g])  # [N]
    if (shared >= ENOUGH).any():
        return _never_entered(given, told, label, shared, rival)
    if rival:
        return Outcome("wrong_class", _largest(shared), rival=rival)
    return _nothing_near(given, target.boxes[g], _largest(shared))


def _never_entered(given: Candidates, told: Explanation, label: int, shared: Tensor, rival: Rival | None) -> Outcome:
    """Of an object whose candidates all stayed out of suppression: the best of those that overlap it, by `shared` [N],
    enough."""
    best = int(torch.where(shared >= ENOUGH, given.scores[:, label].nan_to_num(nan=0.0), -1).argmax())
    fate = int(told.fates[best, label])
    is_low = fate not in _STEP_OF_FATE
    return Outcome(
        ("wrong_class" if rival else "scored_low") if is_low else _STEP_OF_FATE[fate],
        float(shared[best]),
        float(given.scores[best, label]),
        tuple(given.boxes_of_class(label)[best].tolist()),
        {name: values[best] for name, values in given.of_boxes.items()}
        | {name: values[best, label] for name, values in given.of_pairs.items()},
        rival if is_low else None,
    )


def _nothing_near(given: Candidates, box: Tensor, largest: float) -> Outcome:
    """Of an object [4] that no box overlaps enough, but at most by `largest`."""
    proposals = given.of_boxes.get("proposal")
    nearest_proposal = 1.0 if proposals is None else _largest(box_iou(proposals, box))
    if nearest_proposal >= ENOUGH:
        return Outcome("no_candidate", largest)
    if given.proposed is None:
        return Outcome("no_proposal", largest, proposal_iou=nearest_proposal)
    anchors, choice = given.proposed
    overlap = box_iou(anchors.boxes, box)
    nearest = int(overlap.argmax())
    return Outcome(
        "no_proposal",
        largest,
        facts={name: values[nearest] for name, values in anchors.of_boxes.items()},
        proposal=FATES[int(choice.fates[nearest, 0])],
        proposal_iou=float(overlap[nearest]),
    )


def _of_place(
    step: Step, place: int, told: Explanation, overlap: Tensor, *, rival: Rival | None = None, other: int | None = None
) -> Outcome:
    return Outcome(
        step,
        float(overlap[place]),
        float(told.scores[place]),
        tuple(told.boxes[place].tolist()),
        {name: values[place] for name, values in told.facts.items()},
        rival,
        other,
    )


def _rival(place: int, told: Explanation, iou: Tensor) -> Rival:
    return Rival(tuple(told.boxes[place].tolist()), float(told.scores[place]), int(told.label[place]), float(iou))


def _largest(overlap: Tensor) -> float:
    return float(overlap.max()) if len(overlap) else 0.0
