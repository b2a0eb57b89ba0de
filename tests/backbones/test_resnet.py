"""The ResNets are torchvision's, number by number, so its checkpoints mean the same here."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from visionkit.backbones.checkpoints import without_classifier
from visionkit.backbones.resnet import ResNet, resnet18, resnet34, resnet50
from visionkit.types import Level

EVERY = [resnet18, resnet34, resnet50]
Make = Callable[[], ResNet]


def torchvision_resnet(make: Make) -> nn.Module:
    """Of the same name; randomly initialised, with running statistics and affine weights that no longer do nothing."""
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.get_model(make.__name__, weights=None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model


def torchvision_maps(model: nn.Module, images: Tensor) -> list[Tensor]:
    x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
    map8 = model.layer2(model.layer1(x))
    map16 = model.layer3(map8)
    return [map8, map16, model.layer4(map16)]


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize(
    ("size", "training"),
    [((64, 64), False), ((64, 64), True), ((65, 97), False), ((65, 97), True), ((33, 50), False), ((1, 1), False)],
)
def test_features_equal_torchvision(make: Make, size: tuple[int, int], training: bool) -> None:
    peer = torchvision_resnet(make)
    ours = make()
    ours.load_state_dict(without_classifier(peer.state_dict()))
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        maps = ours.train(training)(images)
        expected = torchvision_maps(peer.train(training), images)
    assert len(maps) == len(expected) == len(ours.levels)
    for level, ours_map, peer_map in zip(ours.levels, maps, expected, strict=True):
        assert ours_map.shape[1:] == (level.channels, *(-(-side // level.stride) for side in size))
        torch.testing.assert_close(ours_map, peer_map, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", EVERY)
def test_parameter_names_and_order_are_torchvisions(make: Make) -> None:
    peer = torchvision.models.get_model(make.__name__, weights=None).state_dict()
    assert list(make().state_dict()) == [name for name in peer if not name.startswith("fc.")]
    assert set(peer) - set(without_classifier(peer)) == {"fc.weight", "fc.bias"}


def test_a_checkpoint_from_before_batch_counters_loads() -> None:
    # torchvision's first published ResNets have no `num_batches_tracked`.
    old = {k: v for k, v in torchvision_resnet(resnet18).state_dict().items() if "num_batches_tracked" not in k}
    resnet18().load_state_dict(without_classifier(old))


def test_levels_and_the_ten_units() -> None:
    model = resnet18()
    assert model.levels == (Level(128, 8), Level(256, 16), Level(512, 32))
    assert [unit.name for unit in model.units] == [
        *("stem", "maxpool", "layer1.0", "layer1.1", "layer2.0", "layer2.1"),
        *("layer3.0", "layer3.1", "layer4.0", "layer4.1"),
    ]
    assert model.units[0].modules == ("conv1", "bn1", "act1")


@pytest.mark.parametrize(("make", "channels"), [(resnet34, (128, 256, 512)), (resnet50, (512, 1024, 2048))])
def test_levels_and_the_eighteen_units(make: Make, channels: tuple[int, ...]) -> None:
    model = make()
    assert model.levels == tuple(Level(c, stride) for c, stride in zip(channels, (8, 16, 32), strict=True))
    # Table 1 of the paper: 3, 4, 6 and 3 blocks; with stem and maxpool 18.
    blocks = [f"layer{i}.{b}" for i, depth in enumerate((3, 4, 6, 3), start=1) for b in range(depth)]
    assert [unit.name for unit in model.units] == ["stem", "maxpool", *blocks]


# torchvision's counts less its classifier's: 512 * 1000 + 1000 = 513,000, and for ResNet-50 2048 * 1000 + 1000.
@pytest.mark.parametrize(
    ("make", "parameters"),
    [(resnet18, 11_689_512 - 513_000), (resnet34, 21_797_672 - 513_000), (resnet50, 25_557_032 - 2_049_000)],
)
def test_every_parameter_belongs_to_exactly_one_unit(make: Make, parameters: int) -> None:
    model = make()
    in_units = [p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()]
    assert len(in_units) == len(set(in_units))
    assert set(in_units) == set(model.parameters())
    assert sum(p.numel() for p in in_units) == parameters


def test_initialisation_keeps_the_variance_of_rectified_layers() -> None:
    torch.manual_seed(0)
    weight = resnet18().layer4[1].conv2.weight
    # He initialisation, fan out: deviation sqrt(2 / (512 * 3 * 3)) = 0.02083.
    assert weight.std().item() == pytest.approx(0.02083, rel=0.01)
    assert weight.mean().item() == pytest.approx(0, abs=1e-4)
