"""The feature pyramid: its sums by hand, its extra levels, and torchvision's own as the referee."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from visionkit.nn.fpn import Extra, FeaturePyramid
from visionkit.nn.single_map import SingleMap
from visionkit.types import Level

LEVELS = (Level(3, 8), Level(5, 16), Level(6, 32))


def maps(side: int = 12) -> list[torch.Tensor]:
    return [torch.randn(2, level.channels, -(-side // 2**p), -(-side // 2**p)) for p, level in enumerate(LEVELS)]


def test_sums_by_hand() -> None:
    # Identity everywhere: the coarse 2 is added to all four fine pixels 1, 2, 3, 4.
    pyramid = FeaturePyramid((Level(1, 8), Level(1, 16)), 1)
    for block in (*pyramid.inner_blocks, *pyramid.layer_blocks):
        nn.init.dirac_(block[0].weight)
    fine, coarse = torch.tensor([[1.0, 2], [3, 4]])[None, None], torch.tensor([[[[2.0]]]])
    found = pyramid([fine, coarse])
    assert found[0].tolist() == [[[[3, 4], [5, 6]]]]
    assert found[1].tolist() == [[[[2]]]]


@pytest.mark.parametrize(
    ("extra", "strides", "sides"),
    [
        ("none", [8, 16, 32], [12, 6, 3]),
        ("pool", [8, 16, 32, 64], [12, 6, 3, 2]),
        ("convolve-p", [8, 16, 32, 64, 128], [12, 6, 3, 2, 1]),
        ("convolve-c", [8, 16, 32, 64, 128], [12, 6, 3, 2, 1]),
    ],
)
def test_levels(extra: Extra, strides: list[int], sides: list[int]) -> None:
    pyramid = FeaturePyramid(LEVELS, 4, extra=extra)
    assert pyramid.levels == tuple(Level(4, stride) for stride in strides)
    assert [tuple(x.shape) for x in pyramid(maps())] == [(2, 4, side, side) for side in sides]


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    ("extra", "theirs"),
    [
        ("none", None),
        ("pool", LastLevelMaxPool()),
        ("convolve-p", LastLevelP6P7(4, 4)),
        ("convolve-c", LastLevelP6P7(6, 4)),
    ],
)
def test_equals_torchvision(extra: Extra, theirs: nn.Module | None, norm: bool) -> None:
    layer = {"norm_layer": nn.BatchNorm2d} if norm else {}
    referee = FeaturePyramidNetwork([level.channels for level in LEVELS], 4, extra_blocks=theirs, **layer).eval()
    pyramid = FeaturePyramid(LEVELS, 4, extra=extra, **({"norm": nn.BatchNorm2d} if norm else {})).eval()
    pyramid.load_state_dict(referee.state_dict())
    # 11 is odd: the coarse map is stretched to it.
    features = maps(side=11)
    expected = referee(OrderedDict((str(p), x) for p, x in enumerate(features))).values()
    for found, wanted in zip(pyramid(features), expected, strict=True):
        assert torch.equal(found, wanted)


def test_every_level_learns_from_the_finest_map() -> None:
    features = maps()
    for x in features:
        x.requires_grad_()
    FeaturePyramid(LEVELS, 4)(features)[0].sum().backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in features)


def test_half_precision_gradients_of_maps_of_one_pixel() -> None:
    # Memory that torch hands out again, full of what no gradient may hold.
    pyramid = FeaturePyramid((Level(96, 32),), 96, extra="convolve-p")
    leftovers = [torch.full((96 * 96 * 9,), torch.nan, dtype=kind) for kind in (torch.float, torch.bfloat16) * 20]
    del leftovers
    with torch.autocast("cpu", torch.bfloat16):
        maps = pyramid([torch.randn(4, 96, 1, 1)])
    sum(x.float().sum() for x in maps).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pyramid.parameters())


@pytest.mark.parametrize(("stride", "place"), [(16, 1), (20, 1), (64, 2), (8, 0), (4, 0)])
def test_a_single_map_is_the_coarsest_allowed(stride: int, place: int) -> None:
    neck = SingleMap(LEVELS, stride)
    features = maps()
    assert neck.levels == (LEVELS[place],)
    assert neck(features)[0] is features[place]
