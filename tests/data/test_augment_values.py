"""Augmentation settings as people write them: read, refused in words, stored whole, told briefly."""

from dataclasses import replace
from typing import Any

import pytest

from visionkit.data.augment import PRESETS, AugmentSettings
from visionkit.data.augment_values import NAMES, all_in_words, in_words, settings_of, values_of
from visionkit.errors import ConfigError


@pytest.mark.parametrize("base", PRESETS)
def test_a_base_alone_is_the_preset(base: str) -> None:
    assert settings_of({"base": base}) == PRESETS[base]


def test_values_change_the_base_and_without_one_the_default_of_training() -> None:
    changed = settings_of({"base": "light", "mixup": 0.25, "mosaic_scale": [0.75, 1]})
    assert changed == replace(PRESETS["light"], mixup=0.25, mosaic_scale=(0.75, 1.0))
    assert settings_of({"mosaic": 0}) == replace(PRESETS["heavy"], mosaic=0.0)
    assert settings_of({}) == PRESETS["heavy"]


def test_numbers_that_yaml_reads_as_something_else() -> None:
    # PyYAML reads 1e-3 as text, `no` as False, 1 as a whole number.
    settings = settings_of({"base": "light", "hue": "1e-3", "affine": False, "blur": 1})
    assert (settings.hue, settings.affine, settings.blur) == (0.001, 0.0, 1.0)
    assert all(isinstance(value, float) for value in (settings.hue, settings.affine, settings.blur))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            {"mixpu": 1},
            f"augment.mixpu is not a setting of augmentation; the settings are base, {', '.join(NAMES)}",
        ),
        ({"base": "hevy"}, "augment.base must be a preset, got 'hevy'; choose one of none, light, heavy"),
        ({"base": ["light"]}, "augment.base must be a preset, got ['light']; choose one of none, light, heavy"),
        ({"mixup": "often"}, "augment.mixup must be a number, got 'often'; for example 0.5"),
        ({"mixup": None}, "augment.mixup must be a number, got None; for example 0.5"),
        ({"mixup": 1.5}, "augment.mixup must be from 0 to 1, got 1.5; choose a value between"),
        ({"copy_paste": -1}, "augment.copy_paste must be from 0 to 1, got -1.0; choose a value between"),
        ({"multi_scale": 0.6}, "augment.multi_scale must be from 0 to 0.5, got 0.6; choose a value between"),
        ({"mosaic": "nan"}, "augment.mosaic must be from 0 to 1, got nan; choose a value between"),
        ({"mosaic_scale": 1}, "augment.mosaic_scale must be two numbers, got 1; for example [0.5, 1.25]"),
        ({"mosaic_scale": [1, "a"]}, "augment.mosaic_scale must be a number, got 'a'; for example 0.5"),
        (
            {"mosaic_scale": [1, 0.5]},
            "augment.mosaic_scale must rise from above 0 to at most 4, got 1.0 to 0.5; try 0.5 to 1.25",
        ),
    ],
)
def test_what_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings_of(values)
    assert str(error.value) == problem


def test_when_mosaics_end_is_the_recipes_to_say() -> None:
    with pytest.raises(ConfigError, match=r"augment\.mosaic_epochs is not a setting of augmentation"):
        settings_of({"mosaic_epochs": 5})
    assert "mosaic_epochs" not in values_of(PRESETS["heavy"])


@pytest.mark.parametrize("base", PRESETS)
def test_law_stored_values_are_read_back_whatever_the_default_base_is(base: str) -> None:
    settings = replace(PRESETS[base], mixup=1 / 3, mosaic_scale=(0.1, 3.0))
    values = values_of(settings)
    assert values["base"] == "none"  # so that a setting a later version adds is off where these do not name it
    assert values["mosaic_scale"] == [0.1, 3.0]
    assert settings_of(values) == settings


def test_words_name_the_nearest_preset_and_what_differs() -> None:
    assert [in_words(settings) for settings in PRESETS.values()] == ["none", "light", "heavy"]
    assert in_words(settings_of({"mixup": 0.125, "mosaic": 0})) == "heavy with mosaic 0, mixup 0.125"
    assert in_words(AugmentSettings(blur=1)) == "none with blur 1"
    assert in_words(settings_of({"mosaic_scale": [0.25, 1]})) == "heavy with mosaic_scale 0.25 to 1"
    # Where mosaics end is not a matter of strength.
    assert in_words(replace(PRESETS["heavy"], mosaic_epochs=3)) == "heavy"


def test_words_of_all_values_leave_out_what_has_no_effect() -> None:
    assert all_in_words(AugmentSettings()) == "nothing"
    assert all_in_words(AugmentSettings(mixup=0.5, blur=0.1)) == "mixup 0.5, blur 0.1"
    assert all_in_words(AugmentSettings(mosaic=1)) == "mosaic 1, mosaic_scale 0.5 to 1.25"
