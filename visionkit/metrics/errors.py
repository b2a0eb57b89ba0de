"""What keeps AP50 down: mistakes by kind, and the AP50 that each kind would give back.

The kinds are those of Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors" (2020), sections
2.2 and 2.3. A detection that COCO's rule at IoU 0.5 leaves without an object is judged by the object of its class, and
by the object of another class, that it overlaps most in its image, whoever else has found it:

- `class`: IoU >= 0.5 with an object of another class, and more than with any of its own;
- `duplicate`: IoU >= 0.5 with an object of its class, which a higher score has taken;
- `localisation`: 0.1 <= IoU < 0.5 with an object of its class;
- `both`: 0.1 <= IoU < 0.5 with an object of another class;
- `background`: IoU < 0.1 with every object.

The first that fits holds; the paper leaves that order open. An object that no detection found, and that no `class` or
`localisation` mistake is about, is `missed`.

What a kind gives back is the AP50 after the repair of that kind alone, less the AP50 before. To repair: a `class` or
`localisation` mistake becomes a hit, with its score, on the object it is about, or goes if that is found or a better
mistake of the kind becomes the hit; mistakes of the other kinds go; missed objects are not asked for. The gains do not
add up: one mistake hides another.

Crowd regions are no objects, and what lies on them is no mistake. N detections, G objects, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_columns import (
    Found,
    Integers,
    Objects,
    Task,
    check_task,
    detection_columns,
    truth_columns,
)
from visionkit.metrics.coco_matching import greedy_matches, overlapping_pairs, position_in_run
from visionkit.metrics.coco_precision import AREAS, MOST_DETECTIONS, precision_at_recalls

Bools = NDArray[np.bool_]

ErrorKind = Literal["class", "localisation", "both", "duplicate", "background", "missed"]
# `ignored` also stands for detections beyond the best 100 of a class in an image.
Verdict = ErrorKind | Literal["right", "ignored"]
KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)
CLASS, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))
RIGHT, IGNORED = len(KINDS), len(KINDS) + 1
VERDICTS: tuple[Verdict, ...] = (*KINDS, "right", "ignored")

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1


@dataclass(frozen=True, slots=True)
class ErrorCost:
    """The mistakes of one kind: how many, and what they cost, as `ErrorSplit` has both."""

    count: int
    gives_back: float | None


@dataclass(frozen=True, slots=True)
class ErrorSplit:
    """The mistakes of a set of detections.

    Args:
        task: what was compared, boxes (`bbox`) or masks (`segm`).
        AP50: as COCO has it; None where there is no object.
        counts: the mistakes of each kind: detections, and objects where `missed`.
        gives_back: the AP50 that repairing each kind alone would add; None where AP50 is not defined before or after:
            of a class whose every object is missed none is left to ask for, and it leaves the mean.
        detections: the verdict on each detection, in the order given.
        objects: the verdict on each annotation, image by image in the order of the truth: `right` where found, else
            `class` or `localisation` after the mistake that is about it, `class` first, or `missed`.
    """

    task: Task
    AP50: float | None
    counts: Mapping[ErrorKind, int]
    gives_back: Mapping[ErrorKind, float | None]
    detections: tuple[Verdict, ...]
    objects: tuple[Verdict, ...]

    def costs(self) -> dict[ErrorKind, ErrorCost]:
        """Both numbers of each kind."""
        return {kind: ErrorCost(self.counts[kind], self.gives_back[kind]) for kind in KINDS}


def error_split(truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], task: Task = "bbox") -> ErrorSplit:
    """The kinds of mistakes among detections, and what each costs.

    Args, Raises: as `visionkit.metrics.coco_map.coco_scores`.
    """
    check_task(task)
    classes = len(truth.classes)
    objects, found = truth_columns(truth, task), detection_columns(truth, detections, task)
    best = found.take(np.flatnonzero(position_in_run(found.group) < MOST_DETECTIONS[-1]))
    is_object = ~(objects.crowd | _outside(objects.area))
    verdict, is_found = _matched(best, objects, is_object)
    about = np.full(len(best.row), -1)  # the object that a mistake of class or place is about
    mistakes = np.flatnonzero(verdict == BACKGROUND)
    verdict[mistakes], about[mistakes] = _kinds(best, objects, mistakes, np.flatnonzero(is_object), classes)

    of_object = np.where(is_object, np.where(is_found, RIGHT, MISSED), IGNORED)
    for kind in (LOCALISATION, CLASS):
        of_kind = about[verdict == kind]
        of_object[of_kind[~is_found[of_kind]]] = kind

    asked = np.bincount(objects.label[is_object], minlength=classes)
    before = _ap50(best.label, best.score, verdict, asked)
    after = [
        _ap50(*_repaired(kind, best, objects, verdict, about, is_found), asked)
        for kind in (CLASS, LOCALISATION, BOTH, DUPLICATE, BACKGROUND)
    ]
    missed = np.bincount(objects.label[of_object == MISSED], minlength=classes)
    after.append(_ap50(best.label, best.score, verdict, asked - missed))
    numbers = np.bincount(verdict, minlength=len(VERDICTS))
    numbers[MISSED] = missed.sum()
    return ErrorSplit(
        task=task,
        AP50=before,
        counts=dict(zip(KINDS, numbers.tolist(), strict=False)),
        gives_back={
            kind: None if before is None or ap50 is None else ap50 - before
            for kind, ap50 in zip(KINDS, after, strict=True)
        },
        detections=_in_order_given(verdict, best.row, len(found.row)),
        objects=_in_order_given(of_object, objects.row, len(objects.row)),
    )


def _in_order_given(verdict: Integers, row: Integers, count: int) -> tuple[Verdict, ...]:
    given = np.full(count, IGNORED)
    given[row] = verdict
    return tuple(VERDICTS[code] for code in given.tolist())


def _outside(area: NDArray[np.float64]) -> Bools:
    outside: Bools = (area < AREAS[0, 0]) | (area > AREAS[0, 1])
    return outside


def _matched(found: Found, objects: Objects, is_object: Bools) -> tuple[Integers, Bools]:
    """By COCO's rule: each detection `RIGHT`, `IGNORED` or, so far, `BACKGROUND`, and which objects are found, [G]."""
    pairs = overlapping_pairs(found, objects, FOREGROUND_IOU)
    one = np.ones(len(pairs.iou), np.uint64)
    is_match = greedy_matches(pairs, found.group, one, (~is_object).astype(np.uint64), objects.crowd) > 0
    verdict = np.where(_outside(found.area), IGNORED, BACKGROUND)
    verdict[pairs.found[is_match]] = np.where(is_object[pairs.objects[is_match]], RIGHT, IGNORED)
    is_found = np.zeros(len(is_object), np.bool_)
    is_found[pairs.objects[is_match]] = True
    return verdict, is_found


def _kinds(
    found: Found, objects: Objects, mistakes: Integers, real: Integers, classes: int
) -> tuple[Integers, Integers]:
    """The kind of each mistake, and the object it is about, -1 for none; [M] each.

    Args:
        mistakes: i64 [M], positions in `found`.
        real: positions in `objects` of those that are no crowd.
    """
    wrong, there = found.take(mistakes), objects.take(real)
    # All classes of an image in one group.
    pairs = overlapping_pairs(
        replace(wrong, group=wrong.group // classes), replace(there, group=there.group // classes), BACKGROUND_IOU
    )
    iou = np.zeros((2, len(mistakes)))
    nearest = np.full((2, len(mistakes)), -1)
    is_own = wrong.label[pairs.found] == there.label[pairs.objects]
    for own, chosen in enumerate((~is_own, is_own)):
        pair = np.flatnonzero(chosen)
        of_found, first = np.unique(pairs.found[pair], return_index=True)  # the pairs stand best first
        iou[own, of_found] = pairs.iou[pair[first]]
        nearest[own, of_found] = real[pairs.objects[pair[first]]]
    other_iou, own_iou = iou
    kind = np.select(
        [
            (other_iou >= FOREGROUND_IOU) & (other_iou > own_iou),
            own_iou >= FOREGROUND_IOU,
            own_iou >= BACKGROUND_IOU,
            other_iou >= BACKGROUND_IOU,
        ],
        [CLASS, DUPLICATE, LOCALISATION, BOTH],
        BACKGROUND,
    )
    return kind, np.select([kind == CLASS, kind == LOCALISATION], list(nearest), -1)


def _repaired(
    kind: int, found: Found, objects: Objects, verdict: Integers, about: Integers, is_found: Bools
) -> tuple[Integers, NDArray[np.float64], Integers]:
    """Labels, scores and verdicts, [N] each, after the mistakes of one kind are repaired."""
    label, repaired = found.label.copy(), np.where(verdict == kind, IGNORED, verdict)
    if kind in (CLASS, LOCALISATION):
        candidates = np.flatnonzero(verdict == kind)
        candidates = candidates[~is_found[about[candidates]]]
        candidates = candidates[np.argsort(-found.score[candidates], kind="stable")]
        _, first = np.unique(about[candidates], return_index=True)
        chosen = candidates[first]
        label[chosen], repaired[chosen] = objects.label[about[chosen]], RIGHT
    return label, found.score, repaired


def _ap50(label: Integers, score: NDArray[np.float64], verdict: Integers, asked: Integers) -> float | None:
    """The mean over classes of what `asked`, i64 [K], says there is to find; None where that is nothing."""
    order = np.lexsort((-score, label))
    of_class = np.split(order, np.searchsorted(label[order], np.arange(1, len(asked))))
    values = [
        precision_at_recalls(verdict[ranked] == RIGHT, verdict[ranked] < RIGHT, count).mean()
        for ranked, count in zip(of_class, asked.tolist(), strict=True)
        if count
    ]
    return float(np.mean(values)) if values else None
