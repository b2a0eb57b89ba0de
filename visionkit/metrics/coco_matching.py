"""Which detection is matched to which object: COCO's greedy rule, at many settings at once, without a loop over images.

The rule (https://cocodataset.org/#detection-eval, "Matching"), within one image and class and at one setting, that is
one IoU threshold and one range of areas:

- Detections choose in turn, highest score first, equal scores in the order given.
- Each takes, of the objects it overlaps by at least the threshold, the one it overlaps most; of equal overlaps the
  last in file order.
- An object is taken once; a crowd region may be taken any number of times.
- Objects that the setting ignores (crowd regions, and objects outside the range of areas) are taken only where no other
  is to be had. The detection is then ignored too.

How it is done fast:

1. *Sparse.* Only pairs of a detection and an object of its image and class that overlap by the lowest threshold can
   ever match. They are found in bulk (`overlapping_pairs`) and sorted best first; few are left.
2. *A setting is a bit.* The 10 thresholds x 4 ranges of areas are 40 bits of one integer: the settings in which a pair
   overlaps enough, in which an object is ignored, or already taken, are u64 words, and a choice at all settings is a
   handful of bitwise operations.
3. *Rounds.* Groups (image and class) do not affect each other: in round r the r-th detection of every group chooses,
   all groups together. There are as many rounds as some group has detections with a pair, by COCO's protocol at most
   100; the number of images and classes only makes the arrays longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from visionkit.metrics.coco_columns import Found, Integers, Objects

Bits = NDArray[np.uint64]

NO_SETTING = np.uint64(0)
# The most an IoU threshold may ask for, so that equal regions match in spite of rounding; as in pycocotools.
HIGHEST_THRESHOLD = 1 - 1e-10
# Pairs judged at a time: few enough to stay in a processor's cache.
PAIRS_AT_A_TIME = 1 << 16


@dataclass(frozen=True, slots=True)
class Pairs:
    """P detections and objects of the same image and class that overlap; by detection, its best object first.

    Args:
        found, objects: i64 [P], positions in `Found` and `Objects`.
        iou: f64 [P].
    """

    found: Integers
    objects: Integers
    iou: NDArray[np.float64]

    def among(self, found: NDArray[np.bool_], objects: NDArray[np.bool_]) -> Pairs:
        """The pairs of some detections, bool [N], and some objects, bool [G], by their positions among these."""
        kept = found[self.found] & objects[self.objects]
        new_found, new_objects = np.cumsum(found) - 1, np.cumsum(objects) - 1
        return Pairs(new_found[self.found[kept]], new_objects[self.objects[kept]], self.iou[kept])


def position_in_run(values: Integers) -> Integers:
    """How many equal values stand directly before each: [7, 7, 3, 7, 7, 7] -> [0, 1, 0, 0, 1, 2]."""
    starts = _run_starts(values)
    return np.arange(len(values)) - np.repeat(starts, np.diff(starts, append=len(values)))


def _run_starts(values: Integers) -> Integers:
    is_start = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_start[1:])
    return np.flatnonzero(is_start)


def overlapping_pairs(found: Found, objects: Objects, least: float) -> Pairs:
    """The pairs of IoU >= `least` > 0. For a crowd region IoU is the share of the detection that lies in it."""
    first, end = (np.searchsorted(objects.group, found.group, side) for side in ("left", "right"))
    blocks = (_box_pairs if found.masks is None else _mask_pairs)(found, objects, first, end)
    kept = [(f[enough], o[enough], iou[enough]) for f, o, iou in blocks for enough in [iou >= least]]
    if not kept:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    f, o, iou = (np.concatenate(blocks) for blocks in zip(*kept, strict=True))
    best_first = np.lexsort((-o, -iou, f))
    return Pairs(f[best_first], o[best_first], iou[best_first])


Block = tuple[Integers, Integers, NDArray[np.float64]]  # detections, objects and their IoU, [n] each


def _box_pairs(found: Found, objects: Objects, first: Integers, end: Integers) -> Iterator[Block]:
    """Pairs of boxes that touch. Objects `first` ... `end` - 1, i64 [N], are of a detection's group."""
    # The formula of pycocotools, operation by operation: a pair at a threshold would feel a changed last bit.
    fx, fy, fw, fh = np.ascontiguousarray(found.boxes.T)
    ox, oy, ow, oh = np.ascontiguousarray(objects.boxes.T)
    fx2, fy2, f_area = fx + fw, fy + fh, fw * fh
    ox2, oy2, o_area = ox + ow, oy + oh, ow * oh
    total = np.cumsum(end - first)
    start = 0
    while start < len(total):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + PAIRS_AT_A_TIME, side="right")))
        counts = (end - first)[start:stop]
        f = np.repeat(np.arange(start, stop), counts)
        o = np.arange(counts.sum()) + np.repeat(first[start:stop] - (np.cumsum(counts) - counts), counts)
        width = np.minimum(fx2[f], ox2[o]) - np.maximum(fx[f], ox[o])
        height = np.minimum(fy2[f], oy2[o]) - np.maximum(fy[f], oy[o])
        touching = np.flatnonzero((width > 0) & (height > 0))
        f, o = f[touching], o[touching]
        intersection = width[touching] * height[touching]
        with np.errstate(divide="ignore", invalid="ignore"):  # sides below 1e-154 px, whose product rounds to 0
            iou = intersection / np.where(objects.crowd[o], f_area[f], f_area[f] + o_area[o] - intersection)
        yield f, o, iou
        start = stop


def _mask_pairs(found: Found, objects: Objects, first: Integers, end: Integers) -> Iterator[Block]:
    """All pairs of masks, a group at a time."""
    assert found.masks is not None
    assert objects.masks is not None
    for start, stop in pairwise([*_run_starts(found.group), len(found.group)]):
        low, high = int(first[start]), int(end[start])
        if low == high:
            continue
        crowd = objects.crowd[low:high].astype(int).tolist()
        iou = np.asarray(coco_mask.iou(found.masks[start:stop], objects.masks[low:high], crowd), np.float64)
        f, o = np.indices(iou.shape)
        yield f.ravel() + start, o.ravel() + low, iou.ravel()


def greedy_matches(pairs: Pairs, found_group: Integers, reached: Bits, ignored: Bits, crowd: NDArray[np.bool_]) -> Bits:
    """The settings, one a bit, in which each pair is a match.

    Args:
        pairs: as `overlapping_pairs` returns them, of N detections and G objects.
        found_group: i64 [N], ascending.
        reached: [P], the settings whose IoU threshold the pair reaches.
        ignored: [G], the settings that ignore the object.
        crowd: bool [G], objects that may be taken more than once.

    Returns:
        u64 [P].
    """
    count = len(pairs.found)
    starts = _run_starts(pairs.found)  # of the pairs of one detection
    lengths = np.diff(starts, append=count)
    rounds = position_in_run(found_group[pairs.found[starts]])
    in_turn = np.split(np.argsort(rounds, kind="stable"), np.cumsum(np.bincount(rounds))[:-1])

    # One pair and one object more stand for none: they fill up the detections with fewer pairs than others of a round.
    object_of = np.append(pairs.objects, len(crowd))
    reached, ignored, crowd = np.append(reached, NO_SETTING), np.append(ignored, NO_SETTING), np.append(crowd, True)
    taken = np.zeros(len(crowd), np.uint64)
    matches = np.zeros(count + 1, np.uint64)
    for choosing in in_turn:
        candidate = np.arange(lengths[choosing].max(initial=0))[:, None]
        pair = np.where(candidate < lengths[choosing], starts[choosing] + candidate, count)  # [candidates, detections]
        wanted = object_of[pair]
        free = reached[pair] & ~taken[wanted]
        # First the objects that count, best first, then the ignored ones: of each setting the first that is free.
        in_order = np.concatenate([free & ~ignored[wanted], free & ignored[wanted]])
        chosen = in_order.copy()
        chosen[1:] &= ~np.bitwise_or.accumulate(in_order)[:-1]
        matches[pair] = chosen[: len(candidate)] | chosen[len(candidate) :]
        taken[wanted] |= np.where(crowd[wanted], NO_SETTING, matches[pair])
    return matches[:count]


def matched_settings(pairs: Pairs, settings: Bits, detections: int) -> Bits:
    """u64 [N]: the settings, of those given by pair, that any pair of a detection has."""
    any_pair = np.zeros(detections, np.uint64)
    starts = _run_starts(pairs.found)
    if len(starts):
        any_pair[pairs.found[starts]] = np.bitwise_or.reduceat(settings, starts)
    return any_pair
