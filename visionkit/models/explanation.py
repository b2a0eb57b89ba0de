"""Why a detector decided as it did: all it had to decide on in an image, where that came from and what became of it.

A detector has two further verbs for this. They take what `forward` gave, and use what `predict` and `loss` use:

    candidates(outputs, *, score, most) -> one Candidates an image
    assigned(outputs, targets) -> of each image the Assigned of each of its stages
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from visionkit.ops.boxes import box_iou
from visionkit.ops.matching import POSITIVE
from visionkit.ops.suppression import explain_suppression
from visionkit.types import Target

FATES = ("kept", "beyond_max_det", "suppressed", "beyond_candidates", "too_small", "below_conf")
"""What may become of a candidate, from the farthest that it gets."""

KEPT, BEYOND_MAX_DET, SUPPRESSED, BEYOND_CANDIDATES, TOO_SMALL, BELOW_CONF = range(len(FATES))

MOST_LISTED = 300
"""Of the candidates that never enter suppression, hundreds of thousands, so many of the best are told one by one."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a detector has to decide on in one image: N boxes, each of which may be of any of K classes.

    Args:
        boxes: f32 [N, 4] x1 y1 x2 y2 in network pixels, or [N, K, 4] where each class has a box of its own.
        scores: f32 [N, K].
        box, label: i64 [M], the pairs of a box and a class that enter suppression, in the order in which they do.
        group: i64 [M], among which of them suppression happens; those of a label where None.
        too_small: bool [N, K], what is no detection whatever its score; None where there is no such rule.
        of_boxes: by name, facts about each box, [N] or [N, V]; see `visionkit.predict.why`.
        of_pairs: by name, facts about each box and class, [N, K].
        proposed: the candidates that the proposals were chosen from, and what became of them; None where someone else
            proposed, or no one.
    """

    boxes: Tensor
    scores: Tensor
    box: Tensor
    label: Tensor
    group: Tensor | None = None
    too_small: Tensor | None = None
    of_boxes: Mapping[str, Tensor] = field(default_factory=dict)
    of_pairs: Mapping[str, Tensor] = field(default_factory=dict)
    proposed: tuple[Candidates, Explanation] | None = None

    def boxes_of(self, box: Tensor, label: Tensor) -> Tensor:
        """f32 [P, 4], the box of each of these pairs."""
        return self.boxes[box] if self.boxes.ndim == 2 else self.boxes[box, label]

    def boxes_of_class(self, label: int) -> Tensor:
        """f32 [N, 4]."""
        return self.boxes if self.boxes.ndim == 2 else self.boxes[:, label]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of P candidates of an image: first what is kept, best first; then what was beyond `max_det`, what was
    suppressed, and last the best of what never entered suppression.

    Args:
        box, label: i64 [P], which pairs of a box and a class they are.
        boxes: f32 [P, 4] in network pixels.
        scores: f32 [P].
        fate: i64 [P], a place in `FATES`.
        remover: i64 [P], the place in this list of the one that suppressed each; -1 where none did.
        overlap: f32 [P], IoU with that one; else 0.
        facts: by name, [P] or [P, V].
        fates: i64 [N, K], of all there were.
    """

    box: Tensor
    label: Tensor
    boxes: Tensor
    scores: Tensor
    fate: Tensor
    remover: Tensor
    overlap: Tensor
    facts: Mapping[str, Tensor]
    fates: Tensor

    def counts(self) -> list[int]:
        """How many of all came to each of `FATES`."""
        counts: list[int] = self.fates.flatten().bincount(minlength=len(FATES)).tolist()
        return counts

    def place(self, box: int, label: int) -> int | None:
        """Where in the list a pair stands; None where it is not told."""
        found = ((self.box == box) & (self.label == label)).nonzero().flatten().tolist()
        return found[0] if found else None


@torch.no_grad()
def explain(given: Candidates, *, score: float, iou: float, max_det: int, listed: int = MOST_LISTED) -> Explanation:
    """What became of an image's candidates.

    Args:
        score, iou, max_det: as `predict` was given them; `score` as `candidates` was, too.
        listed: most candidates told of those that did not enter suppression.
    """
    box, label = given.box, given.label
    confidence = given.scores[box, label]
    group = label if given.group is None else given.group
    suppression = explain_suppression(given.boxes_of(box, label), confidence, group, iou)
    fate = torch.full_like(box, SUPPRESSED)
    fate[suppression.keep] = BEYOND_MAX_DET
    fate[suppression.keep[:max_det]] = KEPT
    fates = _fates_by_score(given, score)
    fates[box, label] = fate

    gone = (fate == SUPPRESSED).nonzero().squeeze(1)
    order = torch.cat((suppression.keep, gone[confidence[gone].argsort(descending=True, stable=True)]))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    remover = suppression.remover[order]
    remover = torch.where(remover >= 0, place[remover], -1)

    left = _best_others(given, listed)
    box, label = (torch.cat((entered[order], other)) for entered, other in zip((box, label), left, strict=True))
    others = len(left[0])
    return Explanation(
        box=box,
        label=label,
        boxes=given.boxes_of(box, label),
        scores=given.scores[box, label],
        fate=fates[box, label],
        remover=torch.cat((remover, remover.new_full((others,), -1))),
        overlap=torch.cat((suppression.overlap[order], suppression.overlap.new_zeros(others))),
        facts={name: values[box] for name, values in given.of_boxes.items()}
        | {name: values[box, label] for name, values in given.of_pairs.items()},
        fates=fates,
    )


def _fates_by_score(given: Candidates, score: float) -> Tensor:
    """i64 [N, K]: what keeps each candidate out of suppression, if it does not enter."""
    fates = torch.where(given.scores >= score, BEYOND_CANDIDATES, BELOW_CONF)
    if given.too_small is not None:
        fates[given.too_small & (fates == BEYOND_CANDIDATES)] = TOO_SMALL
    return fates


def _best_others(given: Candidates, most: int) -> tuple[Tensor, Tensor]:
    """Box and label, i64 [P] each, of the best candidates that do not enter suppression, best first."""
    scores = given.scores.nan_to_num(nan=-1.0)
    scores[given.box, given.label] = -torch.inf
    others = scores.numel() - len(given.box)
    best = scores.flatten().topk(min(most, others)).indices
    classes = max(1, scores.shape[1])
    return best // classes, best % classes


def anchor_facts(anchors: Tensor, counts: Sequence[int], strides: Sequence[int]) -> dict[str, Tensor]:
    """Where the anchors [A, 4] of a pyramid stand: stride of the map, column and row of the cell, the anchor, its size
    and its ratio.

    Args:
        counts: anchors of each level.
        strides: of the levels.

    >>> facts = anchor_facts(torch.tensor([[-8., -4, 8, 4], [0, -4, 16, 4]]), [2], [8])
    >>> facts["cell"].tolist(), facts["anchor_ratio"].tolist()
    ([[0, 0], [1, 0]], [0.5, 0.5])
    """
    stride, cell = [], []
    for of_level, pixels in zip(anchors.split(tuple(counts)), strides, strict=True):
        centres = of_level[:, :2] + of_level[:, 2:]
        # A level's distinct centres, ascending, are its columns and its rows.
        cell.append(torch.stack([axis.unique(return_inverse=True)[1] for axis in centres.unbind(1)], 1))
        stride.append(torch.full_like(cell[-1][:, 0], pixels))
    width, height = (anchors[:, 2:] - anchors[:, :2]).unbind(1)
    return {
        "stride": torch.cat(stride),
        "cell": torch.cat(cell),
        "anchor": anchors,
        "anchor_size": (width * height).sqrt(),
        "anchor_ratio": height / width,
    }


@dataclass(frozen=True, slots=True)
class Assigned:
    """Which of a stage's places each of an image's G objects is learnt by, at the weights as they are.

    Args:
        what: the places: `points`, `cells`, `anchors`, `proposals`.
        overlapping: what overlaps are measured with, in words.
        positives: i64 [G, P], how many of them at each stride.
        strides: of the P maps, in pixels.
        best_iou: f32 [G], the largest overlap; 0 where there is nothing to overlap.
        object: i64 [M], the object that each place learns which learns one; those that overlap theirs most first.
        iou: f32 [M], by how much.
        facts: by name, where each of these places is, [M] or [M, V]; see `visionkit.predict.why`.
    """

    what: str
    overlapping: str
    positives: Tensor
    strides: tuple[int, ...]
    best_iou: Tensor
    object: Tensor
    iou: Tensor
    facts: Mapping[str, Tensor]


def assigned_by(
    gt_index: Tensor,
    label: Tensor,
    *,
    stride: Tensor,
    strides: Sequence[int],
    boxes: Tensor,
    gt_boxes: Tensor,
    facts: Mapping[str, Tensor],
    what: str,
    overlapping: str,
) -> Assigned:
    """Counts what a matcher decided, and names the places.

    Args:
        gt_index, label: i64 [A], as matchers give them for one image.
        stride: [A], of the map each place is on.
        strides: of all maps.
        boxes: f32 [A * N, 4], what overlaps are measured with, N of each place.
        gt_boxes: f32 [G, 4].
        facts: by name, where each place is, [A] or [A, V].
    """
    positive = (label == POSITIVE).nonzero().squeeze(1)
    level = (stride[positive, None] == stride.new_tensor(strides)).to(torch.uint8).argmax(1)
    of_object = gt_index[positive]
    counts = (of_object * len(strides) + level).bincount(minlength=len(gt_boxes) * len(strides))
    overlap = box_iou(gt_boxes[:, None], boxes)  # [G, A * N]
    best = torch.nn.functional.pad(overlap, (0, 1)).amax(1)  # padded, so that A may be 0
    each = max(1, len(boxes) // max(1, len(label)))
    own = positive[:, None] * each + torch.arange(each, device=positive.device)  # [M, N]
    iou, order = overlap[of_object[:, None], own].amax(1).sort(descending=True, stable=True)
    return Assigned(
        what,
        overlapping,
        counts.view(len(gt_boxes), len(strides)),
        tuple(strides),
        best,
        of_object[order],
        iou,
        {name: values[positive[order]] for name, values in facts.items()},
    )


class Explainable(Protocol):
    """A detector that can say where its candidates came from."""

    def candidates(self, outputs: Any, *, score: float, most: int) -> list[Candidates]: ...

    def assigned(self, outputs: Any, targets: Sequence[Target]) -> list[tuple[Assigned, ...]]: ...
