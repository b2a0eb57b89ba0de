"""Networks of timm's: what the wrapper makes of them, tried with a stand-in, and with timm itself where it is there."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visionkit.backbones.timm_features import TimmFeatures
from visionkit.build import build_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.errors import UsageError
from visionkit.nn.normalize import Normalize
from visionkit.types import Level, Unit


class StandIn(nn.ModuleDict):
    """A `features_only` network: five halvings, and a sixth layer that stays at the last stride."""

    def __init__(self, strides: tuple[int, ...] = (2, 4, 8, 16, 32, 32)) -> None:
        super().__init__()
        self.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        self.feature_info = SimpleNamespace(
            reduction=lambda: list(strides), channels=lambda: [4 * i for i in range(1, len(strides) + 1)]
        )
        before, channels = 1, 3
        for i, stride in enumerate(strides, start=1):
            self[f"stage{i}"] = nn.Conv2d(channels, 4 * i, 3, stride // before, padding=1)
            before, channels = stride, 4 * i

    def forward(self, x: Tensor) -> list[Tensor]:
        self.seen = x
        maps = []
        for layer in self.values():
            x = layer(x)
            maps.append(x)
        return maps


def stand_in_for_timm(monkeypatch: pytest.MonkeyPatch, make: Any) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = []

    def create_model(name: str, **options: Any) -> nn.Module:
        asked.append({"name": name, **options})
        return make()

    timm = ModuleType("timm")
    timm.is_model = lambda name: name == "tiny_net"
    timm.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", timm)
    return asked


def test_levels_units_and_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in_for_timm(monkeypatch, StandIn)
    network = TimmFeatures("tiny_net")
    # Never weights from the network: that would be a download.
    assert asked == [{"name": "tiny_net", "pretrained": False, "features_only": True}]
    assert network.levels == (Level(12, 8), Level(16, 16), Level(24, 32))  # of two maps at stride 32 the last
    assert network.units == tuple(Unit(f"stage{i}", (f"network.stage{i}",)) for i in range(1, 7))
    maps = network(torch.zeros(2, 3, 64, 32))
    assert [tuple(m.shape) for m in maps] == [(2, 12, 8, 4), (2, 16, 4, 2), (2, 24, 2, 1)]


def test_images_come_as_its_weights_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_timm(monkeypatch, StandIn)
    network = TimmFeatures("tiny_net")
    network(Normalize()(torch.full((1, 3, 32, 32), 255.0)))
    # White is 1; (1 - 0.5) / 0.5 = 1.
    torch.testing.assert_close(network.network.seen, torch.ones(1, 3, 32, 32))


def test_a_recipe_builds_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_timm(monkeypatch, StandIn)
    model = build_model(Recipe(backbone="timm/tiny_net"), ClassTable((1, 2), ("a", "b")))
    assert model.units[0] == Unit("backbone.stage1", ("backbone.network.stage1",))
    assert model.eval()(torch.zeros(1, 3, 64, 64)).class_logits.shape == (1, 84, 2)  # 64 + 16 + 4 cells


class ChannelsLast(StandIn):
    """Says its maps with the channels behind, as timm's Swin transformers do."""

    output_fmt = "NHWC"

    def forward(self, x: Tensor) -> list[Tensor]:
        return [level_map.movedim(1, -1) for level_map in super().forward(x)]


def test_maps_whose_channels_are_last_come_in_the_usual_order(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_timm(monkeypatch, ChannelsLast)
    maps = TimmFeatures("tiny_net")(torch.zeros(2, 3, 64, 32))
    assert [tuple(m.shape) for m in maps] == [(2, 12, 8, 4), (2, 16, 4, 2), (2, 24, 2, 1)]


class OfOneSize(StandIn):
    """Takes images of the size it was made for, as timm's transformers do."""

    def __init__(self, size: tuple[int, ...] = (3, 64, 64)) -> None:
        super().__init__()
        self.pretrained_cfg["input_size"] = size

    def forward(self, x: Tensor) -> list[Tensor]:
        if x.shape[-2:] != (64, 64):  # no assert, to whose words pytest would add its own
            raise AssertionError(f"Input height ({x.shape[-2]}) doesn't match model (64).")
        return super().forward(x)


def test_a_network_for_one_size_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_timm(monkeypatch, OfOneSize)
    network = TimmFeatures("tiny_net")
    assert len(network(torch.zeros(1, 3, 64, 64))) == 3
    with pytest.raises(UsageError) as error:
        network(torch.zeros(1, 3, 96, 32))
    assert str(error.value) == (
        "timm/tiny_net takes images of 64x64 pixels alone, got 96x32; use --imgsz 64 --set grow_from=1, or a "
        "convolutional network of timm's"
    )
    stand_in_for_timm(monkeypatch, lambda: OfOneSize(()))
    with pytest.raises(UsageError) as error:
        TimmFeatures("tiny_net")(torch.zeros(1, 3, 32, 32))
    assert str(error.value) == (
        "timm/tiny_net does not take images of 32x32 (Input height (32) doesn't match model (64).); use another"
    )


def fails() -> nn.Module:
    raise RuntimeError("features_only not implemented for Vision Transformer models.")


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("tiny_nut", StandIn, "timm has no network 'tiny_nut'; timm.list_models('tiny*') shows those that begin alike"),
        (
            "tiny_net",
            fails,
            "timm/tiny_net cannot return feature maps (features_only not implemented for Vision Transformer models.); "
            "use a convolutional network of timm's",
        ),
        (
            "tiny_net",
            lambda: StandIn((2, 4)),
            "timm/tiny_net has maps of stride 2, 4, but none of 8, 16 or 32; use another",
        ),
    ],
)
def test_what_timm_cannot_give(monkeypatch: pytest.MonkeyPatch, name: str, make: Any, words: str) -> None:
    stand_in_for_timm(monkeypatch, make)
    with pytest.raises(UsageError) as error:
        TimmFeatures(name)
    assert str(error.value) == words


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError) as error:
        build_model(Recipe(backbone="timm/resnet10t"), ClassTable((1,), ("a",)))
    assert str(error.value) == (
        "backbone timm/resnet10t needs the package timm, which is not installed; "
        "install it by: pip install 'visionkit[timm]'"
    )


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "convnext_atto", "hrnet_w18_small"])
def test_timm_itself(name: str) -> None:
    pytest.importorskip("timm")
    network = TimmFeatures(name).eval()
    assert [level.stride for level in network.levels] == [8, 16, 32]
    parameters = [p for u in network.units for m in u.modules for p in network.get_submodule(m).parameters()]
    assert len(parameters) == len(set(parameters)) == len(list(network.parameters()))
    with torch.no_grad():
        for level, level_map in zip(network.levels, network(torch.zeros(1, 3, 64, 96)), strict=True):
            assert level_map.shape == (1, level.channels, 64 // level.stride, 96 // level.stride)
