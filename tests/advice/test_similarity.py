"""Distances between channel statistics of images and those that norms remember."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from visionkit.advice.similarity import channel_distance, norms_remember, observing_norms, similarity_of, similarity_to
from visionkit.nn.norms import FrozenBatchNorm2d, Norm, group_norm
from visionkit.nn.source_statistics import SourceStatistics, observing_units
from visionkit.types import Unit


def distance(mean: float, deviation: float, source_mean: float, source_deviation: float) -> float:
    numbers = [torch.tensor([value]) for value in (mean, deviation**2, source_mean, source_deviation**2)]
    return channel_distance(*numbers)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((5, 2, 5, 2), 0),
        ((9, 2, 5, 2), 2),  # 4 apart, in deviations of 2
        ((5, 6, 5, 2), 2),  # three times as wide
        ((11, 10, 5, 2), 5),  # 6 and 8 apart make 10, in deviations of 2
        ((5, 0, 5, 2), 1),  # nothing of it is left
    ],
)
def test_distance_of_one_channel_by_hand(numbers: tuple[float, ...], expected: float) -> None:
    assert distance(*numbers) == pytest.approx(expected, abs=2e-3)  # the deviation of LEAST_VARIANCE is 0.003


def test_the_median_channel_counts_and_a_channel_that_is_off_does_not() -> None:
    mean, source = torch.tensor([1.0, 2, 3, 50, 2]), torch.zeros(5)
    variance, source_variance = torch.ones(5), torch.tensor([1.0, 1, 1, 0, 1])
    # 1, 2, 3, very much and 2.
    assert channel_distance(mean, variance, source, source_variance) == pytest.approx(2, rel=1e-3)


class Net(nn.Module):
    """A backbone of three units, the middle one without a norm that remembers; a head with one."""

    def __init__(self, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Sequential(nn.Identity(), norm(2), nn.Identity(), norm(2)),
            group_norm(2),
            norm(2),
        )
        self.head = nn.BatchNorm2d(2)
        self.units = tuple(Unit(f"backbone.{name}", (f"backbone.{i}",)) for i, name in enumerate("abc"))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.backbone(x))
        return y


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, FrozenBatchNorm2d])
def test_each_unit_has_the_mean_distance_of_its_norms(norm: Norm) -> None:
    model = Net(norm).eval()
    images = torch.full((4, 2, 3, 3), 7.0)
    images[:2] = 5  # mean 6, deviation 1
    with torch.no_grad():
        model.backbone[0][1].running_mean.fill_(4)  # 2 from 6; it gives 2 -+ 1
        model.backbone[0][3].running_mean.fill_(2)  # the same as it is
        with observing_norms(model) as seen:
            for part in images.split(3):
                model(part)
    assert sorted(seen) == ["backbone.0.1", "backbone.0.3", "backbone.2"]
    found = similarity_of(model, model.units, seen, images=4)
    assert found is not None
    assert [(stage.number, stage.unit, stage.norms) for stage in found.stages] == [
        (0, "backbone.a", 2),
        (2, "backbone.c", 1),
    ]
    assert found.stages[0].distance == pytest.approx(1, abs=1e-3)  # of 2 and 0
    assert found.distance == pytest.approx((found.stages[0].distance + found.stages[1].distance) / 2)
    assert found.to_json()["stages"][0]["unit"] == "backbone.a"


def test_looking_leaves_no_hook_and_moves_no_statistic() -> None:
    model = Net().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with observing_norms(model):
        model(torch.randn(2, 2, 3, 3))
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_without_norms_that_remember_nothing_can_be_said() -> None:
    model = Net(group_norm)
    with observing_norms(model) as seen:
        model(torch.randn(2, 2, 3, 3))
    assert seen == {}
    assert similarity_of(model, model.units, seen, images=2) is None


def test_norms_without_running_statistics_remember_nothing() -> None:
    model = Net(partial(nn.BatchNorm2d, track_running_stats=False))
    with observing_norms(model) as seen:
        model(torch.randn(2, 2, 3, 3))
    assert similarity_of(model, model.units, seen, images=2) is None


def test_the_same_images_are_nearer_than_others() -> None:
    torch.manual_seed(0)
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, momentum=None), nn.ReLU())
    own, other = torch.rand(16, 3, 8, 8), torch.rand(16, 3, 8, 8) * 0.2 + 1
    model.backbone.train()(own)
    model.eval()
    distances = []
    for images in (own, other):
        with observing_norms(model) as seen, torch.no_grad():
            model.backbone(images)
        found = similarity_of(model, [Unit("backbone.conv", ("backbone.0", "backbone.1"))], seen, len(images))
        assert found is not None
        distances.append(found.distance)
    # The running variance has a factor n / (n - 1) that ours has not.
    assert distances[0] < 0.01
    assert distances[1] > 1
    assert math.isfinite(distances[1])


def test_what_units_gave_is_remembered_in_place_of_norms() -> None:
    model = Net(group_norm)
    images = torch.zeros(4, 2, 3, 3)
    images[:2] = 2  # mean 1, deviation 1, until a norm takes it
    model.backbone[0] = nn.Identity()
    one = torch.ones(2)
    source = SourceStatistics({"backbone.a": (one * 4, one), "backbone.c": (torch.zeros(3), torch.ones(3))}, 9)
    with observing_units(model, model.units) as seen:
        for part in images.split(3):
            model(part)
    found = similarity_to(source, model.units, seen, images=4)
    assert found is not None
    # 1 instead of 4, in deviations of 1; `b` is not known, `c` had another number of channels.
    assert [(stage.number, stage.unit, stage.norms) for stage in found.stages] == [(0, "backbone.a", 0)]
    assert found.distance == pytest.approx(3, abs=1e-4)
    assert (found.images, found.source_images) == (4, 9)
    assert similarity_to(SourceStatistics({}, 9), model.units, seen, images=4) is None


def test_which_norms_remember() -> None:
    assert norms_remember(Net())
    assert norms_remember(Net(FrozenBatchNorm2d))
    assert not norms_remember(Net(group_norm))  # the head's does, but the backbone is asked
