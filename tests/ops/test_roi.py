"""Regions of interest: the level of each, and pooling against the papers' definitions written as loops."""

import math

import pytest
import torch
import torchvision
from torch import Tensor

from visionkit.ops import roi
from visionkit.ops.roi import Pooling, assign_levels, roi_features


def boxes_within(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width * 0.7, height * 0.7])
    sides = torch.rand(count, 2, generator=generator) * torch.tensor([width * 0.5, height * 0.5])
    return torch.cat((corner, corner + sides), 1)


def bilinear(x: Tensor, y: float, column: float) -> Tensor:
    """The C values between the four pixels around a point; 0 beyond one pixel outside the map."""
    height, width = x.shape[-2:]
    if not (-1 <= y <= height and -1 <= column <= width):
        return torch.zeros(len(x))
    y, column = max(y, 0.0), max(column, 0.0)
    top, left = min(int(y), height - 1), min(int(column), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = (0.0 if top == bottom else y - top), (0.0 if left == right else column - left)
    upper = x[:, top, left] * (1 - across) + x[:, top, right] * across
    lower = x[:, bottom, left] * (1 - across) + x[:, bottom, right] * across
    return upper * (1 - down) + lower * down


def align_by_loop(x: Tensor, box: list[float], scale: float, size: int, sampling: int) -> Tensor:
    """Mask R-CNN, section 3: points evenly spread over each bin, read between pixels, averaged."""
    x1, y1, x2, y2 = (side * scale for side in box)
    width, height = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
    result = torch.zeros(len(x), size, size)
    for row in range(size):
        for column in range(size):
            for i in range(sampling):
                for j in range(sampling):
                    at_y = y1 + height / size * (row + (i + 0.5) / sampling)
                    at_x = x1 + width / size * (column + (j + 0.5) / sampling)
                    result[:, row, column] += bilinear(x, at_y, at_x) / sampling**2
    return result


def pool_by_loop(x: Tensor, box: list[float], scale: float, size: int) -> Tensor:
    """Fast R-CNN, section 2.1: the box in whole pixels, both ends included, parted into bins; the largest of each."""
    x1, y1, x2, y2 = (math.floor(side * scale + 0.5) for side in box)
    width, height = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    result = torch.zeros(len(x), size, size)
    for row in range(size):
        for column in range(size):
            top, bottom = y1 + math.floor(row * height / size), y1 + math.ceil((row + 1) * height / size)
            left, right = x1 + math.floor(column * width / size), x1 + math.ceil((column + 1) * width / size)
            part = x[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
            if part.numel():
                result[:, row, column] = part.amax((1, 2))
    return result


# Levels ---------------------------------------------------------------------------------------------------------------


def squares(*sides: float) -> Tensor:
    return torch.tensor([[3.0, 5, 3 + side, 5 + side] for side in sides]).reshape(-1, 4)


def test_levels_by_hand() -> None:
    # floor(4 + log2(side / 224)): 112 gives 3 (stride 8), 224 gives 4, 448 gives 5; within 2..5.
    strides = (4, 8, 16, 32)
    assert assign_levels(squares(1, 55, 56, 112, 223, 224, 448, 4000), strides).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    # The area counts: 448 x 112 is as large as 224 x 224.
    assert assign_levels(torch.tensor([[0.0, 0, 448, 112]]), strides).tolist() == [2]


def test_level_of_an_empty_box_of_none_and_of_maps_of_one_stride() -> None:
    assert assign_levels(squares(0), (8, 16)).tolist() == [0]
    assert assign_levels(torch.zeros(0, 4), (8, 16)).shape == (0,)
    assert assign_levels(squares(10, 4000), (32, 32)).tolist() == [0, 0]
    assert assign_levels(squares(10, 4000), (16,)).tolist() == [0, 0]


# Pooling --------------------------------------------------------------------------------------------------------------


def test_pooling_by_hand() -> None:
    # A map of 4 x 4 whose pixels say 10 row + column; the box covers rows and columns 0..3.
    x = (10.0 * torch.arange(4)[:, None] + torch.arange(4))[None, None]
    box, image = torch.tensor([[0.0, 0, 3, 3]]), torch.tensor([0])
    pooled = roi_features([x], [1], box, image, size=2, pooling="pool")
    assert pooled.tolist() == [[[[11, 13], [31, 33]]]]
    # One point in the middle of each of 2 x 2 bins of 1.5 px: at 0.75 and 2.25, where a plane says 10 y + x.
    aligned = roi_features([x], [1], box, image, size=2, sampling=1)
    torch.testing.assert_close(aligned[0, 0], torch.tensor([[8.25, 9.75], [23.25, 24.75]]))


@pytest.mark.parametrize("sampling", [1, 2])
def test_align_equals_the_loop(sampling: int) -> None:
    x = torch.randn(2, 3, 9, 12)
    boxes = torch.cat(
        (boxes_within(6, 72, 96), torch.tensor([[-9.0, -5, 40, 30], [60.0, 50, 130, 90], [7.0, 7, 7, 7]]))
    )
    image = torch.arange(len(boxes)) % 2
    found = roi_features([x], [8], boxes, image, size=3, sampling=sampling)
    for r, (box, b) in enumerate(zip(boxes.tolist(), image.tolist(), strict=True)):
        expected = align_by_loop(x[b], box, 1 / 8, 3, sampling)
        torch.testing.assert_close(found[r], expected, rtol=1e-4, atol=1e-5)


def test_pool_equals_the_loop() -> None:
    x = torch.randn(2, 3, 9, 12)
    boxes = torch.cat(
        (boxes_within(6, 72, 96), torch.tensor([[-9.0, -5, 40, 30], [60.0, 50, 130, 90], [9.0, 9, 9, 9]]))
    )
    image = torch.arange(len(boxes)) % 2
    found = roi_features([x], [8], boxes, image, size=3, pooling="pool")
    for r, (box, b) in enumerate(zip(boxes.tolist(), image.tolist(), strict=True)):
        torch.testing.assert_close(found[r], pool_by_loop(x[b], box, 1 / 8, 3))


@pytest.mark.parametrize("pooling", ["align", "pool"])
def test_each_box_is_read_from_its_level_and_the_order_stays(pooling: Pooling) -> None:
    maps = [torch.full((1, 2, 40 // 2**p, 40 // 2**p), float(p)) for p in range(3)]
    boxes = torch.cat((squares(300), squares(30), squares(150), squares(100)))
    strides = (8, 16, 32)
    # Inside of the map every value is the level's number: 224 <= 300 gives 1 and the others 0.
    found = roi_features(maps, strides, boxes, torch.zeros(4, dtype=torch.int64), size=2, pooling=pooling)
    assert found.amax((1, 2, 3)).tolist() == [1, 0, 0, 0]
    alone = [roi_features(maps, strides, box[None], torch.tensor([0]), size=2, pooling=pooling) for box in boxes]
    assert torch.equal(found, torch.cat(alone))


@pytest.mark.parametrize("pooling", ["align", "pool"])
def test_no_boxes(pooling: Pooling) -> None:
    maps = [torch.randn(1, 5, 8, 8), torch.randn(1, 5, 4, 4)]
    none = roi_features(maps, (8, 16), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), pooling=pooling)
    assert none.shape == (0, 5, 7, 7)


@pytest.mark.parametrize("pooling", ["align", "pool"])
def test_gradients(pooling: Pooling) -> None:
    maps = [torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    boxes = torch.cat((squares(20), squares(300))).double()
    image = torch.zeros(2, dtype=torch.int64)
    assert torch.autograd.gradcheck(
        lambda *x: roi_features(x, (8, 64), boxes, image, size=2, pooling=pooling), maps, nondet_tol=1e-9
    )


def test_half_precision_maps_are_read_in_single_precision() -> None:
    x = torch.randn(1, 2, 8, 8).bfloat16()
    boxes, image = squares(20, 33), torch.zeros(2, dtype=torch.int64)
    found = roi_features([x], [8], boxes, image)
    assert torch.equal(found, roi_features([x.float()], [8], boxes, image))


@pytest.mark.parametrize("sampling", [1, 2])
def test_the_gradient_by_matrices_is_that_of_the_compiled_operator(sampling: int) -> None:
    """Of small maps; boxes beyond the map and smaller than a cell, an image without any."""
    boxes = torch.cat(
        (boxes_within(9, 160, 192), torch.tensor([[-90.0, -40, 20, 30], [150, 100, 260, 190], [5, 5, 6, 6]]))
    )
    image = torch.arange(len(boxes)) % 2 * 2  # images 0 and 2
    x = torch.randn(3, 4, 10, 12, requires_grad=True)
    assert roi._wants_matrices(x, 7, sampling)
    found = roi_features([x], [16], boxes, image, sampling=sampling)
    expected = torchvision.ops.roi_align(x, torch.cat((image[:, None], boxes), 1), 7, 1 / 16, sampling)
    assert torch.equal(found, expected)
    wanted = torch.randn_like(found)
    of_ours, of_theirs = (torch.autograd.grad(y, x, wanted)[0] for y in (found, expected))
    torch.testing.assert_close(of_ours, of_theirs, rtol=1e-5, atol=1e-5)
    none = roi_features([x], [16], boxes[:0], image[:0], sampling=sampling)
    assert torch.equal(torch.autograd.grad(none.sum(), x)[0], torch.zeros_like(x))


def test_of_a_large_map_or_without_a_gradient_the_compiled_operator_is_quicker() -> None:
    # 7 x 40 x (7 + 40) = 13,160 multiply-adds beside 4 x 7 x 7 = 196 additions, 67 to one; of 20 x 20 it is 19 to one.
    assert not roi._wants_matrices(torch.zeros(1, 1, 40, 40, requires_grad=True), 7, 1)
    small = torch.zeros(1, 1, 20, 20, requires_grad=True)
    assert roi._wants_matrices(small, 7, 1)
    assert not roi._wants_matrices(small.detach(), 7, 1)
    with torch.no_grad():
        assert not roi._wants_matrices(small, 7, 1)
