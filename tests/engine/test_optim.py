"""Which parameters an optimizer is given, and how it is set up."""

import pytest
import torch
from torch import nn

from visionkit.engine.optim import build_optimizer, parameter_groups, set_learning_rate
from visionkit.engine.settings import TrainSettings


def small_model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_only_matrices_decay() -> None:
    model = small_model()
    decayed, plain = parameter_groups(model, 0.05)
    assert decayed["weight_decay"] == 0.05
    assert decayed["params"] == [model[0].weight, model[3].weight]
    assert plain["weight_decay"] == 0
    assert plain["params"] == [model[0].bias, model[1].weight, model[1].bias, model[3].bias]


def test_frozen_parameters_are_in_no_group() -> None:
    model = small_model()
    model[0].requires_grad_(False)
    given = [p for group in parameter_groups(model, 0.05) for p in group["params"]]
    assert set(given) == {*model[1].parameters(), *model[3].parameters()}


def test_a_group_without_parameters_is_left_out() -> None:
    # torch's optimizers refuse an empty group.
    model = small_model()
    model[0].requires_grad_(False)
    model[3].requires_grad_(False)
    (group,) = parameter_groups(model, 0.05)
    assert group["weight_decay"] == 0


def test_settings_reach_the_optimizer() -> None:
    adamw = build_optimizer(small_model(), TrainSettings(optimizer="adamw", lr=0.01, momentum=0.8, weight_decay=0.1))
    assert isinstance(adamw, torch.optim.AdamW)
    assert [group["lr"] for group in adamw.param_groups] == [0.01, 0.01]
    assert [group["betas"] for group in adamw.param_groups] == [(0.8, 0.999)] * 2
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.1, 0]

    sgd = build_optimizer(small_model(), TrainSettings(optimizer="sgd", momentum=0.8))
    assert isinstance(sgd, torch.optim.SGD)
    assert all(group["momentum"] == 0.8 and group["nesterov"] for group in sgd.param_groups)


def test_muon_takes_the_weights_between_input_and_output() -> None:
    pixels, depthwise, hidden = (
        nn.Conv2d(3, 8, 3, bias=False),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),
        nn.Conv2d(8, 8, 1, bias=False),
    )
    predictor = nn.Conv2d(8, 2, 1)
    model = nn.Sequential(pixels, nn.BatchNorm2d(8), depthwise, hidden, predictor)
    muon = build_optimizer(model, TrainSettings(optimizer="muon", lr=0.01, weight_decay=0.1))
    assert [(g["orthogonal"], g["weight_decay"], len(g["params"])) for g in muon.param_groups] == [
        (True, 0.1, 1),  # hidden
        (False, 0.1, 3),  # pixels, depthwise, the predictor's weight
        (False, 0.0, 3),  # the norm's scale and shift, the predictor's bias
    ]
    assert muon.param_groups[0]["params"][0] is hidden.weight


def test_frozen_matrices_are_not_muons() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.Conv2d(8, 2, 1))
    model[0].requires_grad_(False)
    muon = build_optimizer(model, TrainSettings(optimizer="muon"))
    assert not any(group["orthogonal"] for group in muon.param_groups)


def test_sgd_without_momentum_has_no_nesterov() -> None:
    # torch refuses Nesterov's look-ahead where there is no momentum to look along.
    sgd = build_optimizer(small_model(), TrainSettings(optimizer="sgd", momentum=0))
    assert not any(group["nesterov"] for group in sgd.param_groups)


def test_learning_rate_is_set_in_every_group() -> None:
    optimizer = build_optimizer(small_model(), TrainSettings())
    set_learning_rate(optimizer, 0.123)
    assert [group["lr"] for group in optimizer.param_groups] == [0.123, 0.123]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_one_step_moves_what_learns_and_nothing_else(name: str) -> None:
    torch.manual_seed(0)
    model = small_model()
    model[0].requires_grad_(False)
    frozen = model[0].weight.clone()
    before = model[3].weight.clone()
    optimizer = build_optimizer(model, TrainSettings(optimizer=name, lr=0.1))  # type: ignore[arg-type]
    model(torch.randn(5, 3, 3, 3)).sum().backward()
    optimizer.step()
    assert torch.equal(model[0].weight, frozen)
    assert not torch.equal(model[3].weight, before)
