"""First weights of the layers behind a backbone."""

import pytest
import torch
from torch import nn

from visionkit.nn.fresh_start import start_behind_backbone


def model_of(fan: int = 64) -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"backbone": nn.Conv2d(3, 8, 3), "tower": nn.Conv2d(fan, 200, 1), "head": nn.Linear(fan, 200)})


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        # 2 / (fan in + fan out), and 2 / fan in.
        ("xavier", 2 / 264),
        ("kaiming", 2 / 64),
    ],
)
def test_weights_have_the_variance_of_their_name_and_biases_stay(name: str, variance: float) -> None:
    model = model_of()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    start_behind_backbone(model, name, seed=3)
    for key, tensor in model.state_dict().items():
        if key in ("tower.weight", "head.weight"):
            # 12,800 of them: the variance is met to some 3 %.
            assert float(tensor.var()) == pytest.approx(variance, rel=0.1)
        else:
            assert torch.equal(tensor, before[key]), key


def test_the_seed_decides_and_the_running_generator_does_not_move() -> None:
    one, two, other = model_of(), model_of(), model_of()
    start_behind_backbone(one, "xavier", seed=1)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    start_behind_backbone(two, "xavier", seed=1)
    assert torch.equal(torch.rand(1), expected)
    start_behind_backbone(other, "xavier", seed=2)
    assert torch.equal(one["head"].weight, two["head"].weight)
    assert not torch.equal(one["head"].weight, other["head"].weight)


def test_own_leaves_everything_as_it_is() -> None:
    model = model_of()
    before = model["head"].weight.clone()
    start_behind_backbone(model, "own", seed=0)
    assert torch.equal(model["head"].weight, before)
