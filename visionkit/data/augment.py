"""How training images are varied: the settings, their presets, and where the randomness comes from.

Randomness is keyed: each sample has a generator of its own, made by `keyed_generator` from (seed, epoch, draw), so what
is drawn depends neither on worker count and order nor on where a run stopped.

What the settings do stands in `framing` (flips, crop, affine map), `mosaic`, `copy_paste`, `mixup` and `colour`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from visionkit.errors import ConfigError, UsageError

# Each setting's bounds. The upper bounds keep a picture recognisable and the affine map invertible.
_BOUNDS: dict[str, tuple[float, float]] = {
    "mosaic_epochs": (0, 10**9),
    "degrees": (0, 180),
    "translate": (0, 0.5),
    "scale": (0, 0.9),
    "shear": (0, 45),
    "hue": (0, 0.5),
    "multi_scale": (0, 0.5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSettings:
    """How training images are varied. All zero, the default, changes nothing. Values lie in [0, 1] unless noted.

    Args:
        mosaic: probability that a sample becomes one of four images put together.
        mosaic_scale: smallest and largest scale of a mosaic's tiles, above 0 up to 4; at 1 an image fits the square.
        mosaic_epochs: mosaics and mixtures are made in this many first epochs, 0 or more; training had better end on
            true pictures. Objects are pasted in all epochs.
        mixup: probability that a sample is mixed with a second one, as see-through pictures are.
        copy_paste: probability that objects of a second sample are pasted on.
        flip_left_right: probability.
        flip_up_down: probability. Use it where pictures have no up, as seen through a microscope or from the air.
        transpose: probability of swapping rows and columns; with both flips that makes all eight orientations.
        crop: probability of cutting away some of the surroundings; never cuts an object that is not ignored.
        affine: probability of the affine map that the next four describe.
        degrees: rotation, drawn from [-degrees, degrees]; up to 180. Boxes grow when they turn: use it where objects
            really lie at any angle.
        translate: shift, drawn from [-translate, translate] shares of the square's side; up to 0.5.
        scale: zoom, drawn from [1 - scale, 1 + scale]; up to 0.9.
        shear: degrees, drawn from [-shear, shear] on each axis; up to 45.
        hue: shift, in turns of the colour circle, drawn from [-hue, hue]; up to 0.5.
        saturation, brightness, contrast: factor, drawn from [1 - x, 1 + x].
        grayscale: probability.
        blur: probability of a Gaussian blur, sigma 0.5 to 1.5 pixels.
        noise: probability of Gaussian noise, standard deviation 2 to 6 % of the value range.
        multi_scale: each batch has a size of its own, drawn from the multiples of 32 pixels that lie in
            [1 - multi_scale, 1 + multi_scale] image sizes; up to 0.5.
        min_visible: an object of which a crop, affine map, mosaic or pasted object leaves a smaller share of its area
            is dropped; an ignored region stays while any of it shows.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    mosaic: float = 0.0
    mosaic_scale: tuple[float, float] = (0.5, 1.25)
    mosaic_epochs: int = 1_000_000
    mixup: float = 0.0
    copy_paste: float = 0.0
    flip_left_right: float = 0.0
    flip_up_down: float = 0.0
    transpose: float = 0.0
    crop: float = 0.0
    affine: float = 0.0
    degrees: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    grayscale: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    multi_scale: float = 0.0
    min_visible: float = 0.2

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self) if f.name != "mosaic_scale"):
            low, high = _BOUNDS.get(name, (0, 1))
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"augment.{name} must be from {low} to {high}, got {value}; choose a value between")
        smallest, largest = self.mosaic_scale
        if not 0 < smallest <= largest <= 4:
            raise ConfigError(
                f"augment.mosaic_scale must rise from above 0 to at most 4, got {smallest} to {largest}; "
                "try 0.5 to 1.25"
            )


PRESETS: dict[str, AugmentSettings] = {
    "none": AugmentSettings(),
    "light": AugmentSettings(
        flip_left_right=0.5,
        affine=0.5,
        translate=0.1,
        scale=0.25,
        hue=0.015,
        saturation=0.3,
        brightness=0.2,
        contrast=0.2,
    ),
    "heavy": AugmentSettings(
        mosaic=0.7,
        flip_left_right=0.5,
        crop=0.3,
        affine=0.7,
        translate=0.15,
        scale=0.4,
        hue=0.03,
        saturation=0.6,
        brightness=0.4,
        contrast=0.3,
        grayscale=0.02,
        blur=0.03,
        noise=0.02,
    ),
}


def preset(name: str) -> AugmentSettings:
    """The settings called `name`.

    Raises:
        UsageError: there is none of that name.

    >>> preset("light").flip_left_right
    0.5
    """
    if name not in PRESETS:
        raise UsageError(f"unknown augmentation {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def keyed_generator(*key: int) -> np.random.Generator:
    """A generator that is a function of `key` alone, for instance (seed, epoch, draw); numbers of at least 0.

    SeedSequence mixes the numbers well: neighbouring keys give unrelated streams.
    """
    # The length comes first because SeedSequence pads with zeros: (7, 3) and (7, 3, 0) must differ.
    return np.random.default_rng(np.random.SeedSequence((len(key), *key)))
