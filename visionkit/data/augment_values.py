"""Augmentation settings as people write them, names with values on top of a preset, and as they are stored and told.

`mosaic_epochs` is not among the names: a recipe's `mosaic_until` decides it, when the number of epochs is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Final

from visionkit.data.augment import PRESETS, AugmentSettings
from visionkit.errors import ConfigError

DEFAULT_BASE: Final = "heavy"
"""The preset that is changed where none is named: what training does when nothing is said."""

NAMES = tuple(f.name for f in fields(AugmentSettings) if f.name != "mosaic_epochs")


def settings_of(values: Mapping[str, Any]) -> AugmentSettings:
    """The preset that `base` names, with the other values put in place of its own.

    Raises:
        ConfigError: an unknown name, a value that is no number or out of its bounds.

    >>> settings_of({"base": "none", "mixup": 0.1}) == AugmentSettings(mixup=0.1)
    True
    """
    unknown = [name for name in values if name not in ("base", *NAMES)]
    if unknown:
        raise ConfigError(
            f"augment.{unknown[0]} is not a setting of augmentation; the settings are base, {', '.join(NAMES)}"
        )
    base = values.get("base", DEFAULT_BASE)
    if base not in tuple(PRESETS):
        raise ConfigError(f"augment.base must be a preset, got {base!r}; choose one of {', '.join(PRESETS)}")
    given = {name: _number(name, value) for name, value in values.items() if name not in ("base", "mosaic_scale")}
    if "mosaic_scale" in values:
        pair = values["mosaic_scale"]
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ConfigError(f"augment.mosaic_scale must be two numbers, got {pair!r}; for example [0.5, 1.25]")
        given["mosaic_scale"] = tuple(_number("mosaic_scale", value) for value in pair)
    return replace(PRESETS[base], **given)


def _number(name: str, value: Any) -> Any:
    try:
        return float(value)  # also of the text '1e-3', which YAML does not read as a number, and of yes and no
    except (TypeError, ValueError):
        raise ConfigError(f"augment.{name} must be a number, got {value!r}; for example 0.5") from None


def values_of(settings: AugmentSettings) -> dict[str, Any]:
    """All values, in what JSON knows; `settings_of` reads them back, in later versions with more settings too."""
    plain = {name: getattr(settings, name) for name in NAMES}
    return {"base": "none", **plain, "mosaic_scale": list(settings.mosaic_scale)}


def in_words(settings: AugmentSettings) -> str:
    """The preset that is nearest, and what differs from it.

    >>> in_words(settings_of({"base": "light", "mixup": 0.1, "hue": 0}))
    'light with mixup 0.1, hue 0'
    """
    differing = {
        preset: [name for name in NAMES if getattr(settings, name) != getattr(values, name)]
        for preset, values in PRESETS.items()
    }
    nearest = min(differing, key=lambda preset: len(differing[preset]))
    changes = ", ".join(_worded(name, settings) for name in differing[nearest])
    return f"{nearest} with {changes}" if changes else nearest


def all_in_words(settings: AugmentSettings) -> str:
    """Every value that varies something, in the order of the settings; `nothing` where none does.

    >>> all_in_words(PRESETS["none"])
    'nothing'
    """
    idle = ("min_visible",) if settings.mosaic else ("min_visible", "mosaic_scale")
    active = [name for name in NAMES if name not in idle and getattr(settings, name)]
    return ", ".join(_worded(name, settings) for name in active) or "nothing"


def _worded(name: str, settings: AugmentSettings) -> str:
    value = getattr(settings, name)
    return f"{name} {value[0]:g} to {value[1]:g}" if name == "mosaic_scale" else f"{name} {value:g}"
