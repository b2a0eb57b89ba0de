"""Precision at recalls, and the arrays of the protocol, by hand."""

import numpy as np
import pytest

from visionkit.metrics.coco_columns import Found, Objects
from visionkit.metrics.coco_precision import RECALLS, UNDEFINED, judge, precision_and_recall, precision_at_recalls


def at_recalls(hits: list[int], misses: list[int], objects: int) -> np.ndarray:
    return precision_at_recalls(np.array(hits, np.bool_), np.array(misses, np.bool_), objects)


def test_precision_at_recalls_by_hand():
    # score rank  1     2     3     4    5
    #             hit   miss  -     hit  hit        (the third is ignored)
    # recall      1/5   1/5         2/5  3/5
    # precision   1     1/2         2/3  3/4, the best from rank 2 on
    values = at_recalls([1, 0, 0, 1, 1], [0, 1, 0, 0, 0], objects=5)
    expected = [1] * 21 + [3 / 4] * 40 + [0] * 40  # at recalls 0 ... 0.20, 0.21 ... 0.60, beyond
    assert values == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("hits", "misses"), [([], []), ([0, 0], [1, 1]), ([0], [0])])
def test_without_a_hit_precision_is_zero(hits, misses):
    assert at_recalls(hits, misses, objects=3).tolist() == [0] * len(RECALLS)


def test_precision_at_recalls_as_loops_have_it():
    rng = np.random.default_rng(0)
    for count in (1, 5, 60):
        kind = rng.integers(0, 3, count)
        objects = int((kind == 1).sum()) + int(rng.integers(1, 5))
        hits = misses = 0
        points = []  # (recall, precision) after each detection
        for k in kind:
            hits, misses = hits + (k == 1), misses + (k == 2)
            points.append((hits / objects, hits / (hits + misses + np.spacing(1))))
        expected = [max((p for r, p in points if r >= recall), default=0) for recall in RECALLS]
        assert at_recalls((kind == 1).tolist(), (kind == 2).tolist(), objects).tolist() == expected


def columns(areas: list[float], label: int) -> Objects:
    """Objects of these areas in images 0, 1, ..., all with the same box."""
    count = len(areas)
    labels = np.full(count, label, np.int64)
    boxes = np.tile([0.0, 0, 50, 50], (count, 1))
    row = np.arange(count)
    return Objects(row * 2 + label, labels, boxes, np.array(areas), np.zeros(count, np.bool_), None, row)


def test_ranges_of_areas_share_their_bounds():
    # 32 x 32 is small and medium, 96 x 96 medium and large; one more of 1 px is small. Of two classes the second.
    objects = columns([32**2, 96**2, 1], label=1)
    first = objects.take(np.arange(1))
    first_only = Found(first.group, first.label, first.boxes, first.area, np.ones(1), None, first.row)
    result = precision_and_recall(objects, judge(objects, first_only), classes=2)
    assert result.precision.shape == (10, 101, 2, 4)
    assert (result.precision[:, :, 0] == UNDEFINED).all()
    # Found: 1 of 3 objects, 1 of 2 small, 1 of 2 medium, 0 of 1 large, at any threshold and limit.
    expected = np.broadcast_to(np.array([1 / 3, 1 / 2, 1 / 2, 0])[:, None], (10, 4, 3))
    np.testing.assert_array_equal(result.recall[:, 1], expected)


def test_limits_of_detections():
    # Twelve objects side by side in one image, each found, the last one first.
    count = 12
    objects = columns([2500.0] * count, label=0)
    boxes = objects.boxes + [[60.0 * i, 0, 0, 0] for i in range(count)]
    group = np.zeros(count, np.int64)
    truth = Objects(group, objects.label, boxes, objects.area, objects.crowd, None, objects.row)
    found = Found(group, objects.label, boxes[::-1], objects.area, np.linspace(1, 0.5, count), None, objects.row)
    assert precision_and_recall(truth, judge(truth, found), classes=1).recall[0, 0, 0].tolist() == [
        1 / 12,
        10 / 12,
        12 / 12,
    ]
