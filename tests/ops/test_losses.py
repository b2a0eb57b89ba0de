"""Losses by hand, by loop, and by gradient."""

import math

import pytest
import torch
import torchvision

from visionkit.ops.losses import ciou_loss, classification_loss, distribution_focal_loss

# Box ------------------------------------------------------------------------------------------------------------------


def test_ciou_loss_is_0_for_the_truth_itself_and_torchvisions_elsewhere() -> None:
    truth = torch.tensor([[0.0, 0, 10, 10], [5.0, 5, 30, 9]])
    shifted = truth + torch.tensor([3.0, 1, 2, 6])
    torch.testing.assert_close(ciou_loss(truth, truth), torch.zeros(2), rtol=0, atol=1e-6)
    expected = torchvision.ops.complete_box_iou_loss(shifted, truth)
    torch.testing.assert_close(ciou_loss(shifted, truth), expected, rtol=0, atol=1e-6)
    assert ciou_loss(truth[:0], truth[:0]).shape == (0,)


# Distribution ---------------------------------------------------------------------------------------------------------


def dfl_by_loop(logits: list[list[float]], distances: list[float]) -> float:
    """One anchor: four lists of R logits, four distances within the bins."""
    losses = []
    for side, distance in zip(logits, distances, strict=True):
        log_sum = math.log(sum(math.exp(logit) for logit in side))
        below = math.floor(distance)
        losses.append(
            (below + 1 - distance) * (log_sum - side[below]) + (distance - below) * (log_sum - side[below + 1])
        )
    return sum(losses) / 4


def test_distribution_loss_by_hand() -> None:
    # Even over 4 bins: log 4 wherever the truth lies.
    even = torch.zeros(1, 16)
    assert distribution_focal_loss(even, torch.tensor([[0.0, 1, 1.25, 2.9]])).item() == pytest.approx(math.log(4))
    # All four sides say: 3/4 on bin 1, 1/4 on bin 2. The truth 1.25 asks for just that: the entropy is left.
    said = torch.tensor([1e-9, 0.75, 0.25, 1e-9]).log().repeat(4)[None]
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert distribution_focal_loss(said, torch.full((1, 4), 1.25)).item() == pytest.approx(entropy, abs=1e-6)


def test_distribution_loss_equals_the_loop_and_a_batch_its_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 4 * 16, generator=generator)
    distances = 14.9 * torch.rand(20, 4, generator=generator)
    ours = distribution_focal_loss(logits, distances)
    by_loop = [dfl_by_loop(x.view(4, 16).tolist(), d.tolist()) for x, d in zip(logits, distances, strict=True)]
    torch.testing.assert_close(ours, torch.tensor(by_loop))
    rows = [distribution_focal_loss(logits[i : i + 1], distances[i : i + 1]) for i in range(20)]
    torch.testing.assert_close(ours, torch.cat(rows))


def test_distances_beyond_the_bins_are_clipped_to_them() -> None:
    logits = torch.randn(1, 4 * 4, generator=torch.Generator().manual_seed(0))
    beyond = distribution_focal_loss(logits, torch.tensor([[-5.0, 3, 99, -0.1]]))
    within = distribution_focal_loss(logits, torch.tensor([[0.0, 2.999, 2.999, 0]]))
    torch.testing.assert_close(beyond, within)


def test_distribution_loss_pulls_towards_the_two_bins_around_the_truth() -> None:
    logits = torch.zeros(1, 16, requires_grad=True)
    distribution_focal_loss(logits, torch.full((1, 4), 1.25)).sum().backward()
    assert logits.grad is not None
    # A side's gradient is softmax - target = 1/4 - (0, 0.75, 0.25, 0), by 4 sides.
    torch.testing.assert_close(logits.grad[0, :4], torch.tensor([0.25, -0.5, 0, 0.25]) / 4)


def test_no_positive_point_gives_a_loss_of_0_that_still_has_a_gradient() -> None:
    logits = torch.zeros(0, 64, requires_grad=True)
    loss = distribution_focal_loss(logits, torch.zeros(0, 4)).sum()
    loss.backward()
    assert loss.item() == 0


# Classes --------------------------------------------------------------------------------------------------------------


def test_classification_loss_by_hand() -> None:
    # At logit 0, p = 1/2 and each class costs log 2, whatever its target; two classes: 2 log 2. Weight 0 removes a row.
    logits = torch.zeros(3, 2)
    targets = torch.tensor([[0.0, 0], [1, 0.3], [0, 0]])
    loss = classification_loss(logits, targets, torch.tensor([1.0, 0.5, 0]))
    torch.testing.assert_close(loss, math.log(2) * torch.tensor([2.0, 1, 0]))


def test_classification_loss_is_least_where_the_score_is_the_target() -> None:
    logit = torch.tensor([[math.log(0.3 / 0.7)]], requires_grad=True)
    classification_loss(logit, torch.tensor([[0.3]]), torch.ones(1)).sum().backward()
    torch.testing.assert_close(logit.grad, torch.zeros(1, 1), rtol=0, atol=1e-7)


def test_gradient_of_the_classification_loss_is_weighted_score_less_target() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets, weights = torch.rand(5, 3), torch.tensor([1.0, 0, 1, 2, 0.5])
    classification_loss(logits, targets, weights).sum().backward()
    torch.testing.assert_close(logits.grad, (logits.detach().sigmoid() - targets) * weights[:, None])


def test_half_precision_logits_are_judged_in_single_precision() -> None:
    logits = torch.randn(4, 8).bfloat16()
    loss = classification_loss(logits, torch.zeros(4, 8), torch.ones(4))
    assert loss.dtype == torch.float32
    assert torch.equal(loss, classification_loss(logits.float(), torch.zeros(4, 8), torch.ones(4)))
    assert distribution_focal_loss(logits, torch.zeros(4, 4)).dtype == torch.float32


def test_no_anchor() -> None:
    assert classification_loss(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0)).shape == (0,)
