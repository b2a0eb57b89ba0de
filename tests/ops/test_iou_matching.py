"""Matching by IoU, against the definition written as loops."""

import pytest
import torch
from torch import Tensor

from visionkit.ops.iou_matching import match_by_iou
from visionkit.ops.matching import BACKGROUND, IGNORE, POSITIVE


def overlap(a: list[float], b: list[float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def match_by_loop(
    boxes: Tensor, truths: Tensor, ignore: Tensor, positive: float, background: float, low_quality: bool
) -> tuple[list[int], list[int]]:
    gt_index, label = [], []
    real = [g for g in range(len(truths)) if not ignore[g]]
    crowds = [truths[g].tolist() for g in range(len(truths)) if ignore[g]]
    # Each IoU in the precision of the code under test: whether two are equal decides.
    iou = {}
    for a, box in enumerate(boxes.tolist()):
        for g in real:
            common = torch.tensor(overlap(box, truths[g].tolist()))
            iou[a, g] = (common / (area(box) + area(truths[g].tolist()) - common)).item()
    for a, box in enumerate(boxes.tolist()):
        best = max(real, key=lambda g: iou[a, g], default=None)
        found = None
        if best is not None and iou[a, best] >= positive:
            found = best
        elif low_quality:
            wanted_by = [g for g in real if iou[a, g] > 0 and iou[a, g] == max(iou[b, g] for b in range(len(boxes)))]
            found = max(wanted_by, key=lambda g: iou[a, g], default=None)
        if found is not None:
            label.append(POSITIVE)
        elif any(overlap(box, crowd) > 0.5 * area(box) for crowd in crowds):
            label.append(IGNORE)
        else:
            label.append(BACKGROUND if best is None or iou[a, best] < background else IGNORE)
        gt_index.append(found or 0)
    return gt_index, label


def scene(boxes: int, truths: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes and truths on a small grid, so that equal overlaps occur."""
    generator = torch.Generator().manual_seed(seed)

    def some(count: int) -> Tensor:
        corner = torch.randint(12, (count, 2), generator=generator).float()
        return torch.cat((corner, corner + torch.randint(1, 9, (count, 2), generator=generator)), 1)

    return some(boxes), some(truths), torch.rand(truths, generator=generator) < 0.25


ONE = torch.tensor([[0.0, 0, 10, 10]])


def matched(boxes: list[list[float]], truths: Tensor, ignore: list[bool], **options: bool) -> list[tuple[int, int]]:
    """(gt_index, label) of each box, at 0.7 and 0.3."""
    gt_ignore = torch.tensor(ignore, dtype=torch.bool)
    found = match_by_iou(torch.tensor(boxes).reshape(-1, 4), truths, gt_ignore, positive=0.7, background=0.3, **options)
    return list(zip(*(part.tolist() for part in found), strict=True))


def test_by_hand() -> None:
    # IoU with the truth: 80 / 100, 50 / 100, 20 / 100, 0.
    boxes = [[0.0, 0, 10, 8], [0.0, 0, 10, 5], [0.0, 0, 10, 2], [20.0, 20, 30, 30]]
    assert matched(boxes, ONE, [False]) == [(0, POSITIVE), (0, IGNORE), (0, BACKGROUND), (0, BACKGROUND)]


def test_limits_belong_to_what_is_above_them() -> None:
    found = match_by_iou(
        torch.tensor([[0.0, 0, 10, 5], [0.0, 0, 10, 2.5]]), ONE, torch.tensor([False]), positive=0.5, background=0.25
    )
    assert found[1].tolist() == [POSITIVE, IGNORE]


def test_no_truth_goes_without_where_low_quality_counts() -> None:
    # The second truth meets box 1 by 4 / (25 + 16 - 4) = 0.11 at most; box 0 is another's.
    truths = torch.tensor([[0.0, 0, 10, 10], [22.0, 22, 26, 26]])
    boxes = [[0.0, 0, 10, 9], [19.0, 19, 24, 24], [40.0, 40, 50, 50]]
    assert matched(boxes, truths, [False, False])[1] == (0, BACKGROUND)
    assert matched(boxes, truths, [False, False], low_quality=True) == [(0, POSITIVE), (1, POSITIVE), (0, BACKGROUND)]


def test_a_truth_that_meets_no_box_makes_none_positive() -> None:
    assert matched([[50.0, 50, 60, 60]], ONE, [False], low_quality=True) == [(0, BACKGROUND)]


def test_a_box_is_rescued_for_the_truth_that_wants_it() -> None:
    # Box 0 overlaps the large truth by 16 / 100 = 0.16 and the small one by 4 / 16 = 0.25: both want only it.
    truths = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 2, 2]])
    assert matched([[0.0, 0, 4, 4]], truths, [False, False], low_quality=True) == [(1, POSITIVE)]
    # A better box for the small one leaves box 0 to the large one: IoU 4 / 6 for box 1.
    boxes = [[0.0, 0, 4, 4], [0.0, 0, 2, 3]]
    assert matched(boxes, truths, [False, False], low_quality=True) == [(0, POSITIVE), (1, POSITIVE)]


def test_what_lies_in_a_crowd_is_ignored_and_a_crowd_wants_no_box() -> None:
    truths = torch.tensor([[0.0, 0, 10, 10], [20.0, 0, 40, 20]])
    # Wholly in the crowd; by 60 of 100; by exactly half; outside.
    boxes = [[20.0, 0, 40, 20], [24.0, 14, 34, 24], [24.0, 15, 34, 25], [60.0, 0, 70, 10]]
    for low_quality in (False, True):
        labels = [label for _, label in matched(boxes, truths, [False, True], low_quality=low_quality)]
        assert labels == [IGNORE, IGNORE, BACKGROUND, BACKGROUND]
    # A positive box stays positive in a crowd.
    assert matched([[0.0, 0, 10, 9]], torch.cat((ONE, ONE)), [False, True]) == [(0, POSITIVE)]


@pytest.mark.parametrize("low_quality", [False, True])
def test_no_truths_and_no_boxes(low_quality: bool) -> None:
    none = torch.zeros(0, 4)
    assert matched([[0.0, 0, 10, 9], [0.0, 0, 0, 0]], none, [], low_quality=low_quality) == [(0, BACKGROUND)] * 2
    for truths, ignore in ((ONE, [False]), (none, [])):
        index, label = match_by_iou(
            none, truths, torch.tensor(ignore, dtype=torch.bool), positive=0.7, background=0.3, low_quality=low_quality
        )
        assert index.shape == label.shape == (0,)
        assert index.dtype == label.dtype == torch.int64


@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize("truths", [0, 1, 3, 12])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_loops(seed: int, truths: int, low_quality: bool) -> None:
    boxes, gt_boxes, ignore = scene(40, truths, seed)
    for positive, background in ((0.7, 0.3), (0.5, 0.5), (0.3, 0.1)):
        options = {"positive": positive, "background": background, "low_quality": low_quality}
        found = match_by_iou(boxes, gt_boxes, ignore, **options)
        assert tuple(part.tolist() for part in found) == match_by_loop(boxes, gt_boxes, ignore, **options)


def test_five_hundred_truths() -> None:
    boxes, truths, _ = scene(2000, 500, 0)
    index, label = match_by_iou(
        boxes, truths, torch.zeros(500, dtype=torch.bool), positive=0.7, background=0.3, low_quality=True
    )
    assert index.max() < 500
    assert (label == POSITIVE).any()
