"""Stochastic depth: images lose the branch whole or not at all, and the expectation stays."""

import torch

from visionkit.nn.stochastic_depth import StochasticDepth


def test_each_image_loses_the_branch_whole_or_has_it_scaled() -> None:
    torch.manual_seed(0)
    per_image = StochasticDepth(0.2)(torch.ones(4000, 2, 1, 3)).flatten(1)
    assert torch.equal(per_image.amin(1), per_image.amax(1))
    # A kept one is 1 / 0.8. The mean is then about 1, with a deviation of 1.25 * sqrt(0.8 * 0.2 / 4000) = 0.008.
    torch.testing.assert_close(per_image.unique(), torch.tensor([0.0, 1.25]))
    assert abs(per_image.mean() - 1) < 0.03


def test_in_eval_and_at_0_nothing_happens() -> None:
    branch = torch.randn(3, 2, 2, 2)
    state = torch.get_rng_state()
    assert StochasticDepth(0.9).eval()(branch) is branch
    assert StochasticDepth(0.0)(branch) is branch
    assert torch.equal(torch.get_rng_state(), state)


def test_the_seed_of_the_step_decides() -> None:
    branch = torch.ones(64, 1, 1, 1)
    first, again, other = (StochasticDepth(0.5)(branch) for seed in (1, 1, 2) if torch.manual_seed(seed))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_image() -> None:
    assert StochasticDepth(0.5)(torch.zeros(0, 2, 3, 3)).shape == (0, 2, 3, 3)


def test_gradients_follow_what_was_kept() -> None:
    torch.manual_seed(0)
    branch = torch.ones(8, 1, requires_grad=True)
    out = StochasticDepth(0.5)(branch)
    out.sum().backward()
    assert torch.equal(branch.grad, out.detach())  # 0 or 2
    assert set(out.flatten().tolist()) == {0.0, 2.0}
