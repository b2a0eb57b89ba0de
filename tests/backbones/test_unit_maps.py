"""Other maps of a backbone: the same network, the same names."""

import torch

from visionkit.backbones.mobilenetv3 import mobilenetv3_small
from visionkit.backbones.resnet import resnet18
from visionkit.backbones.unit_maps import UnitMaps
from visionkit.types import Level


def test_a_finer_map_beside_the_usual_ones() -> None:
    network = resnet18().eval()
    usual = {"layer2.1": Level(128, 8), "layer3.1": Level(256, 16), "layer4.1": Level(512, 32)}
    finer = UnitMaps(network, {"layer1.1": Level(64, 4), **usual}).eval()
    x = torch.randn(1, 3, 64, 96)
    found, expected = finer(x), network(x)
    assert [level.stride for level in finer.levels] == [4, 8, 16, 32]
    assert found[0].shape == (1, 64, 16, 24)
    assert all(torch.equal(a, b) for a, b in zip(found[1:], expected, strict=True))
    assert finer.units == network.units
    assert finer.state_dict().keys() == network.state_dict().keys()


def test_two_blocks_of_one_stride() -> None:
    network = mobilenetv3_small().eval()
    both = UnitMaps(network, {"features.9": Level(96, 32), "features.12": Level(576, 32)}).eval()
    x = torch.randn(1, 3, 64, 64)
    assert [m.shape for m in both(x)] == [(1, 96, 2, 2), (1, 576, 2, 2)]
    assert torch.equal(both(x)[1], network(x)[-1])
