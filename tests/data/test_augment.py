from dataclasses import fields

import pytest

from visionkit.data.augment import PRESETS, AugmentSettings, keyed_generator, preset
from visionkit.errors import ConfigError, UsageError


def test_generator_is_a_function_of_its_key():
    draws = {
        key: keyed_generator(*key).random()
        for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0), (0,), (2**40, 3)]
    }
    assert len(set(draws.values())) == len(draws)
    assert all(keyed_generator(*key).random() == value for key, value in draws.items())


# --- settings ---------------------------------------------------------------------------------------------------------


def test_presets():
    assert list(PRESETS) == ["none", "light", "heavy"]
    assert preset("none") == AugmentSettings()
    with pytest.raises(UsageError, match="unknown augmentation 'strong'; choose one of none, light, heavy"):
        preset("strong")


@pytest.mark.parametrize("name", [f.name for f in fields(AugmentSettings) if f.name != "mosaic_scale"])
def test_values_out_of_bounds_are_refused(name):
    with pytest.raises(
        ConfigError, match=rf"augment\.{name} must be from 0 to [\d.]+, got -0\.1; choose a value between"
    ):
        AugmentSettings(**{name: -0.1})
    with pytest.raises(ConfigError, match=rf"augment\.{name} must be from 0"):
        AugmentSettings(**{name: float("nan")})


@pytest.mark.parametrize("scale", [(0, 1), (1, 0.5), (1, 5)])
def test_mosaic_scale_is_checked(scale):
    with pytest.raises(
        ConfigError, match=r"augment\.mosaic_scale must rise from above 0 to at most 4, got .*; try 0\.5 to"
    ):
        AugmentSettings(mosaic_scale=scale)


def test_every_setting_is_documented():
    described = AugmentSettings.__doc__.split("Args:")[1]
    for field in fields(AugmentSettings):
        assert field.name in described


def test_every_bound_belongs_to_a_setting():
    from visionkit.data.augment import _BOUNDS

    assert set(_BOUNDS) <= {f.name for f in fields(AugmentSettings)}
