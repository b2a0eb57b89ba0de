"""SE-ResNet is ResNet with one more thing in each block, in its place."""

import pytest
import torch
import torchvision
from torch import nn

from visionkit.backbones.checkpoints import without_classifier
from visionkit.backbones.resnet import BasicBlock, Bottleneck, resnet18, resnet50
from visionkit.backbones.se_resnet import se_resnet18, se_resnet34, se_resnet50, se_resnet101


# Of C channels, C * C/16 + C/16 down and C/16 * C + C up. ResNet-18 has two blocks each of 64, 128, 256 and 512:
# 2 * (512 + 64 + 4 + 2,048 + 128 + 8 + 8,192 + 256 + 16 + 32,768 + 512 + 32) = 89,080.
@pytest.mark.parametrize(
    ("make", "plain", "more"), [(se_resnet18, resnet18, 89_080), (se_resnet50, resnet50, 2_530_992)]
)
def test_what_it_adds(make, plain, more) -> None:
    count = [sum(p.numel() for p in network().parameters()) for network in (make, plain)]
    assert count[0] - count[1] == more
    assert [unit.name for unit in make().units] == [unit.name for unit in plain().units]
    assert make().levels == plain().levels


@pytest.mark.parametrize(("make", "millions"), [(se_resnet34, 21.45), (se_resnet101, 47.28)])
def test_size(make, millions: float) -> None:
    assert sum(p.numel() for p in make().parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def set_gates(network: nn.Module, bias: float) -> None:
    """All gates to sigmoid(bias), whatever the maps say."""
    for name, parameter in network.named_parameters():
        if ".se.fc2." in f".{name}":
            nn.init.constant_(parameter, bias if name.endswith("bias") else 0)


def test_with_open_gates_it_is_the_resnet_of_torchvisions_weights() -> None:
    torch.manual_seed(0)
    weights = without_classifier(torchvision.models.resnet18(weights=None).state_dict())
    network, plain = se_resnet18().eval(), resnet18().eval()
    plain.load_state_dict(weights)
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert unexpected == []
    assert all(".se.fc" in name for name in missing)
    assert len(missing) == 8 * 4  # weight and bias of two layers in eight blocks
    set_gates(network, 100.0)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, expected in zip(network(images), plain(images), strict=True):
            torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("block", [BasicBlock(16, 16, reduction=4), Bottleneck(64, 16, reduction=16)])
def test_closed_gates_leave_the_input_alone(block: nn.Module) -> None:
    # What is added to the gated branch is not gated itself: relu(0 + x).
    set_gates(block, -100.0)
    x = torch.randn(2, block.conv1.in_channels, 5, 5)
    torch.testing.assert_close(block.eval()(x), x.relu())
