"""Who suppressed whom, against the definition written as a loop."""

import pytest
import torch
from torch import Tensor

from visionkit.ops.nms import nms_per_class
from visionkit.ops.suppression import explain_suppression


def iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (area_a + area_b - width * height)


def removers_by_loop(
    boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float
) -> tuple[list[int], list[int], list[float]]:
    """Best first: a box meets the boxes of its class that stayed, the best first; the first that overlaps it by more
    than the threshold removes it."""
    kept: list[int] = []
    remover, overlap = [-1] * len(scores), [0.0] * len(scores)
    for i in sorted(range(len(scores)), key=lambda i: -scores[i].item()):
        for j in kept:
            if labels[j] == labels[i] and iou(boxes[j].tolist(), boxes[i].tolist()) > threshold:
                remover[i], overlap[i] = j, iou(boxes[j].tolist(), boxes[i].tolist())
                break
        else:
            kept.append(i)
    return kept, remover, overlap


def crowded_scene(count: int, classes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that overlap a lot, with distinct scores."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat((corner, corner + 20 + 20 * torch.rand(count, 2, generator=generator)), -1)
    scores = torch.randperm(count, generator=generator) / count
    return boxes, scores, torch.randint(classes, (count,), generator=generator)


def test_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9], [0.0, 0, 10, 5], [20.0, 20, 30, 30]])
    scores, labels = torch.tensor([0.7, 0.9, 0.8, 0.6]), torch.zeros(4, dtype=torch.int64)
    # Box 1 is best: it overlaps box 0 by 90 / 100 and box 2 by 50 / 90; box 3 is apart.
    found = explain_suppression(boxes, scores, labels, 0.6)
    assert found.keep.tolist() == [1, 2, 3]
    assert found.remover.tolist() == [1, -1, -1, -1]
    assert found.overlap.tolist() == pytest.approx([0.9, 0, 0, 0])
    found = explain_suppression(boxes, scores, labels, 0.5)
    assert found.remover.tolist() == [1, -1, 1, -1]
    assert found.overlap.tolist() == pytest.approx([0.9, 0, 50 / 90, 0])


def test_what_was_suppressed_itself_removes_nothing_and_the_best_of_several_does() -> None:
    # Steps of 2 px in 10: neighbours overlap by 8 / 12, the next but one by 6 / 14. Box 1 goes by box 0; so box 2,
    # which it alone would have removed, stays, and removes box 3. Box 4 is overlapped by box 2 and, more, by box 5.
    boxes = torch.tensor([[2.0 * i, 0, 2.0 * i + 10, 10] for i in range(4)] + [[5.0, 0, 15, 10], [5.5, 0, 15.5, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.1, 0.2])
    found = explain_suppression(boxes, scores, torch.zeros(6, dtype=torch.int64), 0.5)
    assert found.keep.tolist() == [0, 2]
    assert found.remover.tolist() == [-1, 0, -1, 2, 2, 2]
    assert found.overlap.tolist() == pytest.approx([0, 8 / 12, 0, 8 / 12, 9 / 11, 8.5 / 11.5])


def test_a_worse_box_that_stays_removes_no_better_one() -> None:
    # Box 2 stays, is worse than box 1 and overlaps it by 8 / 12: box 0 removed box 1 all the same, by 6 / 14.
    boxes = torch.tensor([[0.0, 0, 10, 10], [4.0, 0, 14, 10], [6.0, 0, 16, 10]])
    found = explain_suppression(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64), 0.4)
    assert found.keep.tolist() == [0, 2]
    assert found.remover.tolist() == [-1, 0, -1]
    assert found.overlap.tolist() == pytest.approx([0, 6 / 14, 0])


def test_other_classes_remove_nothing() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 3)
    found = explain_suppression(boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([4, 0, 4]), 0.5)
    assert found.remover.tolist() == [2, -1, -1]
    assert found.overlap.tolist() == [1, 0, 0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [1, 5, 80])
def test_equals_the_loop(classes: int, seed: int) -> None:
    boxes, scores, labels = crowded_scene(150, classes, seed)
    for threshold in (0.3, 0.5, 0.7):
        found = explain_suppression(boxes, scores, labels, threshold)
        keep, remover, overlap = removers_by_loop(boxes, scores, labels, threshold)
        assert found.keep.tolist() == keep == nms_per_class(boxes, scores, labels, threshold).tolist()
        assert found.remover.tolist() == remover
        assert found.overlap.tolist() == pytest.approx(overlap, abs=1e-6)


def test_a_box_goes_by_a_better_one_that_overlaps_it_by_more() -> None:
    """The law, on a scene too large for the loop."""
    boxes, scores, labels = crowded_scene(3000, 3, 9)
    found = explain_suppression(boxes, scores, labels, 0.5)
    gone = (found.remover >= 0).nonzero().squeeze(1)
    by = found.remover[gone]
    assert sorted([*found.keep.tolist(), *gone.tolist()]) == list(range(3000))
    assert torch.isin(by, found.keep).all()
    assert (scores[by] > scores[gone]).all()
    assert (labels[by] == labels[gone]).all()
    assert (found.overlap[gone] > 0.5).all()


def test_an_overlap_of_exactly_the_threshold_stays() -> None:
    # 50 / 100 exactly, in floats too. And 0.1 as the f32 next to it is larger than the double: IoU 10 / 100 goes.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 5], [0.0, 0, 10, 1]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64)
    assert explain_suppression(boxes[:2], scores[:2], labels[:2], 0.5).remover.tolist() == [-1, -1]
    found = explain_suppression(boxes[[0, 2]], scores[:2], labels[:2], 0.1)
    assert found.remover.tolist() == ([-1, -1] if len(found.keep) == 2 else [-1, 0])


def test_one_box_and_none() -> None:
    one = explain_suppression(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0.3]), torch.tensor([2]), 0.5)
    assert (one.keep.tolist(), one.remover.tolist(), one.overlap.tolist()) == ([0], [-1], [0])
    none = explain_suppression(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5)
    assert [part.shape for part in (none.keep, none.remover, none.overlap)] == [(0,)] * 3


def test_empty_boxes_overlap_nothing() -> None:
    boxes = torch.tensor([[5.0, 5, 5, 5], [5.0, 5, 5, 5], [0.0, 0, 10, 10]])
    found = explain_suppression(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64), 0.5)
    assert (
        found.keep.tolist()
        == nms_per_class(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64), 0.5).tolist()
    )
    assert (found.remover[found.keep] == -1).all()
