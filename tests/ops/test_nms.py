"""Suppression per class, against the definition written as a loop."""

import subprocess
import sys

import pytest
import torch
import torchvision
from torch import Tensor

from visionkit.ops import nms as room
from visionkit.ops.nms import multiclass_nms, nms, nms_per_class


def iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (area_a + area_b - width * height)


def nms_by_loop(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> list[int]:
    """Best first; a box stays unless one that stayed, of its class, overlaps it by more than the threshold."""
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i].item()):
        rivals = [j for j in kept if labels[j] == labels[i]]
        if all(iou(boxes[j].tolist(), boxes[i].tolist()) <= threshold for j in rivals):
            kept.append(i)
    return kept


def crowded_scene(count: int, classes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that overlap a lot, with distinct scores."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat((corner, corner + 20 + 20 * torch.rand(count, 2, generator=generator)), -1)
    scores = torch.randperm(count, generator=generator) / count
    return boxes, scores, torch.randint(classes, (count,), generator=generator)


def test_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9], [0.0, 0, 10, 5], [20.0, 20, 30, 30]])
    scores = torch.tensor([0.7, 0.9, 0.8, 0.6])
    labels = torch.zeros(4, dtype=torch.int64)
    # Box 1 is best. IoU with box 0 is 90 / 100, with box 2 it is 50 / 90 = 0.56; box 3 is apart.
    assert nms_per_class(boxes, scores, labels, 0.6).tolist() == [1, 2, 3]
    assert nms_per_class(boxes, scores, labels, 0.5).tolist() == [1, 3]
    assert nms_per_class(boxes, scores, labels, 0.95).tolist() == [1, 2, 0, 3]


def test_an_overlap_of_exactly_the_threshold_stays() -> None:
    # 50 / 100 exactly, in floats too.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 5]])
    assert nms_per_class(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 0]), 0.5).tolist() == [0, 1]


def test_classes_do_not_suppress_each_other() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 3)
    assert nms_per_class(boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([4, 0, 4]), 0.5).tolist() == [1, 2]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [1, 5, 80])
def test_equals_the_loop(classes: int, seed: int) -> None:
    boxes, scores, labels = crowded_scene(150, classes, seed)
    for threshold in (0.3, 0.5, 0.7):
        assert nms_per_class(boxes, scores, labels, threshold).tolist() == nms_by_loop(boxes, scores, labels, threshold)


def test_no_bits_are_lost_by_shifting_classes_apart() -> None:
    # IoU 70.01 / 100 is above 0.7. Shifted by 79 image widths, where floats are 1/256 apart, 607.001 rounds to 607.
    boxes = torch.tensor([[600.0, 600, 610, 610], [600.0, 600, 610, 607.001]])
    scores, labels = torch.tensor([0.9, 0.8]), torch.tensor([79, 79])
    assert nms_per_class(boxes, scores, labels, 0.7).tolist() == [0]
    assert torchvision.ops.nms(boxes + 79 * 640, scores, 0.7).tolist() == [0, 1]


def test_equal_scores_come_in_a_fixed_order() -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1], [5.0, 5, 6, 6], [9.0, 9, 10, 10]])
    # By label, then as they stood.
    assert nms_per_class(boxes, torch.full((3,), 0.5), torch.tensor([1, 0, 1]), 0.5).tolist() == [1, 0, 2]


def test_one_box_and_none() -> None:
    one = nms_per_class(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0.3]), torch.tensor([2]), 0.5)
    none = nms_per_class(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5)
    assert one.tolist() == [0]
    assert none.shape == (0,)
    assert none.dtype == torch.int64


# multiclass_nms -------------------------------------------------------------------------------------------------------

# Box 0 and 1 overlap by 90 / 100 = 0.9; box 2 is apart.
THREE = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9], [20.0, 20, 30, 30]])
SCORES = torch.tensor([[0.9, 0.4], [0.8, 0.5], [0.1, 0.7]])


def decisions(**options: float) -> list[tuple[list[float], float, int]]:
    """Box, score and label of each decision."""
    settings = {"score": 0.3, "iou": 0.5, "max_det": 300, "candidates": 3000, **options}
    found = multiclass_nms(THREE, SCORES, **settings)
    return [(box, round(score, 6), label) for box, score, label in zip(*(part.tolist() for part in found), strict=True)]


def test_multiclass_by_hand() -> None:
    # Of class 0 box 0 beats box 1; of class 1 box 1 beats box 0, and box 2 stands alone. 0.1 is too low.
    boxes = THREE.tolist()
    assert decisions() == [(boxes[0], 0.9, 0), (boxes[2], 0.7, 1), (boxes[1], 0.5, 1)]
    assert decisions(score=0.7) == [(boxes[0], 0.9, 0), (boxes[2], 0.7, 1)]  # exactly the least score is enough
    assert len(decisions(iou=0.95)) == 5


def test_multiclass_keeps_the_best_of_max_det_and_of_candidates() -> None:
    boxes = THREE.tolist()
    assert decisions(max_det=1) == [(boxes[0], 0.9, 0)]
    # The two best pairs are box 0 and 1 of class 0: the same object.
    assert decisions(candidates=2) == [(boxes[0], 0.9, 0)]


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_multiclass_of_no_boxes_and_of_no_classes(shape: tuple[int, int]) -> None:
    found = multiclass_nms(torch.zeros(shape[0], 4), torch.zeros(shape), score=0, iou=0.5, max_det=9, candidates=9)
    assert [tuple(part.shape) for part in found] == [(0, 4), (0,), (0,)]
    assert found[2].dtype == torch.int64


def test_suppression_comes_without_the_import_of_torchvision() -> None:
    """Which takes longer than that of torch, on the way of every cold `visionkit detect`."""
    code = (
        "import sys, torch; from visionkit.ops.nms import nms; "
        "kept = nms(torch.tensor([[0., 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]]), torch.tensor([.5, .9, .1]), 0.5); "
        "assert kept.tolist() == [1, 2]; sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_where_the_library_is_not_found_torchvision_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: None)
    room._load_torchvision_operators.cache_clear()
    assert (
        nms(THREE, torch.tensor([0.3, 0.9, 0.5]), 0.5).tolist()
        == torchvision.ops.nms(THREE, torch.tensor([0.3, 0.9, 0.5]), 0.5).tolist()
    )
    room._load_torchvision_operators.cache_clear()


def test_multiclass_where_each_class_has_a_box_of_its_own() -> None:
    # Class 0 says the boxes of THREE; class 1 the same, moved by 50.
    own = torch.stack((THREE, THREE + 50), 1)
    boxes, scores, labels = multiclass_nms(own, SCORES, score=0.45, iou=0.5, max_det=9, candidates=9)
    assert labels.tolist() == [0, 1, 1]
    assert scores.tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert torch.equal(boxes, torch.stack((THREE[0], THREE[2] + 50, THREE[1] + 50)))
