"""The light backbone: exactly ten units, three levels, everything in its place."""

import pytest
import torch

from visionkit.backbones.csp_light import CspLight
from visionkit.types import Level


def test_the_ten_units_in_order() -> None:
    units = CspLight().units
    assert [unit.name for unit in units] == [
        *("stem", "down1", "stage1", "down2", "stage2", "down3", "stage3", "down4", "stage4", "pool")
    ]
    assert all(unit.modules == (unit.name,) for unit in units)


def test_every_parameter_belongs_to_exactly_one_unit() -> None:
    model = CspLight()
    in_units = [p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()]
    assert len(in_units) == len(set(in_units))
    assert set(in_units) == set(model.parameters())


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 160), (32, 32)])
def test_maps_have_the_published_channels_and_strides(height: int, width: int) -> None:
    model = CspLight()
    assert model.levels == (Level(64, 8), Level(128, 16), Level(192, 32))
    for level, level_map in zip(model.levels, model.eval()(torch.rand(2, 3, height, width)), strict=True):
        assert level_map.shape == (2, level.channels, height // level.stride, width // level.stride)


def test_units_run_in_their_order() -> None:
    model = CspLight()
    called: list[str] = []
    for unit in model.units:
        model.get_submodule(unit.name).register_forward_hook(lambda *_, name=unit.name: called.append(name))
    model(torch.rand(2, 3, 32, 32))
    assert called == [unit.name for unit in model.units]


def test_a_batch_equals_its_images_one_by_one() -> None:
    model = CspLight().eval()
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        for whole, *singles in zip(model(images), *(model(image[None]) for image in images), strict=True):
            torch.testing.assert_close(whole, torch.cat(singles), rtol=1e-4, atol=1e-5)


def test_every_parameter_gets_a_gradient() -> None:
    model = CspLight()
    sum(level_map.square().sum() for level_map in model(torch.rand(2, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_no_image() -> None:
    assert [m.shape for m in CspLight().eval()(torch.zeros(0, 3, 64, 64))] == [
        (0, 64, 8, 8),
        (0, 128, 4, 4),
        (0, 192, 2, 2),
    ]
