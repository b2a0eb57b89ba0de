"""Losses of boxes said as deltas: by hand, by loop, by gradient, and that each is 0 for the truth."""

import pytest
import torch
from torch import Tensor

from visionkit.ops.box_coding import DeltaWeights, decode_deltas, encode_deltas
from visionkit.ops.delta_losses import BETA, DELTA_LOSSES, UNWEIGHTED
from visionkit.ops.losses import BOX_LOSSES, NUMBER_LOSSES

WEIGHTS: DeltaWeights = (10.0, 10.0, 5.0, 5.0)


def boxes(count: int, seed: int) -> Tensor:
    """f64 [N, 4], sides of 4 to 20 px."""
    generator = torch.Generator().manual_seed(seed)
    corners = 20 * torch.rand(count, 2, generator=generator, dtype=torch.double)
    sides = 4 + 16 * torch.rand(count, 2, generator=generator, dtype=torch.double)
    return torch.cat((corners, corners + sides), 1)


def deltas(count: int) -> Tensor:
    return 0.3 * torch.randn(count, 4, generator=torch.Generator().manual_seed(7), dtype=torch.double)


def test_the_names_are_those_of_boxes_and_of_numbers() -> None:
    assert list(DELTA_LOSSES) == [*BOX_LOSSES, *NUMBER_LOSSES]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # The anchor as it is, and the truth 2 px to the right of it: dx is 2 / 20 = 0.1, the others 0.
        ("l1", 0.1),
        ("smooth-l1", 0.1**2 / (2 / 9)),  # below 1/9 a parabola
        ("mse", 0.01),
        # They share 18 x 20 of 22 x 20 px, which is also the hull; centres are 2 apart, its diagonal squared 22² + 20².
        ("iou", 1 - 18 / 22),
        ("giou", 1 - 18 / 22),
        ("diou", 1 - 18 / 22 + 4 / 884),
        ("ciou", 1 - 18 / 22 + 4 / 884),  # the same aspect
    ],
)
def test_by_hand(name: str, expected: float) -> None:
    anchors, truth = torch.tensor([[0.0, 0, 20, 20]]), torch.tensor([[2.0, 0, 22, 20]])
    assert DELTA_LOSSES[name](torch.zeros(1, 4), anchors, truth, UNWEIGHTED).sum().item() == pytest.approx(expected)


def test_smooth_l1_is_a_line_beyond_beta() -> None:
    anchors, truth = torch.tensor([[0.0, 0, 20, 20]]), torch.tensor([[20.0, 0, 40, 20]])  # dx = 1
    loss = DELTA_LOSSES["smooth-l1"](torch.zeros(1, 4), anchors, truth, UNWEIGHTED)
    assert loss.tolist() == [[pytest.approx(1 - BETA / 2), 0, 0, 0]]


@pytest.mark.parametrize("name", DELTA_LOSSES)
@pytest.mark.parametrize("weights", [UNWEIGHTED, WEIGHTS])
def test_the_truth_costs_nothing_whatever_the_weights(name: str, weights: DeltaWeights) -> None:
    anchors, truth = boxes(6, 0), boxes(6, 1)
    loss = DELTA_LOSSES[name](encode_deltas(truth, anchors, weights), anchors, truth, weights)
    torch.testing.assert_close(loss, torch.zeros_like(loss), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", DELTA_LOSSES)
def test_a_batch_is_its_rows_and_none_costs_nothing(name: str) -> None:
    anchors, truth, said = boxes(6, 0), boxes(6, 1), deltas(6)
    loss = DELTA_LOSSES[name](said, anchors, truth, WEIGHTS)
    rows = [DELTA_LOSSES[name](said[[i]], anchors[[i]], truth[[i]], WEIGHTS) for i in range(6)]
    torch.testing.assert_close(loss, torch.cat(rows))
    none = said[:0].requires_grad_()
    total = DELTA_LOSSES[name](none, anchors[:0], truth[:0], WEIGHTS).sum()
    total.backward()
    assert total.item() == 0


# Not ciou: the weight of its aspect takes no gradient.
@pytest.mark.parametrize("name", [name for name in DELTA_LOSSES if name != "ciou"])
def test_gradient(name: str) -> None:
    anchors, truth = boxes(5, 0), boxes(5, 1)
    said = deltas(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: DELTA_LOSSES[name](x, anchors, truth, WEIGHTS), said)


@pytest.mark.parametrize("name", BOX_LOSSES)
def test_a_loss_of_boxes_is_that_of_the_boxes_decoded(name: str) -> None:
    anchors, truth, said = boxes(6, 0), boxes(6, 1), deltas(6)
    expected = BOX_LOSSES[name](decode_deltas(said, anchors, WEIGHTS), truth)
    torch.testing.assert_close(DELTA_LOSSES[name](said, anchors, truth, WEIGHTS), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", DELTA_LOSSES)
def test_half_precision_and_boxes_without_a_side_give_finite_losses_and_gradients(name: str) -> None:
    point, line = [5.0, 5, 5, 5], [0.0, 5, 9, 5]
    anchors, truth = torch.tensor([point, line, point, [0, 0, 8, 8]]), torch.tensor([line, point, point, point])
    said = torch.full((4, 4), 100.0).bfloat16().requires_grad_()  # growths of e^100, but for the limit
    loss = DELTA_LOSSES[name](said, anchors, truth, WEIGHTS)
    assert loss.dtype == torch.float32
    assert loss.isfinite().all()
    loss.sum().backward()
    assert said.grad is not None
    assert said.grad.isfinite().all()
