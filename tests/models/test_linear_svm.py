"""Support vector machines: by hand, against scikit-learn, and mined negatives against all of them."""

import math

import pytest
import torch
from torch import Tensor

from visionkit.models.linear_svm import BIAS, MOST_HARD, fit_sigmoid, fit_svm, margins, mine, svm_loss


def clouds(positives: int, negatives: int, features: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two clouds that overlap a little."""
    draw = torch.Generator().manual_seed(seed)
    centre = torch.full((features,), 0.6)
    return (
        torch.randn(positives, features, generator=draw, dtype=torch.float64) + centre,
        torch.randn(negatives, features, generator=draw, dtype=torch.float64) - centre,
    )


def signs(positives: int, negatives: int) -> Tensor:
    return torch.tensor([1.0] * positives + [-1.0] * negatives, dtype=torch.float64)


def test_two_samples_by_hand() -> None:
    samples, sign = torch.tensor([[1.0], [-1.0]], dtype=torch.float64), signs(1, 1)
    # w^2 / 2 + c * 2 * (1 - w)^2 is least where w = 4 c (1 - w): 4 c / (1 + 4 c).
    assert fit_svm(samples, sign, 1.0).item() == pytest.approx(0.8)
    assert fit_svm(samples, sign, 0.25).item() == pytest.approx(0.5)
    # 0.8^2 / 2 + 2 * 0.2^2
    assert svm_loss(torch.tensor([0.8], dtype=torch.float64), samples, sign, 1.0).item() == pytest.approx(0.4)


def test_what_is_beyond_the_margin_does_not_count() -> None:
    near = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    far = torch.tensor([[1.0], [7.0], [-1.0], [-90.0]], dtype=torch.float64)
    assert fit_svm(far, signs(2, 2), 1.0).item() == pytest.approx(fit_svm(near, signs(1, 1), 1.0).item())


def test_no_sample_at_all_gives_no_weight() -> None:
    assert fit_svm(torch.zeros(0, 3, dtype=torch.float64), signs(0, 0), 1.0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("cost", [1e-3, 1.0, 100.0])
def test_the_solution_is_the_minimum_wherever_it_begins(cost: float) -> None:
    samples, sign = torch.cat(clouds(40, 60)), signs(40, 60)
    found = fit_svm(samples, sign, cost)
    weight = found.clone().requires_grad_()
    svm_loss(weight, samples, sign, cost).backward()
    assert weight.grad is not None
    assert weight.grad.abs().max() < 1e-8 * (1 + cost)
    torch.testing.assert_close(fit_svm(samples, sign, cost, torch.full((8,), 30.0, dtype=torch.float64)), found)


@pytest.mark.parametrize("cost", [1e-2, 1.0])
def test_it_is_the_machine_that_scikit_learn_fits(cost: float) -> None:
    svm = pytest.importorskip("sklearn.svm")
    positives, negatives = clouds(30, 200)
    theirs = svm.LinearSVC(C=cost, loss="squared_hinge", dual=False, intercept_scaling=BIAS, tol=1e-10, max_iter=10_000)
    theirs.fit(torch.cat((positives, negatives)).numpy(), signs(30, 200).numpy())
    ours = mine(positives, [negatives], torch.ones(200, dtype=torch.bool), cost)
    assert ours[:-1].tolist() == pytest.approx(theirs.coef_[0].tolist(), rel=1e-4, abs=1e-6)
    assert ours[-1].item() == pytest.approx(theirs.intercept_[0], rel=1e-4, abs=1e-6)


def test_mining_ends_where_all_negatives_together_do() -> None:
    positives, negatives = clouds(60, 12_000)
    # In three images, with regions among them that are no negatives: they are positives of something.
    regions = torch.cat((negatives[:5000], positives, negatives[5000:]))
    negative = torch.ones(len(regions), dtype=torch.bool)
    negative[5000:5060] = False
    images = list(regions.split([4000, 5000, 3060]))
    mined = mine(positives, images, negative, cost=0.1)
    constant = torch.full((12_060, 1), BIAS, dtype=torch.float64)
    samples = torch.cat((torch.cat((positives, negatives)), constant), 1)
    whole = fit_svm(samples, signs(60, 12_000), 0.1)
    torch.testing.assert_close(mined[:-1], whole[:-1], rtol=2e-2, atol=2e-3)
    assert mined[-1].item() == pytest.approx(BIAS * whole[-1].item(), rel=2e-2)


def test_features_may_be_halves_and_there_may_be_no_negative() -> None:
    positives, negatives = clouds(20, 300)
    whole = mine(positives, [negatives], torch.ones(300, dtype=torch.bool), 1.0)
    half = mine(positives.half(), [negatives.half()], torch.ones(300, dtype=torch.bool), 1.0)
    torch.testing.assert_close(half, whole, rtol=0.02, atol=0.01)
    alone = mine(positives, [negatives], torch.zeros(300, dtype=torch.bool), 1.0)
    assert margins([positives], alone[:-1], alone[-1]).min() > 0.9
    assert MOST_HARD > 0


def test_margins_of_one_image_after_another() -> None:
    weight, bias = torch.tensor([2.0, 1.0]), torch.tensor(-1.0)
    images = [torch.tensor([[1.0, 1.0]]), torch.zeros(0, 2), torch.tensor([[0.0, 3.0], [1.0, 0.0]]).half()]
    assert margins(images, weight, bias).tolist() == [2, 2, 1]


# Probabilities --------------------------------------------------------------------------------------------------------


def test_probabilities_are_as_many_as_the_positives_among_them() -> None:
    draw = torch.Generator().manual_seed(0)
    margin = torch.cat((torch.randn(50, generator=draw) + 1, torch.randn(950, generator=draw) - 1)).double()
    positive = torch.arange(1000) < 50
    slope, offset = fit_sigmoid(margin, positive)
    probability = (slope * margin + offset).sigmoid()
    # At the maximum of the likelihood, both sums are those of the truth, drawn in to 51/52 and 1/952.
    wanted = torch.where(positive, 51 / 52, 1 / 952)
    assert probability.sum().item() == pytest.approx(wanted.sum().item(), rel=1e-6)
    assert (margin * probability).sum().item() == pytest.approx((margin * wanted).sum().item(), rel=1e-5)
    assert slope > 0


def test_without_positives_everything_is_as_unlikely_as_nothing_seen_in_n() -> None:
    slope, offset = fit_sigmoid(torch.full((8,), -1.0), torch.zeros(8, dtype=torch.bool))
    assert 1 / (1 + math.exp(-(slope * -1 + offset))) == pytest.approx(1 / 10)
    assert fit_sigmoid(torch.zeros(0), torch.zeros(0, dtype=torch.bool)) == (1, 1)


def test_margins_that_mean_the_contrary_are_not_turned_around() -> None:
    slope, _ = fit_sigmoid(torch.tensor([-1.0, -2, 1, 2]), torch.tensor([True, True, False, False]))
    assert 0 < slope < 0.01
