"""Other maps of a backbone: the same network, the same names."""

import copy

import pytest
import torch

from visionkit.backbones.mobilenetv3 import mobilenetv3_small
from visionkit.backbones.resnet import resnet18
from visionkit.backbones.unit_maps import UnitMaps, with_finer_map
from visionkit.build import BACKBONES
from visionkit.errors import UsageError
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


@pytest.mark.parametrize("name", ["csp-light", "resnet18", "mobilenetv3-small", "efficientnet-b0", "nin", "alexnet"])
def test_a_finer_map_is_added_to_those_that_stay(name: str) -> None:
    network = BACKBONES[name]().eval()
    before = copy.deepcopy(network.state_dict())
    finer = with_finer_map(network, 4).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found, expected = finer(x), network(x)
    assert finer.levels[0].stride == 4
    assert finer.levels[1:] == network.levels
    assert found[0].shape == (1, finer.levels[0].channels, 16, 24)
    assert all(torch.equal(a, b) for a, b in zip(found[1:], expected, strict=True))
    assert finer.units == network.units
    assert all(torch.equal(tensor, before[key]) for key, tensor in finer.state_dict().items())


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - {"googlenet", "lenet5"}))
def test_who_has_a_map_at_stride_4(name: str) -> None:
    with torch.device("meta"):
        assert [level.stride for level in with_finer_map(BACKBONES[name](), 4).levels] == [4, 8, 16, 32]


def test_who_has_none_or_does_more_than_its_units_is_refused() -> None:
    # Of resnet18 the stem alone is at stride 2; GoogLeNet brings pixels to a scale of its own before its first unit.
    assert with_finer_map(resnet18(), 2).levels[0].stride == 2
    for network, stride in ((resnet18(), 1), (BACKBONES["googlenet"](), 4)):
        with pytest.raises(UsageError) as error:
            with_finer_map(network, stride)
        assert str(error.value) == (
            f"the backbone gives no map of stride {stride} beside its own; use another, such as csp-light"
        )
