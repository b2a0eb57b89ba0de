"""Variation of colour and sharpness: hue, saturation, brightness and contrast as one matrix, blur and noise.

Source: Haeberli, "Matrix Operations for Image Processing", 1993: changes of colour that are affine maps of (r, g, b)
compose by matrix product, so a picture is gone through once however many there are, and nothing is cut off in between.
"""

from __future__ import annotations

import math
import os
import random
import warnings
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.data.augment import AugmentSettings
from visionkit.imaging.letterbox import PADDING_GREY
from visionkit.types import Sample

_LUMA_ROWS = np.array([(0.299, 0.587, 0.114)] * 3)
"""To the grey of the same luma, by ITU-R BT.601's weights for values as they are stored."""

_MID_GREY = PADDING_GREY
"""Contrast turns about this value, near the mean of ImageNet's pixels (0.449 of 255), and so keeps the padding."""


def random_colour(
    sample: Sample, settings: AugmentSettings, generator: np.random.Generator, out: NDArray[np.uint8] | None = None
) -> Sample:
    """Vary colour and sharpness; boxes stay.

    Args:
        out: u8 [H, W, 3] to draw on, also the sample's own image; None leaves that as it is, and makes a new one if
            there is something to change.
    """
    image = sample.image
    matrix = random_colour_matrix(settings, generator)
    if matrix is not None:
        image = cv2.transform(image, matrix, dst=out)  # type: ignore[assignment]
    if settings.blur and generator.random() < settings.blur:
        image = _varied("blur", image, generator)
    if settings.noise and generator.random() < settings.noise:
        image = _varied("noise", image, generator)
    if out is not None and image is not out:
        out[:] = image
        image = out
    return sample.redrawn(image, sample.boxes)


def random_colour_matrix(settings: AugmentSettings, generator: np.random.Generator) -> NDArray[np.float64] | None:
    """A colour matrix drawn within the settings' bounds, or None where they leave colours alone."""
    is_grey = bool(settings.grayscale) and generator.random() < settings.grayscale
    if not (is_grey or settings.hue or settings.saturation or settings.brightness or settings.contrast):
        return None
    hue, saturation, brightness, contrast = generator.uniform(-1, 1, 4).tolist()
    return colour_matrix(
        hue=hue * settings.hue,
        saturation=0.0 if is_grey else 1 + saturation * settings.saturation,
        brightness=1 + brightness * settings.brightness,
        contrast=1 + contrast * settings.contrast,
    )


def colour_matrix(
    hue: float = 0.0, saturation: float = 1.0, brightness: float = 1.0, contrast: float = 1.0
) -> NDArray[np.float64]:
    """The affine map f64 [3, 4] of (r, g, b) in 0..255 that turns hue, then scales saturation, brightness, contrast.

    Args:
        hue: in turns of the colour circle: colours turn about the axis of greys, which keeps r + g + b.
        saturation: factor of the distance from the grey of the same luma; 0 gives that grey.
        brightness: factor of everything.
        contrast: factor of the distance from the grey of the padding.

    >>> colour_matrix(brightness=0.5).tolist()
    [[0.5, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.0]]
    """
    # Rodrigues' rotation about (1, 1, 1) / sqrt(3): a * I + b * ones + c * cross product. Its rows add up to 1.
    cosine, sine = math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue)
    on, after, before = cosine + (1 - cosine) / 3, (1 - cosine) / 3 - sine / 3**0.5, (1 - cosine) / 3 + sine / 3**0.5
    turn = np.array([[on, after, before], [before, on, after], [after, before, on]])
    matrix = np.full((3, 4), (1 - contrast) * _MID_GREY)
    matrix[:, :3] = brightness * contrast * (saturation * turn + (1 - saturation) * _LUMA_ROWS @ turn)
    return matrix


def _varied(kind: Literal["blur", "noise"], image: NDArray[np.uint8], generator: np.random.Generator) -> Any:
    transform = _transform(kind)
    # Not set_random_seed: that gives each transform the same seed, and so ties their draws together.
    transform.set_random_state(generator, random.Random(int(generator.integers(2**63))))
    return transform(image=image)["image"]


@lru_cache
def _transform(kind: Literal["blur", "noise"]) -> Any:
    """albumentations' transform, always applied."""
    # Its import asks the network for a newer version unless told not to; and takes seconds, so it waits until here.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as A  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a misspelt argument only warns
        if kind == "blur":
            return A.Compose([A.GaussianBlur(blur_limit=0, sigma_limit=(0.5, 1.5), p=1)])
        return A.Compose([A.GaussNoise(std_range=(0.02, 0.06), p=1)])
