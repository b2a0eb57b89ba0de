"""Box coding is known by its law: what is encoded decodes to itself."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from visionkit.ops.anchors import anchor_points
from visionkit.ops.box_coding import (
    LARGEST_GROWTH,
    decode_deltas,
    decode_distances,
    encode_deltas,
    encode_distances,
    expected_distances,
)

pixel = st.floats(0, 1024, width=32)
box = st.tuples(pixel, pixel, pixel, pixel).map(
    lambda c: [min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])]
)


def grid() -> tuple[Tensor, Tensor]:
    return anchor_points([(4, 4), (2, 2)], [8, 16])


@given(st.lists(box, max_size=5))
def test_law_decode_undoes_encode(boxes: list[list[float]]) -> None:
    points, strides = grid()
    every_box_at_every_point = torch.tensor(boxes).reshape(-1, 1, 4).expand(-1, len(points), 4)
    distances = encode_distances(every_box_at_every_point, points, strides)
    torch.testing.assert_close(
        decode_distances(distances, points, strides), every_box_at_every_point, rtol=1e-6, atol=1e-3
    )


def test_distances_by_hand() -> None:
    # Point (12, 20), stride 8, box 4..28 x 16..36: left (12-4)/8, top (20-16)/8, right (28-12)/8, bottom (36-20)/8.
    distances = encode_distances(torch.tensor([[4.0, 16, 28, 36]]), torch.tensor([[12.0, 20]]), torch.tensor([8.0]))
    assert distances.tolist() == [[1, 0.5, 2, 2]]


def test_distances_are_negative_outside_the_box() -> None:
    # x = 2 lies 2 before the left side and 8 - 2 = 6 before the right one.
    distances = encode_distances(torch.tensor([[4.0, 0, 8, 8]]), torch.tensor([[2.0, 4]]), torch.tensor([2.0]))
    assert distances.tolist() == [[-1, 2, 3, 2]]


def test_a_batch_equals_its_images_one_by_one() -> None:
    points, strides = grid()
    distances = torch.rand(3, len(points), 4)
    one_by_one = torch.stack([decode_distances(d, points, strides) for d in distances])
    assert torch.equal(decode_distances(distances, points, strides), one_by_one)


def test_nothing_to_code() -> None:
    none = torch.zeros(0, 4), torch.zeros(0, 2), torch.zeros(0)
    assert encode_distances(*none).shape == (0, 4)
    assert decode_distances(*none).shape == (0, 4)
    assert expected_distances(torch.zeros(0, 64)).shape == (0, 4)


def test_expected_distance_of_a_sure_an_even_and_a_torn_side() -> None:
    logits = torch.full((4, 5), -1e4)
    logits[0, 3] = 0  # all on bin 3: mean 3
    logits[1] = 0  # even over 0, 1, 2, 3, 4: mean 2
    logits[2, [1, 2]] = 0  # half on 1, half on 2: mean 1.5
    logits[3, [0, 4]] = torch.tensor([3.0, 1]).log()  # 3/4 on 0 and 1/4 on 4: mean 1
    torch.testing.assert_close(expected_distances(logits.flatten()), torch.tensor([3, 2, 1.5, 1]))


def test_expected_distances_stay_within_the_bins() -> None:
    distances = expected_distances(100 * torch.randn(50, 4 * 16))
    assert distances.shape == (50, 4)
    assert distances.min() >= 0
    assert distances.max() <= 15 + 1e-4


def test_half_precision_logits_are_averaged_in_single_precision() -> None:
    logits = torch.randn(10, 64).bfloat16()
    distances = expected_distances(logits)
    assert distances.dtype == torch.float32
    assert torch.equal(distances, expected_distances(logits.float()))


def test_gradients() -> None:
    points, strides = grid()
    points, strides = points.double(), strides.double()
    distances = torch.rand(len(points), 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: decode_distances(d, points, strides), distances)
    assert torch.autograd.gradcheck(lambda b: encode_distances(b, points, strides), distances)

    logits = torch.zeros(4 * 3, requires_grad=True)
    expected_distances(logits)[0].backward()
    # d mean / d logit_i = p_i (i - mean) = (0 - 1)/3, 0, (2 - 1)/3 for the even first side; other sides: nothing.
    torch.testing.assert_close(logits.grad, torch.tensor([-1 / 3, 0, 1 / 3] + [0.0] * 9))


# Deltas ---------------------------------------------------------------------------------------------------------------

ANCHORS = torch.tensor([[0.0, 0, 32, 32], [100.0, 40, 148, 64], [-20.0, 300, 60, 640]])
solid_box = st.tuples(pixel, pixel, st.floats(1, 1000, width=32), st.floats(1, 1000, width=32)).map(
    lambda c: [c[0], c[1], c[0] + c[2], c[1] + c[3]]
)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
@given(boxes=st.lists(solid_box, max_size=5))
def test_law_of_deltas(boxes: list[list[float]], weights: tuple[float, float, float, float]) -> None:
    every_box_of_every_anchor = torch.tensor(boxes).reshape(-1, 1, 4)
    deltas = encode_deltas(every_box_of_every_anchor, ANCHORS, weights)
    expected = every_box_of_every_anchor.expand(-1, 3, 4)
    torch.testing.assert_close(decode_deltas(deltas, ANCHORS, weights), expected, rtol=1e-5, atol=2e-3)


def test_deltas_by_hand() -> None:
    # The anchor is 10 wide and 20 high about (5, 10); the box 20 wide and 10 high about (7, 15).
    deltas = encode_deltas(torch.tensor([-3.0, 10, 17, 20]), torch.tensor([0.0, 0, 10, 20]), (10, 10, 5, 5))
    # 10 * 2 / 10, 10 * 5 / 20, 5 * log(20 / 10), 5 * log(10 / 20).
    torch.testing.assert_close(deltas, torch.tensor([2, 2.5, 5 * math.log(2), -5 * math.log(2)]))


def test_a_wild_delta_grows_a_side_by_no_more_than_62_times() -> None:
    box = decode_deltas(torch.tensor([0, 0, 1e4, LARGEST_GROWTH]), torch.tensor([0.0, 0, 16, 8]))
    torch.testing.assert_close(box[2:] - box[:2], torch.tensor([1000.0, 500]))  # 1000 / 16 = 62.5


def test_an_empty_box_has_finite_deltas() -> None:
    assert encode_deltas(torch.tensor([5.0, 5, 5, 5]), ANCHORS).isfinite().all()
    assert encode_deltas(ANCHORS, torch.tensor([5.0, 5, 5, 5])).isfinite().all()


def test_no_deltas_and_a_batch() -> None:
    assert encode_deltas(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert decode_deltas(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    deltas = torch.rand(2, 3, 4)
    assert torch.equal(decode_deltas(deltas, ANCHORS)[1], decode_deltas(deltas[1], ANCHORS))


def test_half_precision_deltas_are_decoded_in_single_precision() -> None:
    deltas = torch.randn(3, 4).bfloat16()
    assert torch.equal(decode_deltas(deltas, ANCHORS), decode_deltas(deltas.float(), ANCHORS))


def test_gradients_of_deltas() -> None:
    anchors = ANCHORS.double()
    deltas = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: decode_deltas(d, anchors), deltas)
    boxes = (anchors + torch.tensor([1.0, 2, 5, 9])).requires_grad_()
    assert torch.autograd.gradcheck(lambda b: encode_deltas(b, anchors), boxes)
