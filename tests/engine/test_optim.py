"""Which parameters an optimizer is given, and how it is set up."""

import copy
import math
from typing import Any, get_args

import pytest
import torch
from torch import nn

from visionkit.engine.optim import (
    TORCH_OPTIMIZERS,
    build_optimizer,
    learn_also,
    parameter_groups,
    set_learning_rate,
    shape_gradients,
)
from visionkit.engine.parameter_groups import Rule, parameter_rules
from visionkit.engine.settings import OPTIMIZER_DEFAULTS, OptimizerName, TrainSettings


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


@pytest.mark.parametrize("name", get_args(OptimizerName))
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


# By name --------------------------------------------------------------------------------------------------------------


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.model_validate({"weight_decay": 0, **values})


def path_of_a_weight(steps: int, **values: Any) -> list[float]:
    """Where a weight of 0 goes whose gradient is always 4."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = build_optimizer(model, settings(**values))
    path = []
    for _ in range(steps):
        model.weight.grad = torch.full((1, 1), 4.0)
        optimizer.step()
        path.append(model.weight.item())
    return path


def test_every_name_is_an_optimizer() -> None:
    assert {*TORCH_OPTIMIZERS, "muon"} == set(get_args(OptimizerName))
    assert set(OPTIMIZER_DEFAULTS) <= set(TORCH_OPTIMIZERS)


@pytest.mark.parametrize(
    ("values", "path"),
    [
        # lr 0.1 times 4, twice.
        ({"optimizer": "sgd", "momentum": 0}, [-0.4, -0.8]),
        ({"optimizer": "momentum", "momentum": 0}, [-0.4, -0.8]),
        # The velocity is 4, then 0.5 * 4 + 4 = 6.
        ({"optimizer": "momentum", "momentum": 0.5}, [-0.4, -1.0]),
        # Looks ahead: 4 + 0.5 * 4 = 6, then 4 + 0.5 * 6 = 7.
        ({"optimizer": "nesterov", "momentum": 0.5}, [-0.6, -1.3]),
        ({"optimizer": "sgd", "momentum": 0.5}, [-0.6, -1.3]),
        # 4 over the root of the sum of squares: 16, then 32.
        ({"optimizer": "adagrad"}, [-0.1, -0.1 - 0.1 / math.sqrt(2)]),
        # 4 over the root of their running mean, from 0: 0.01 * 16, then 0.0199 * 16.
        ({"optimizer": "rmsprop"}, [-1, -1 - 0.1 / math.sqrt(0.0199)]),
        # The root of the mean square of steps, from 0 + 1e-6, over that of the gradient, 0.1 * 16 + 1e-6, times 4.
        ({"optimizer": "adadelta"}, [-0.1 * 4 * math.sqrt(1e-6 / (1.6 + 1e-6))]),
        # Both moments know only one gradient: lr each.
        ({"optimizer": "adam"}, [-0.1, -0.2]),
        ({"optimizer": "adamw"}, [-0.1, -0.2]),
    ],
)
def test_first_steps_by_hand(values: dict[str, Any], path: list[float]) -> None:
    assert path_of_a_weight(len(path), lr=0.1, **values) == pytest.approx(path, rel=1e-5)


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_a_restored_optimizer_goes_on_where_it_was(name: OptimizerName) -> None:
    torch.manual_seed(0)
    model = small_model()
    optimizer = build_optimizer(model, TrainSettings(optimizer=name))
    images = torch.randn(5, 3, 3, 3)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()

    step(model, optimizer)
    again = copy.deepcopy(model)
    restored = build_optimizer(again, TrainSettings(optimizer=name))
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer)
    step(again, restored)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(("name", "lr", "decay"), [("muon", 2e-3, 0.05), ("adam", 1e-3, 5e-4), ("adadelta", 1, 5e-4)])
def test_rate_and_decay_suit_the_optimizer_unless_they_are_said(name: str, lr: float, decay: float) -> None:
    own = TrainSettings.model_validate({"optimizer": name})
    assert (own.lr, own.weight_decay) == (lr, decay)
    assert TrainSettings.model_validate({"optimizer": name, "lr": 0.7}).lr == 0.7


# Penalties and clipping -----------------------------------------------------------------------------------------------


def shaped(gradient: list[float], **values: Any) -> list[float]:
    """Gradients of the weights 2 and -3, and of the bias 5, after shaping."""
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, -3]]))
        model.bias.fill_(5)
    model.weight.grad, model.bias.grad = torch.tensor([gradient[:2]]).float(), torch.tensor(gradient[2:]).float()
    given = settings(optimizer="sgd", **{"clip_norm": 1e9, **values})
    shape_gradients(build_optimizer(model, given), given)
    return [*model.weight.grad[0].tolist(), *model.bias.grad.tolist()]


def test_penalties_pull_weights_towards_0_and_leave_biases() -> None:
    # L1: 0.1 times the sign. L2: 0.01 times the weight.
    assert shaped([0.5, 0.5, 0.5], l1=0.1) == pytest.approx([0.6, 0.4, 0.5])
    assert shaped([0.5, 0.5, 0.5], l2=0.01) == pytest.approx([0.52, 0.47, 0.5])
    assert shaped([0.5, 0.5, 0.5], l1=0.1, l2=0.01) == pytest.approx([0.62, 0.37, 0.5])


def test_the_penalties_are_gradients_of_what_they_say() -> None:
    weights = torch.tensor([2.0, -3], requires_grad=True)
    (0.1 * weights.abs().sum() + 0.01 / 2 * weights.square().sum()).backward()
    assert shaped([0, 0, 0], l1=0.1, l2=0.01) == pytest.approx([*weights.grad.tolist(), 0])


def test_values_are_cut_before_the_norm() -> None:
    assert shaped([3, -4, 0]) == [3, -4, 0]
    assert shaped([3, -4, 0], clip_value=3.5) == [3, -3.5, 0]
    assert shaped([3, -4, 0], clip_norm=1) == pytest.approx([0.6, -0.8, 0], rel=1e-5)  # the norm is 5
    # 3, -3: each by the root of 18.
    assert shaped([3, -4, 0], clip_value=3, clip_norm=1) == pytest.approx([math.sqrt(0.5), -math.sqrt(0.5), 0])


@pytest.mark.parametrize("longest", [0.5, 2.0])
def test_only_a_gradient_beyond_the_norm_is_gone_through_again_and_every_bit_is_torch_s(longest: float) -> None:
    model = small_model()
    torch.manual_seed(0)
    gradients = [torch.randn_like(p) for p in model.parameters()]
    gradients[0][0] = -0.0
    norm = torch.cat([g.flatten() for g in gradients]).norm().item()
    given = settings(optimizer="sgd", clip_norm=longest * norm)
    mine, theirs = ([g.clone() for g in gradients] for _ in range(2))
    for p, gradient in zip(model.parameters(), mine, strict=True):
        p.grad = gradient
    optimizer = build_optimizer(model, given)
    found = shape_gradients(optimizer, given)
    assert [gradient._version for gradient in mine] == [int(longest < 1)] * len(mine)  # how often each was written to
    for p, gradient in zip(model.parameters(), theirs, strict=True):
        p.grad = gradient
    in_order = [p for group in optimizer.param_groups for p in group["params"]]
    assert found == nn.utils.clip_grad_norm_(in_order, given.clip_norm).item()
    for a, b in zip(mine, theirs, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_a_parameter_without_a_gradient_stays_without() -> None:
    model = nn.Linear(2, 1)
    given = settings(optimizer="sgd", l1=0.1, clip_value=1)
    model.bias.grad = torch.ones(1)
    shape_gradients(build_optimizer(model, given), given)
    assert model.weight.grad is None


# Rates of groups, and groups that come later --------------------------------------------------------------------------


def test_groups_learn_at_their_share_of_the_rate_through_the_whole_schedule() -> None:
    model = small_model()
    rules = {name: Rule("first" if name.startswith("0.") else "rest", 0.1 if name.startswith("0.") else 1.0, 0.05)
             for name, _ in model.named_parameters()}  # fmt: skip
    for name in ("muon", "adamw"):
        optimizer = build_optimizer(model, TrainSettings(optimizer=name, lr=0.5), rules)  # type: ignore[arg-type]
        for lr in (0.2, 0.1):
            set_learning_rate(optimizer, lr)
            found = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
            assert found[id(model[0].weight)] == pytest.approx(lr * 0.1)
            assert found[id(model[3].bias)] == lr


def matrices() -> nn.Sequential:
    """Two layers that Muon is for, and a predictor."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.Linear(8, 8, bias=False), nn.Linear(8, 2))


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_parameters_join_in_groups_of_their_own_and_leave_the_others_as_they_are(name: OptimizerName) -> None:
    model, told = matrices(), TrainSettings(optimizer=name)
    rules = parameter_rules(model, told)
    model[0].requires_grad_(False)
    optimizer = build_optimizer(model, told, rules)

    def step() -> None:
        optimizer.zero_grad()
        model(torch.ones(3, 6)).square().sum().backward()
        optimizer.step()

    step()
    before = copy.deepcopy(optimizer.state_dict())
    model[0].requires_grad_(True)
    learn_also(optimizer, model, rules, ["0.weight"])
    after = optimizer.state_dict()
    known = len(before["param_groups"])
    assert after["param_groups"][:known] == before["param_groups"]
    for number, state in before["state"].items():
        now = after["state"][number]
        assert all(torch.equal(torch.as_tensor(value), torch.as_tensor(now[key])) for key, value in state.items())
    (group,) = optimizer.param_groups[known:]
    assert group["params"] == [model[0].weight]
    assert group["weight_decay"] == told.weight_decay
    assert group.get("orthogonal", True)  # a hidden matrix, where it is Muon that learns
    weight = model[0].weight.clone()
    step()
    assert not torch.equal(model[0].weight, weight)
    learn_also(optimizer, model, rules, ["0.weight", "1.weight"])  # both are there
    assert len(optimizer.param_groups) == known + 1


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_an_optimizer_with_groups_that_came_later_is_restored_and_goes_on(name: OptimizerName) -> None:
    told = TrainSettings(optimizer=name)

    def begun() -> tuple[nn.Sequential, torch.optim.Optimizer]:
        model = matrices()
        model[0].requires_grad_(False)
        return model, build_optimizer(model, told)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.ones(3, 6)).square().sum().backward()
        optimizer.step()

    def thaw(model: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
        model[0].requires_grad_(True)
        learn_also(optimizer, model, parameter_rules(model, told), ["0.weight"])

    model, optimizer = begun()
    step(model, optimizer)
    thaw(model, optimizer)
    step(model, optimizer)
    again, restored = begun()
    thaw(again, restored)
    again.load_state_dict(model.state_dict())
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer)
    step(again, restored)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
