"""First weights: the variances of the papers, zero biases, and nothing else touched."""

import pytest
import torch
from torch import nn

from visionkit.nn.initialise import INITIALISATIONS


# A 3x3 convolution from 64 to 256 channels: 576 inputs a value, 2304 outputs. A linear layer: 128 inputs, 512 outputs.
@pytest.mark.parametrize(
    ("name", "of_convolution", "of_linear"),
    [
        ("xavier", 2 / (576 + 2304), 2 / (128 + 512)),  # 2 / (fan in + fan out)
        ("kaiming", 2 / 576, 2 / 128),  # 2 / fan in
    ],
)
def test_variance_of_weights_and_zero_biases(name: str, of_convolution: float, of_linear: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(64, 256, 3), nn.Sequential(nn.Linear(128, 512)))
    INITIALISATIONS[name](model)
    assert model[0].weight.var().item() == pytest.approx(of_convolution, rel=0.02)
    assert model[1][0].weight.var().item() == pytest.approx(of_linear, rel=0.02)
    assert not model[0].bias.any()
    assert not model[1][0].bias.any()


def test_groups_count_the_inputs_they_see() -> None:
    torch.manual_seed(0)
    depthwise = nn.Conv2d(4096, 4096, 3, groups=4096, bias=False)
    INITIALISATIONS["kaiming"](depthwise)
    assert depthwise.weight.var().item() == pytest.approx(2 / 9, rel=0.02)  # nine inputs a value


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_norms_stay_as_they_are(name: str) -> None:
    norm = nn.BatchNorm2d(4)
    INITIALISATIONS[name](nn.Sequential(norm))
    assert norm.weight.tolist() == [1] * 4
