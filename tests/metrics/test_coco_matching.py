"""Matching detections to objects: by hand, and against loops over images, settings, detections and objects."""

import numpy as np
import pytest
from numpy.typing import NDArray

from visionkit.metrics import coco_matching
from visionkit.metrics.coco_columns import Found, Objects
from visionkit.metrics.coco_matching import (
    Pairs,
    greedy_matches,
    matched_settings,
    overlapping_pairs,
    position_in_run,
)


def objects_of(groups: list[int], boxes: list[list[float]], crowd: list[bool] | None = None) -> Objects:
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    group = np.array(groups, np.int64)
    is_crowd = np.array(crowd or [False] * len(groups), np.bool_)
    area, row = corners[:, 2:].prod(axis=1), np.arange(len(group))
    return Objects(group, np.zeros_like(group), corners, area, is_crowd, None, row)


def found_of(groups: list[int], boxes: list[list[float]]) -> Found:
    """Each group's detections, highest score first."""
    columns = objects_of(groups, boxes)
    score = np.linspace(1, 0, len(groups))
    return Found(columns.group, columns.label, columns.boxes, columns.area, score, None, columns.row)


def listed(pairs: Pairs) -> list[tuple[int, int, float]]:
    return list(zip(pairs.found.tolist(), pairs.objects.tolist(), pairs.iou.tolist(), strict=True))


def bits(*words: int) -> NDArray[np.uint64]:
    return np.array(words, np.uint64)


# Pairs


def test_position_in_run():
    assert position_in_run(np.array([7, 7, 3, 7, 7, 7])).tolist() == [0, 1, 0, 0, 1, 2]
    assert position_in_run(np.array([7])).tolist() == [0]
    assert position_in_run(np.array([], np.int64)).tolist() == []


def test_pairs_by_hand():
    objects = objects_of([1, 1, 2], [[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 10]])
    found = found_of([1, 1, 3], [[0, 0, 10, 8], [0, 0, 10, 5], [0, 0, 10, 10]])
    # Detection 0: 80 / 100 with object 0, all of object 1. Detection 1: 50 / 100 and 50 / 80. Object 2 is of another
    # group than all detections, detection 2 than all objects.
    assert listed(overlapping_pairs(found, objects, 0.5)) == [(0, 1, 1), (0, 0, 0.8), (1, 1, 0.625), (1, 0, 0.5)]
    assert listed(overlapping_pairs(found, objects, 0.51)) == [(0, 1, 1), (0, 0, 0.8), (1, 1, 0.625)]


def test_of_equal_overlaps_the_last_object_is_best():
    objects = objects_of([0, 0, 0], [[0, 0, 10, 10], [4, 0, 10, 10], [0, 0, 10, 10]])
    pairs = overlapping_pairs(found_of([0], [[2, 0, 10, 10]]), objects, 0.5)
    assert listed(pairs) == [(0, o, 80 / 120) for o in (2, 1, 0)]


def test_the_overlap_with_a_crowd_region_is_the_share_of_the_detection():
    objects = objects_of([0, 0], [[0, 0, 100, 100]] * 2, crowd=[False, True])
    # 5 x 10 of the detection's 10 x 10 lie in both; the union with the object is 10000 + 100 - 50.
    assert listed(overlapping_pairs(found_of([0], [[95, 0, 10, 10]]), objects, 0.001)) == [
        (0, 1, 50 / 100),
        (0, 0, 50 / 10050),
    ]


def test_boxes_that_touch_or_have_no_area_do_not_overlap():
    objects = objects_of([0, 0], [[0, 0, 10, 10], [3, 3, 0, 0]])
    assert listed(overlapping_pairs(found_of([0, 0], [[10, 0, 10, 10], [3, 3, 0, 0]]), objects, 1e-9)) == []


@pytest.mark.parametrize(("found", "objects"), [([], []), ([0], []), ([], [0])])
def test_no_pair(found, objects):
    columns = found_of(found, [[0, 0, 1, 1]] * len(found)), objects_of(objects, [[0, 0, 1, 1]] * len(objects))
    pairs = overlapping_pairs(*columns, 0.5)
    assert listed(pairs) == []
    no_settings = bits(*[0] * len(objects))
    assert greedy_matches(pairs, columns[0].group, bits(), no_settings, columns[1].crowd).tolist() == []
    assert matched_settings(pairs, bits(), len(found)).tolist() == [0] * len(found)


def crowded(seed: int) -> tuple[Found, Objects]:
    """Forty groups of up to twelve detections and eight objects, on few places: many rivals and equal overlaps."""
    rng = np.random.default_rng(seed)
    groups = [np.sort(rng.integers(0, 40, count)).tolist() for count in (300, 160)]
    boxes = [np.concatenate([rng.integers(0, 4, (len(g), 2)), rng.integers(5, 9, (len(g), 2))], 1) for g in groups]
    crowd = (rng.random(160) < 0.15).tolist()
    return found_of(groups[0], boxes[0].tolist()), objects_of(groups[1], boxes[1].tolist(), crowd)


def test_pairs_do_not_depend_on_the_blocks_they_are_found_in(monkeypatch):
    found, objects = crowded(seed=0)
    whole = listed(overlapping_pairs(found, objects, 0.5))
    assert len(whole) > 300
    for size in (1, 7, 100):
        monkeypatch.setattr(coco_matching, "PAIRS_AT_A_TIME", size)
        assert listed(overlapping_pairs(found, objects, 0.5)) == whole


# Matches


def test_settings_are_matched_side_by_side():
    # One detection, two objects: it overlaps object 0 most, but enough in setting 0 only.
    pairs = Pairs(np.array([0, 0]), np.array([0, 1]), np.array([0.9, 0.8]))
    matches = greedy_matches(pairs, np.array([5]), bits(0b01, 0b11), bits(0, 0), np.array([False, False]))
    assert matches.tolist() == [0b01, 0b10]
    assert matched_settings(pairs, matches, 1).tolist() == [0b11]


def test_an_ignored_object_is_taken_only_where_no_other_is_to_be_had():
    # Setting 0 ignores object 0, which the detection overlaps most; setting 1 ignores both objects.
    pairs = Pairs(np.array([0, 0]), np.array([0, 1]), np.array([0.9, 0.8]))
    matches = greedy_matches(pairs, np.array([5]), bits(0b11, 0b11), bits(0b11, 0b10), np.array([False, False]))
    assert matches.tolist() == [0b10, 0b01]


def test_an_object_is_taken_once_a_crowd_region_by_all():
    pairs = Pairs(np.array([0, 1, 2]), np.array([0, 0, 0]), np.array([0.6, 0.9, 0.8]))
    same_group = np.array([5, 5, 5])
    assert greedy_matches(pairs, same_group, bits(1, 1, 1), bits(0), np.array([False])).tolist() == [1, 0, 0]
    assert greedy_matches(pairs, same_group, bits(1, 1, 1), bits(1), np.array([True])).tolist() == [1, 1, 1]


def matches_by_loops(
    found: Found, objects: Objects, pairs: Pairs, reached: NDArray[np.uint64], ignored: NDArray[np.uint64], setting: int
) -> set[tuple[int, int]]:
    """The rule as the module's docstring tells it, for one setting: the pairs (detection, object) that match."""
    iou = {(f, o): value for f, o, value in listed(pairs)}
    reaches = {pair: int(word) >> setting & 1 for pair, word in zip(iou, reached, strict=True)}
    is_ignored = [int(word) >> setting & 1 for word in ignored]
    taken: set[int] = set()
    matches = set()
    for f in range(len(found.group)):
        best = None
        for o in range(len(objects.group)):
            if reaches.get((f, o)) and (o not in taken or objects.crowd[o]):
                rank = (not is_ignored[o], iou[f, o], o)  # what counts, then overlap, then file order
                best = rank if best is None else max(best, rank)
        if best is not None:
            taken.add(best[-1])
            matches.add((f, best[-1]))
    return matches


@pytest.mark.parametrize("seed", range(3))
def test_matches_equal_those_of_loops(seed):
    found, objects = crowded(seed)
    pairs = overlapping_pairs(found, objects, 0.3)
    rng = np.random.default_rng(seed)
    reached = bits(*(sum(1 << s for s in range(5) if iou >= 0.3 + 0.1 * s) for iou in pairs.iou.tolist()))
    ignored = rng.integers(0, 32, len(objects.group)).astype(np.uint64)
    ignored[objects.crowd] = 31
    matches = greedy_matches(pairs, found.group, reached, ignored, objects.crowd)
    for setting in range(5):
        ours = {(f, o) for (f, o, _), word in zip(listed(pairs), matches.tolist(), strict=True) if word >> setting & 1}
        assert ours == matches_by_loops(found, objects, pairs, reached, ignored, setting)
        assert len(ours) > 30
