"""The weight average, against its formula step by step."""

import math

import pytest
import torch
from torch import nn

from visionkit.engine.ema import WeightAverage
from visionkit.nn.freeze import freeze, frozen_sha256
from visionkit.nn.norms import FrozenBatchNorm2d, SwitchableNorm2d
from visionkit.nn.thaw import thaw
from visionkit.types import Unit


def one_weight(value: float) -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def set_weight(model: nn.Module, value: float) -> None:
    nn.init.constant_(model.get_parameter("weight"), value)


def test_equals_the_formula() -> None:
    model = one_weight(1)
    average = WeightAverage(model, horizon=10)
    expected = 1.0
    for step in range(1, 40):
        value = math.sin(step)
        set_weight(model, value)
        average.update(step)
        expected += (value - expected) * max(5 / (step + 4), 1 / 10)
        assert average.model.get_parameter("weight").item() == pytest.approx(expected, abs=1e-6)


def test_follows_quickly_at_first_and_slowly_later() -> None:
    # Horizon 1000, a weight that jumps from 0 to 1: a share of 5 / (step + 4), at step 1 all of it, down to 1/1000.
    for step, near in ((1, 1), (6, 5 / 10), (496, 5 / 500), (4996, 1 / 1000), (100_000, 1 / 1000)):
        model = one_weight(0)
        average = WeightAverage(model, horizon=1000)
        set_weight(model, 1)
        average.update(step)
        assert average.model.get_parameter("weight").item() == pytest.approx(near, abs=1e-4)


def test_looks_back_the_less_the_lower_the_rate() -> None:
    # A weight that jumps from 0 to 1 at step 496, where a fifth of the steps is 100; rates as shares of the highest.
    for rate, near in ((1.0, 5 / 500), (0.5, 2 * 5 / 500), (0.1, 10 * 5 / 500), (0.01, 1), (0.0, 1)):
        model = one_weight(0)
        average = WeightAverage(model, horizon=1000)
        set_weight(model, 1)
        average.update(496, rate)
        assert average.model.get_parameter("weight").item() == pytest.approx(near, abs=1e-6)


def test_a_horizon_of_one_step_is_the_model_itself() -> None:
    model = one_weight(0)
    average = WeightAverage(model, horizon=1)
    set_weight(model, 0.3)
    average.update(1)
    assert average.model.get_parameter("weight").item() == pytest.approx(0.3)


def test_frozen_weights_keep_their_bits() -> None:
    # A third has no exact float: averaging it with itself could move its last bit.
    model = nn.Sequential(one_weight(1 / 3), one_weight(1 / 3))
    model[0].requires_grad_(False)
    average = WeightAverage(model, horizon=7)
    for step in range(1, 200):
        average.update(step)
    assert torch.equal(average.model.get_parameter("0.weight"), model[0].weight)


def test_statistics_that_are_held_keep_their_bits_and_are_followed_again_once_let_go() -> None:
    # -0 averaged with itself is 0: the same number, another bit.
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    nn.init.constant_(model[0].running_mean, -0.0)  # type: ignore[arg-type]
    units = [Unit("norm", ("0",)), Unit("layer", ("1",))]
    held = freeze(model, units, (0,))
    before = frozen_sha256(model, held)
    average = WeightAverage(model, horizon=10)
    for step in range(96, 99):  # shares of a tenth
        model.train()(torch.randn(8, 2))
        average.update(step)
    assert frozen_sha256(model, held) == frozen_sha256(average.model, held) == before
    thaw(model, held)
    model.train()(torch.randn(8, 2))
    average.update(99)
    assert frozen_sha256(average.model, held) != before


def test_running_statistics_are_averaged_with_the_weights_they_belong_to() -> None:
    model = nn.BatchNorm1d(2)
    average = WeightAverage(model, horizon=2)
    before = average.model.get_buffer("running_mean").clone()
    model(torch.randn(8, 2))
    average.update(100)  # a share of 1/2
    after = model.get_buffer("running_mean")
    torch.testing.assert_close(average.model.get_buffer("running_mean"), (before + after) / 2)
    assert torch.equal(average.model.get_buffer("num_batches_tracked"), model.get_buffer("num_batches_tracked"))


def test_statistics_and_shares_of_switchable_norms_are_averaged_and_frozen_ones_keep_their_bits() -> None:
    model = nn.Sequential(SwitchableNorm2d(2), FrozenBatchNorm2d(2))
    nn.init.constant_(model[1].running_var, 1 / 3)
    average = WeightAverage(model, horizon=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    nn.init.constant_(model[0].mean_mixture, 5)
    model(torch.randn(8, 2, 3, 3))
    average.update(100)  # a share of 1/2
    for name, tensor in average.model.state_dict().items():
        if name.startswith("0."):
            torch.testing.assert_close(tensor, (before[name] + model.state_dict()[name]) / 2)
        else:
            assert torch.equal(tensor, before[name])
    assert not torch.equal(average.model[0].running_mean, before["0.running_mean"])


def test_the_copy_is_in_eval_and_learns_nothing_itself() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    average = WeightAverage(model, horizon=10)
    assert not any(module.training for module in average.model.modules())
    assert not any(p.requires_grad for p in average.model.parameters())
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
