"""Areas, IoU and CIoU against hand numbers, loops and torchvision."""

import math

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from visionkit.ops.boxes import box_area, box_iou, clip_boxes, complete_iou, intersection_area


def random_boxes(count: int, seed: int = 0) -> Tensor:
    """Boxes with sides of 1 to 50 pixels whose corners are anywhere in 100 pixels."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 100
    return torch.cat((corner, corner + 1 + 49 * torch.rand(count, 2, generator=generator)), -1)


def iou_by_loop(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (area_a + area_b - width * height)


def ciou_by_loop(a: list[float], b: list[float]) -> float:
    iou = iou_by_loop(a, b)
    centre_a, centre_b = (((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (a, b))
    distance = math.dist(centre_a, centre_b) ** 2
    hull = (min(a[0], b[0]), min(a[1], b[1])), (max(a[2], b[2]), max(a[3], b[3]))
    diagonal = math.dist(*hull) ** 2
    angle_a, angle_b = (math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (a, b))
    aspect = 4 / math.pi**2 * (angle_a - angle_b) ** 2
    trade_off = aspect / (1 - iou + aspect) if aspect else 0.0
    return iou - distance / diagonal - trade_off * aspect


# Areas ----------------------------------------------------------------------------------------------------------------


def test_area_is_half_open() -> None:
    # Width 3 - 1 = 2, height 5 - 2 = 3, never + 1.
    assert box_area(torch.tensor([1.0, 2, 3, 5])).item() == 6


@pytest.mark.parametrize("box", [(3.0, 0, 1, 4), (0.0, 4, 3, 1), (3.0, 4, 1, 1), (2.0, 2, 2, 5)])
def test_inverted_or_flat_boxes_have_no_area(box: tuple[float, ...]) -> None:
    # The third is inverted both ways: -2 * -3 must not pass for 6.
    assert box_area(torch.tensor(box)).item() == 0


def test_intersection_by_hand() -> None:
    a = torch.tensor([0.0, 0, 4, 4])
    b = torch.tensor([[2.0, 1, 6, 3], [4.0, 0, 8, 4], [5.0, 5, 6, 6], [1.0, 1, 2, 2]])
    # x 2..4, y 1..3: 4; an edge shared: 0; apart both ways, where -1 * -1 must not pass for 1: 0; inside: its own 1.
    assert intersection_area(a, b).tolist() == [4, 0, 0, 1]


# IoU ------------------------------------------------------------------------------------------------------------------


def test_iou_by_hand() -> None:
    a = torch.tensor([0.0, 0, 2, 2])
    b = torch.tensor([[0.0, 0, 2, 2], [1.0, 0, 3, 2], [1.0, 1, 3, 3], [2.0, 0, 4, 2]])
    # Equal: 1. Half shifted: 2 / (4 + 4 - 2). One corner: 1 / (4 + 4 - 1). Touching: 0.
    torch.testing.assert_close(box_iou(a, b), torch.tensor([1, 1 / 3, 1 / 7, 0]))


def test_iou_of_two_empty_boxes_is_0() -> None:
    point = torch.tensor([3.0, 3, 3, 3])
    assert box_iou(point, point).item() == 0


def test_all_pairs_equal_the_loop_and_torchvision() -> None:
    a, b = random_boxes(40), random_boxes(30, seed=1)
    pairs = box_iou(a[:, None], b[None])
    assert pairs.shape == (40, 30)
    torch.testing.assert_close(pairs, torch.tensor([[iou_by_loop(x, y) for y in b.tolist()] for x in a.tolist()]))
    torch.testing.assert_close(pairs, torchvision.ops.box_iou(a, b))


def test_no_boxes() -> None:
    none, some = torch.zeros(0, 4), random_boxes(3)
    assert box_area(none).shape == (0,)
    assert box_iou(none[:, None], some[None]).shape == (0, 3)
    assert box_iou(some[:, None], none[None]).shape == (3, 0)
    assert complete_iou(none, none).shape == (0,)


def test_a_batch_equals_its_images_one_by_one() -> None:
    a, b = random_boxes(24).view(4, 6, 4), random_boxes(24, seed=1).view(4, 6, 4)
    for op in (box_iou, complete_iou, intersection_area):
        assert torch.equal(op(a, b), torch.stack([op(x, y) for x, y in zip(a, b, strict=True)]))


coordinate = st.floats(-100, 100, width=32)


@given(st.lists(coordinate, min_size=4, max_size=4), st.lists(coordinate, min_size=4, max_size=4))
def test_iou_is_symmetric_and_in_0_1_for_any_four_numbers(a: list[float], b: list[float]) -> None:
    x, y = torch.tensor(a), torch.tensor(b)
    iou = box_iou(x, y)
    assert torch.equal(iou, box_iou(y, x))
    assert 0 <= iou.item() <= 1 + 1e-5


# CIoU -----------------------------------------------------------------------------------------------------------------


def test_ciou_by_hand() -> None:
    # Equal boxes: no penalty.
    box = torch.tensor([0.0, 0, 2, 2])
    assert complete_iou(box, box).item() == pytest.approx(1)
    # Two unit squares, one pixel between: IoU 0; centres 2 apart, hull 3 x 1: 0 - 4 / (9 + 1); equal aspect.
    assert complete_iou(torch.tensor([0.0, 0, 1, 1]), torch.tensor([2.0, 0, 3, 1])).item() == pytest.approx(-0.4)
    # 2 x 2 within 4 x 2, same centre: IoU 4 / 8; aspect v = 4/pi^2 (atan 1 - atan 2)^2 = 0.041957;
    # weight v / (1 - 0.5 + v) = 0.077418; CIoU = 0.5 - 0.077418 * 0.041957 = 0.496752.
    assert complete_iou(torch.tensor([1.0, 0, 3, 2]), torch.tensor([0.0, 0, 4, 2])).item() == pytest.approx(
        0.496752, abs=1e-6
    )


def test_ciou_equals_the_loop_and_torchvision() -> None:
    a, b = random_boxes(200), random_boxes(200, seed=1)
    ours = complete_iou(a, b)
    by_loop = torch.tensor([ciou_by_loop(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)])
    torch.testing.assert_close(ours, by_loop, rtol=0, atol=1e-5)
    torch.testing.assert_close(1 - ours, torchvision.ops.complete_box_iou_loss(a, b), rtol=0, atol=1e-5)


def test_gradient_of_ciou_equals_torchvisions() -> None:
    a, b = random_boxes(50), random_boxes(50, seed=1)
    ours, theirs = a.clone().requires_grad_(), a.clone().requires_grad_()
    (1 - complete_iou(ours, b)).sum().backward()
    torchvision.ops.complete_box_iou_loss(theirs, b).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)


def test_gradient_is_finite_where_boxes_are_flat_or_far_apart() -> None:
    boxes = torch.tensor([[5.0, 5, 5, 5], [0.0, 0, 1e-4, 9], [900.0, 900, 901, 901]], requires_grad=True)
    complete_iou(boxes, torch.tensor([0.0, 0, 10, 10])).sum().backward()
    assert boxes.grad is not None
    assert boxes.grad.isfinite().all()


def test_clipping_by_hand() -> None:
    # An image 20 high and 30 wide: inside, across the edges, wholly beyond.
    boxes = torch.tensor([[1.0, 2, 3, 4], [-5.0, -5, 40, 50], [31.0, 3, 40, 9]])
    assert clip_boxes(boxes, (20, 30)).tolist() == [[1, 2, 3, 4], [0, 0, 30, 20], [30, 3, 30, 9]]
    assert clip_boxes(torch.zeros(0, 4), (20, 30)).shape == (0, 4)
