"""Where torchvision has the network, ours is the same, number by number, so its checkpoints mean the same here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from visionkit.backbones import vgg
from visionkit.backbones.alexnet import alexnet
from visionkit.backbones.checkpoints import without_classifier
from visionkit.backbones.convnext import convnext_tiny
from visionkit.backbones.efficientnet import efficientnet_b0
from visionkit.backbones.googlenet import AUXILIARY, GoogLeNet
from visionkit.backbones.mobilenetv3 import mobilenetv3_large, mobilenetv3_small
from visionkit.backbones.resnet import resnet101, resnet152


@dataclass(frozen=True)
class Pair:
    """Our network and torchvision's, with the names of torchvision's modules that end the strides 8, 16 and 32."""

    ours: Callable[[], nn.Module]
    peer: str
    ends: tuple[str, ...]
    parameters: int  # torchvision's documented number less its classifiers', in brackets below


def of_vgg(depth: str, ends: Sequence[int], parameters: int) -> Pair:
    return Pair(getattr(vgg, f"vgg{depth}"), f"vgg{depth}", tuple(f"features.{end}" for end in ends), parameters)


# VGG's classifier: 25088 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000 = 123,642,856.
LAYERS = ("layer2", "layer3", "layer4")
PAIRS = [
    # 9216 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000 = 58,631,144
    Pair(partial(alexnet, whole_cells=False), "alexnet", ("features.4", "features.11", "features.12"), 2_469_696),
    of_vgg("11", (14, 19, 20), 132_863_336 - 123_642_856),
    of_vgg("13", (18, 23, 24), 133_047_848 - 123_642_856),
    of_vgg("16", (22, 29, 30), 138_357_544 - 123_642_856),
    of_vgg("19", (26, 35, 36), 143_667_240 - 123_642_856),
    of_vgg("11_bn", (20, 27, 28), 132_868_840 - 123_642_856),
    of_vgg("13_bn", (26, 33, 34), 133_053_736 - 123_642_856),
    of_vgg("16_bn", (32, 42, 43), 138_365_992 - 123_642_856),
    of_vgg("19_bn", (38, 51, 52), 143_678_248 - 123_642_856),
    # 1024 * 1000 + 1000 = 1,025,000
    Pair(GoogLeNet, "googlenet", ("inception3b", "inception4e", "inception5b"), 6_624_904 - 1_025_000),
    # 2048 * 1000 + 1000 = 2,049,000
    Pair(resnet101, "resnet101", LAYERS, 44_549_160 - 2_049_000),
    Pair(resnet152, "resnet152", LAYERS, 60_192_808 - 2_049_000),
    # 576 * 1024 + 1024 + 1024 * 1000 + 1000 = 1,615,848; 960 * 1280 + 1280 + 1280 * 1000 + 1000 = 2,511,080
    Pair(mobilenetv3_small, "mobilenet_v3_small", ("features.3", "features.8", "features.12"), 2_542_856 - 1_615_848),
    Pair(mobilenetv3_large, "mobilenet_v3_large", ("features.6", "features.12", "features.16"), 5_483_032 - 2_511_080),
    # 1280 * 1000 + 1000 = 1,281,000
    Pair(efficientnet_b0, "efficientnet_b0", ("features.3", "features.5", "features.8"), 5_288_548 - 1_281_000),
    # a norm of 768 and 768 * 1000 + 1000: 1,536 + 769,000 = 770,536
    Pair(convnext_tiny, "convnext_tiny", ("features.3", "features.5", "features.7"), 28_589_128 - 770_536),
]


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: pair.peer)
def pair(request: pytest.FixtureRequest) -> Pair:
    given: Pair = request.param
    return given


@pytest.fixture(scope="module")
def peer(pair: Pair) -> nn.Module:
    return torchvision_network(pair.peer)


def torchvision_network(name: str) -> nn.Module:
    """Randomly initialised, with statistics, scales and shifts that do something."""
    torch.manual_seed(0)
    options = {"transform_input": True, "init_weights": False} if name == "googlenet" else {}
    with pytest.MonkeyPatch.context() as patch:
        if name.startswith(("vgg", "alexnet")):  # a hundred million weights that nobody asks for
            patch.setattr(nn.Linear, "reset_parameters", lambda linear: None)
            patch.setattr(nn.init, "normal_", lambda tensor, *_: tensor)
        network: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if key.endswith("layer_scale"):
                nn.init.uniform_(parameter, 0.5, 1.5)
            elif parameter.ndim == 1:
                # Scales of norms; whatever other vectors there are shift.
                around = 1 if parameter.min() == parameter.max() == 1 else 0
                nn.init.uniform_(parameter, around - 0.3, around + 0.3)
    return network.eval()


@torch.no_grad()
def maps_of(network: nn.Module, ends: Sequence[str], images: Tensor) -> list[Tensor]:
    maps: list[Tensor] = []
    handles = [
        network.get_submodule(end).register_forward_hook(lambda *args: maps.append(args[-1].clone())) for end in ends
    ]
    # Without the classifier where it stands apart, which may want larger images.
    getattr(network, "features", network)(images)
    for handle in handles:
        handle.remove()
    return maps


@pytest.mark.parametrize("size", [(64, 64), (97, 70)])
def test_every_level_equals_torchvisions(pair: Pair, peer: nn.Module, size: tuple[int, int]) -> None:
    ours = pair.ours().eval()
    ours.load_state_dict(without_classifier(peer.state_dict()))
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        maps = ours(images)
    expected = maps_of(peer, pair.ends, images)
    assert len(maps) == len(expected) == len(ours.levels) == 3
    for level, ours_map, peer_map in zip(ours.levels, maps, expected, strict=True):
        assert ours_map.shape == peer_map.shape
        assert ours_map.shape[1] == level.channels
        assert peer_map.std() > 0.01  # or there would be nothing to compare
        torch.testing.assert_close(ours_map, peer_map, rtol=0, atol=1e-5 * max(1, peer_map.abs().max().item()))


def test_names_are_torchvisions_without_the_classifiers(pair: Pair, peer: nn.Module) -> None:
    theirs = peer.state_dict()
    kept = without_classifier(theirs)
    assert sorted(pair.ours().state_dict()) == sorted(kept)
    unused = {name.split(".")[0] for name in set(theirs) - set(kept)}
    assert unused == {"googlenet": {"fc", "aux1", "aux2"}, "resnet101": {"fc"}, "resnet152": {"fc"}}.get(
        pair.peer, {"classifier"}
    )


def test_as_many_parameters_as_torchvision_documents(pair: Pair) -> None:
    assert sum(p.numel() for p in pair.ours().parameters()) == pair.parameters


def test_norms_learn_their_statistics_as_torchvisions_do(pair: Pair, peer: nn.Module) -> None:
    def settings(network: nn.Module) -> dict[str, tuple[float, float | None]]:
        norms = {n: m for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d) and not n.startswith("aux")}
        return {name: (norm.eps, norm.momentum) for name, norm in norms.items()}

    mine, theirs = settings(pair.ours()), settings(peer)
    if pair.peer.startswith("mobilenet_v3"):  # whose decay of 0.99 is too slow for short runs
        theirs = {name: (eps, 0.1) for name, (eps, _) in theirs.items()}
    assert mine == theirs


def test_stochastic_depth_drops_what_torchvision_drops() -> None:
    for ours, name in ((efficientnet_b0, "efficientnet_b0"), (convnext_tiny, "convnext_tiny")):
        network = torchvision.models.get_model(name, weights=None)
        theirs = {n: m.p for n, m in network.named_modules() if isinstance(m, torchvision.ops.StochasticDepth)}
        mine = {n: m.drop for n, m in ours().named_modules() if n.endswith("stochastic_depth")}
        # Ours has 0 where torchvision has a rate that it never uses, in blocks that do not add their input.
        used = {n for n in theirs if getattr(network.get_submodule(n.rpartition(".")[0]), "use_res_connect", True)}
        assert mine == {n: pytest.approx(p if n in used else 0.0) for n, p in theirs.items()}
        assert max(mine.values()) > 0.09


def test_alexnet_in_whole_cells_is_the_same_network_padded_more() -> None:
    peer = torchvision_network("alexnet")
    ours = alexnet().eval()
    ours.load_state_dict(without_classifier(peer.state_dict()))
    images = torch.randn(1, 3, 70, 97)
    x = F.pad(images, (3, 3, 3, 3))  # 2 + 3 = 5
    expected = []
    with torch.no_grad():
        for layer in peer.features:
            if isinstance(layer, nn.MaxPool2d):
                expected.append(x)
                x = F.pad(x, (1, 1, 1, 1))  # what comes out of a ReLU is never below the 0 of the padding
            x = layer(x)
        maps = ours(images)
    for level, ours_map, peer_map in zip(ours.levels, maps, (*expected[1:], x), strict=True):
        # ceil(70 / 8) = 9, 5, 3 high; ceil(97 / 8) = 13, 7, 4 wide
        assert ours_map.shape[-2:] == (-(-70 // level.stride), -(-97 // level.stride))
        torch.testing.assert_close(ours_map, peer_map, rtol=1e-5, atol=1e-5)


def test_googlenets_auxiliary_places_have_the_channels_that_torchvisions_heads_read() -> None:
    peer = torchvision.models.get_model("googlenet", weights=None, init_weights=False)
    network = GoogLeNet().eval()
    read = {}
    for name in AUXILIARY:
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: read.update({name: output.shape[1]})
        )
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert read == AUXILIARY
    assert list(AUXILIARY.values()) == [peer.aux1.conv.conv.in_channels, peer.aux2.conv.conv.in_channels]


def test_googlenet_as_in_the_paper_has_5x5_convolutions() -> None:
    # Table 1: 16 -> 32 channels in 3a. 5 * 5 in place of 3 * 3 adds 16 weights a pair of channels.
    third = GoogLeNet(largest=5).get_submodule("inception3a.branch3.1.conv")
    assert third.weight.shape == (32, 16, 5, 5)
    maps = GoogLeNet(largest=5).eval()(torch.zeros(1, 3, 64, 64))
    assert [tuple(m.shape) for m in maps] == [(1, 480, 8, 8), (1, 832, 4, 4), (1, 1024, 2, 2)]
