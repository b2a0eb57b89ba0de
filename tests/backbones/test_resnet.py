"""ResNet-18 is torchvision's, number by number, so its checkpoints mean the same here."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from visionkit.backbones.resnet import resnet18, without_classifier
from visionkit.types import Level


def torchvision_resnet18() -> nn.Module:
    """Randomly initialised, with running statistics and affine weights that no longer do nothing."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None)
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


@pytest.mark.parametrize(
    ("size", "training"),
    [((64, 64), False), ((64, 64), True), ((65, 97), False), ((65, 97), True), ((33, 50), False), ((1, 1), False)],
)
def test_features_equal_torchvision(size: tuple[int, int], training: bool) -> None:
    peer = torchvision_resnet18()
    ours = resnet18()
    ours.load_state_dict(without_classifier(peer.state_dict()))
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        maps = ours.train(training)(images)
        expected = torchvision_maps(peer.train(training), images)
    assert len(maps) == len(expected) == len(ours.levels)
    for level, ours_map, peer_map in zip(ours.levels, maps, expected, strict=True):
        assert ours_map.shape[1:] == (level.channels, *(-(-side // level.stride) for side in size))
        torch.testing.assert_close(ours_map, peer_map, rtol=0, atol=1e-6)


def test_parameter_names_and_order_are_torchvisions() -> None:
    peer = torchvision.models.resnet18(weights=None).state_dict()
    assert list(resnet18().state_dict()) == [name for name in peer if not name.startswith("fc.")]
    assert set(peer) - set(without_classifier(peer)) == {"fc.weight", "fc.bias"}


def test_a_checkpoint_from_before_batch_counters_loads() -> None:
    # torchvision's first published ResNets have no `num_batches_tracked`.
    old = {k: v for k, v in torchvision_resnet18().state_dict().items() if "num_batches_tracked" not in k}
    resnet18().load_state_dict(without_classifier(old))


def test_levels_and_the_ten_units() -> None:
    model = resnet18()
    assert model.levels == (Level(128, 8), Level(256, 16), Level(512, 32))
    assert [unit.name for unit in model.units] == [
        *("stem", "maxpool", "layer1.0", "layer1.1", "layer2.0", "layer2.1"),
        *("layer3.0", "layer3.1", "layer4.0", "layer4.1"),
    ]
    assert model.units[0].modules == ("conv1", "bn1")


def test_every_parameter_belongs_to_exactly_one_unit() -> None:
    model = resnet18()
    in_units = [p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()]
    assert len(in_units) == len(set(in_units))
    assert set(in_units) == set(model.parameters())
    # torchvision's 11,689,512 less its classifier, 512 * 1000 + 1000 = 513,000.
    assert sum(p.numel() for p in in_units) == 11_176_512


def test_initialisation_keeps_the_variance_of_rectified_layers() -> None:
    torch.manual_seed(0)
    weight = resnet18().layer4[1].conv2.weight
    # He initialisation, fan out: deviation sqrt(2 / (512 * 3 * 3)) = 0.02083.
    assert weight.std().item() == pytest.approx(0.02083, rel=0.01)
    assert weight.mean().item() == pytest.approx(0, abs=1e-4)
