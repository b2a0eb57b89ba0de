"""The learning-rate range test on a parabola, where it is known from which rate on steps go too far."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visionkit.engine.rate_range import HIGHEST, LOWEST, STEPS, RateRange, rate_range
from visionkit.engine.settings import TrainSettings
from visionkit.engine.train import TrainingState
from visionkit.imaging.letterbox import Frame
from visionkit.types import Batch, Losses


class Parabola(nn.Module):
    """Loss 50 (w - t)² with t 1 and -1 in turns: each step of plain gradient descent keeps (1 - 100 lr) of w - t, which
    grows from lr 0.02 on."""

    task = "detect"

    def __init__(self, spoil: float = 1.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[3.0]]))
        self.spoil = spoil

    def forward(self, images: Tensor, **given: Any) -> Tensor:
        return self.w - images.mean()

    def loss(self, outputs: Tensor, targets: Any) -> Losses:
        return Losses({"high": 50 * outputs.square().sum() * self.spoil})


class Batches:
    batches_per_epoch = 2

    def start(self, epoch: int, batch: int) -> Iterator[Batch]:
        while True:
            for t in (1.0, -1.0):
                yield Batch(torch.full((1, 3, 2, 2), t), (), (Frame(2, 2, 1.0, 1.0, 0, 0),), (0,))


def found(model: nn.Module, **settings: Any) -> RateRange:
    values = {"optimizer": "sgd", "momentum": 0, "weight_decay": 0, "clip_norm": 1e9, "amp": False, **settings}
    train_settings = TrainSettings.model_validate(values)
    state = TrainingState.begin(model, train_settings, 2)
    return rate_range(state, Batches(), train_settings, device=torch.device("cpu"))


def test_the_suggestion_is_a_tenth_of_where_steps_begin_to_go_too_far() -> None:
    result = found(Parabola())
    assert result.rates[0] == pytest.approx(LOWEST)
    assert result.rates == tuple(sorted(result.rates))
    assert len(result.rates) < STEPS  # the loss exploded, and that was enough
    # The loss falls up to less than lr 0.02, from where on it grows; smoothed it is least a little later.
    assert 0.0002 <= result.suggestion <= 0.003


def test_a_loss_that_stands_all_rates_is_tried_to_the_end() -> None:
    result = found(Parabola(spoil=1e-6))
    assert len(result.rates) == STEPS
    assert result.rates[-1] == pytest.approx(HIGHEST)


def test_a_loss_that_is_never_finite_says_nothing() -> None:
    assert found(Parabola(spoil=float("nan"))).rates == ()
