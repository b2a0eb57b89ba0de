"""Channel statistics, and those that a weights file keeps of its source."""

import json

import pytest
import torch
from torch import nn

from visionkit.errors import CheckpointError
from visionkit.nn.source_statistics import ChannelStatistics, SourceStatistics, observing_units, source_statistics_of
from visionkit.types import Unit


def test_statistics_of_batches_are_those_of_all_pixels() -> None:
    torch.manual_seed(0)
    maps = torch.randn(7, 3, 4, 5) * 3 + 2
    statistics = ChannelStatistics()
    for part in maps.split([1, 2, 4]):
        statistics.add(part)
    pixels = maps.transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(statistics.mean, pixels.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(statistics.variance, pixels.var(1, correction=0), rtol=1e-5, atol=1e-6)
    assert statistics.count == 7 * 4 * 5


class Two(nn.Module):
    """A backbone of two units, the first of two modules, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True), nn.Flatten())
        self.head = nn.Identity()
        self.units = (
            Unit("backbone.conv", ("backbone.0", "backbone.1")),
            Unit("backbone.flat", ("backbone.2",)),
            Unit("head.all", ("head",)),
        )
        self.backbone[0].weight.data[:] = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        self.backbone[0].bias.data.zero_()


def statistics() -> SourceStatistics:
    model = Two()
    with observing_units(model, model.units) as seen:
        model.head(model.backbone(torch.tensor([-2.0, 2.0, 4.0, 4.0]).view(2, 1, 2, 1)))
    assert not any(module._forward_hooks for module in model.modules())
    return SourceStatistics.of(seen, 2)


def test_it_is_what_the_last_module_of_a_unit_gives_and_maps_alone() -> None:
    found = statistics()
    assert list(found.units) == ["backbone.conv"]  # what is flat has no channels, and the head is none of the backbone
    mean, variance = found.units["backbone.conv"]
    # Behind the ReLU: 0 2 4 4 and 2 0 0 0.
    assert mean.tolist() == [2.5, 0.5]
    assert variance.tolist() == [2.75, 0.75]


def test_they_survive_json() -> None:
    found = SourceStatistics({"backbone.a": (torch.tensor([1 / 3]).double(), torch.tensor([2e-9]).double())}, 5)
    card = {"source_statistics": json.loads(json.dumps(found.to_json()))}
    again = source_statistics_of(card)
    assert again is not None
    assert again.images == 5
    assert again.units["backbone.a"][0].tolist() == [0.3333333]
    assert again.units["backbone.a"][1].tolist() == [2e-9]
    assert source_statistics_of({}) is None


@pytest.mark.parametrize(
    "content",
    [
        3,
        {"images": 1},
        {"images": 1, "units": {"a": {"mean": [1.0]}}},
        {"images": 1, "units": {"a": {"mean": [], "variance": []}}},
        {"images": 1, "units": {"a": {"mean": [float("nan")], "variance": [1.0]}}},
        {"images": "many", "units": {}},
    ],
)
def test_what_cannot_be_read_is_one_clear_error(content: object) -> None:
    with pytest.raises(CheckpointError, match="source statistics cannot be read"):
        SourceStatistics.from_json(content)
