"""Activations at a few points, by their formulas."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from visionkit.backbones.csp_light import CspLight
from visionkit.nn.activations import ACTIVATIONS, Maxout
from visionkit.nn.freeze import freeze
from visionkit.types import Unit

POINTS = [-4.0, -0.5, 0.0, 0.5, 8.0]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


FORMULAS: dict[str, Callable[[float], float]] = {
    "relu": lambda x: max(0, x),
    "relu6": lambda x: min(6, max(0, x)),
    "leaky-relu": lambda x: x if x > 0 else 0.01 * x,
    "prelu": lambda x: x if x > 0 else 0.25 * x,
    "rrelu": lambda x: x if x > 0 else x * (1 / 8 + 1 / 3) / 2,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "sigmoid": sigmoid,
    "hard-sigmoid": lambda x: min(1, max(0, x / 6 + 0.5)),
    "tanh": lambda x: 2 * sigmoid(2 * x) - 1,
    "swish": lambda x: x * sigmoid(x),
    "hard-swish": lambda x: x * min(6, max(0, x + 3)) / 6,
}


def test_every_name_has_its_formula_here() -> None:
    assert {*FORMULAS, "maxout"} == set(ACTIVATIONS)


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name: str) -> None:
    y = ACTIVATIONS[name](1).eval()(torch.tensor(POINTS).view(1, 1, 1, 5))
    assert y.flatten().tolist() == pytest.approx([FORMULAS[name](x) for x in POINTS], abs=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_backbone_of_it_learns_on_a_cpu_in_a_fixed_order(name: str) -> None:
    torch.manual_seed(0)
    backbone = CspLight(activation=ACTIVATIONS[name])
    torch.use_deterministic_algorithms(True)  # as the training loop has it
    try:
        sum(level.square().mean() for level in backbone(torch.randn(2, 3, 64, 64))).backward()
    finally:
        torch.use_deterministic_algorithms(False)
    for parameter_name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_no_image(name: str) -> None:
    assert ACTIVATIONS[name](3)(torch.zeros(0, 3, 4, 4)).shape == (0, 3, 4, 4)


def test_prelu_learns_a_slope_a_channel() -> None:
    assert [p.shape for p in ACTIVATIONS["prelu"](7).parameters()] == [(7,)]


def test_rrelu_draws_the_same_slopes_from_the_same_seed() -> None:
    # The training loop seeds torch anew for each batch.
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append(ACTIVATIONS["rrelu"](1)(-torch.ones(1, 1, 4, 4)))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert all(((-y >= 1 / 8) & (-y <= 1 / 3)).all() for y in drawn)


def test_a_frozen_rrelu_has_the_mean_slope() -> None:
    # Held still like dropout: what is drawn in a frozen unit would be noise that nothing learns from.
    model = nn.Sequential(ACTIVATIONS["rrelu"](1), nn.Conv2d(1, 1, 1))
    freeze(model, [Unit("act", ("0",)), Unit("head", ("1",))], [0])
    y = model.train()[0](-torch.ones(1, 1, 1, 2))
    assert y.flatten().tolist() == pytest.approx([-(1 / 8 + 1 / 3) / 2] * 2)


# Maxout ---------------------------------------------------------------------------------------------------------------


def test_maxout_of_x_and_minus_x_is_the_absolute_value() -> None:
    maxout = Maxout(2)
    with torch.no_grad():
        maxout.pieces.weight.copy_(torch.cat((torch.eye(2), -torch.eye(2)))[..., None, None])
    x = torch.randn(3, 2, 4, 5)
    assert torch.equal(maxout(x), x.abs())


def test_maxout_equals_the_loop() -> None:
    # h_c = max over the pieces j of w_jc . x + b_jc: section 3 of the paper.
    maxout = Maxout(3, pieces=4)
    nn.init.normal_(maxout.pieces.bias)
    x = torch.randn(1, 3, 1, 1)
    weight, bias = maxout.pieces.weight.detach().view(4, 3, 3), maxout.pieces.bias.detach().view(4, 3)
    expected = [max(float(weight[j, c] @ x.flatten() + bias[j, c]) for j in range(4)) for c in range(3)]
    assert maxout(x).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_a_fresh_maxout_keeps_the_mean_square() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 256, 8, 8)
    assert Maxout(256)(x).square().mean().item() == pytest.approx(1, abs=0.05)


def test_maxout_gradient() -> None:
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(Maxout(2).double(), torch.randn(1, 2, 2, 2, dtype=torch.double, requires_grad=True))
