"""Augmentation of single images: flips, crop, affine map, colour. Mosaics are made in `visionkit.data.mosaic`.

Randomness is keyed: each sample has a generator of its own, made by `keyed_generator` from (seed, epoch, draw), so what
is drawn depends neither on worker count and order nor on where a run stopped.

Geometry is ours: one warp from the original pixels to the network's, boxes moved by the same matrix. Colour is
albumentations': its bbox-safe crop raises on boxes below a pixel, and its transforms in a row resample once for each.
"""

from __future__ import annotations

import os
import random
import warnings
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.errors import ConfigError, UsageError
from visionkit.imaging.letterbox import PADDING_GREY, Frame, letterbox
from visionkit.types import Sample

MIN_SIDE = 2.0
"""Network pixels: an object that augmentation leaves narrower or lower is dropped; nothing can be learnt from it."""

MIN_CROP = 0.3
"""A crop keeps at least this share of width and of height: a lone small object is not blown up to fill the frame."""

# Each setting's bounds. The upper bounds keep a picture recognisable and the affine map invertible.
_BOUNDS: dict[str, tuple[float, float]] = {
    "mosaic_epochs": (0, 10**9),
    "degrees": (0, 180),
    "translate": (0, 0.5),
    "scale": (0, 0.9),
    "shear": (0, 45),
    "hue": (0, 0.5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSettings:
    """How training images are varied. All zero, the default, changes nothing. Values lie in [0, 1] unless noted.

    Args:
        mosaic: probability that a sample becomes one of four images put together.
        mosaic_scale: smallest and largest scale of a mosaic's tiles, above 0 up to 4; at 1 an image fits the square.
        mosaic_epochs: mosaics are made in this many first epochs, 0 or more; training had better end on true pictures.
        flip_left_right: probability.
        flip_up_down: probability.
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
        min_visible: an object of which a crop, affine map or mosaic leaves a smaller share of its area is dropped.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    mosaic: float = 0.0
    mosaic_scale: tuple[float, float] = (0.5, 1.25)
    mosaic_epochs: int = 1_000_000
    flip_left_right: float = 0.0
    flip_up_down: float = 0.0
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


def augment(
    sample: Sample, size: int, settings: AugmentSettings, generator: np.random.Generator
) -> tuple[Sample, Frame]:
    """Vary one image and bring it into the network's square.

    Args:
        sample: in original pixels.
        size: side of the square in pixels.
        generator: the sample's own, from `keyed_generator`.

    Returns:
        The sample with an image u8 [size, size, 3], boxes inside it, and the frame that leads back to the picture as
        it was after flips and crop (or, where the affine map was drawn, to the square itself).
    """
    sample = random_crop(random_flip(sample, settings, generator), settings, generator)
    if generator.random() < settings.affine:
        sample = random_affine(sample, size, settings, generator)
        frame = square_frame(size)
    else:
        sample, frame = letterboxed(sample, size)
    return random_colour(sample, settings, generator), frame


def letterboxed(sample: Sample, size: int) -> tuple[Sample, Frame]:
    """The sample in the network's square, undistorted and otherwise unchanged; and the way back."""
    image, frame = letterbox(sample.image, size)
    return replace(sample, image=image, boxes=frame.to_frame(sample.boxes)), frame


def square_frame(size: int) -> Frame:
    """The frame of an image that was composed in the square: there is no original to go back to."""
    return Frame(size, size, 1.0, 1.0, 0, 0)


def random_flip(sample: Sample, settings: AugmentSettings, generator: np.random.Generator) -> Sample:
    """Mirror left-right, up-down, both or neither, each by its own probability."""
    left_right, up_down = generator.random(2) < (settings.flip_left_right, settings.flip_up_down)
    height, width = sample.image.shape[:2]
    image, boxes = sample.image, sample.boxes
    if left_right:
        image = cv2.flip(image, 1)  # type: ignore[assignment]
        boxes = np.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), axis=1)
    if up_down:
        image = cv2.flip(image, 0)  # type: ignore[assignment]
        boxes = np.stack((boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]), axis=1)
    return replace(sample, image=image, boxes=boxes)


def random_crop(sample: Sample, settings: AugmentSettings, generator: np.random.Generator) -> Sample:
    """With probability `settings.crop`, cut the image at random to a window around all objects that are not ignored."""
    if generator.random() >= settings.crop:
        return sample
    height, width = sample.image.shape[:2]
    wanted = sample.boxes[~sample.ignore]
    left, right = _random_span(wanted[:, [0, 2]], width, generator)
    top, bottom = _random_span(wanted[:, [1, 3]], height, generator)
    cropped = replace(
        sample,
        image=np.ascontiguousarray(sample.image[top:bottom, left:right]),
        boxes=sample.boxes - np.array([left, top, left, top], np.float32),
    )
    return with_visible_objects(cropped, settings.min_visible, min_side=0)


def _random_span(spans: NDArray[np.float32], length: int, generator: np.random.Generator) -> tuple[int, int]:
    """Start and stop of a random window in [0, length] that holds every span [N, 2] and `MIN_CROP` of the length."""
    shortest = max(1, round(length * MIN_CROP))
    if len(spans):
        latest_start = int(np.clip(np.floor(spans.min()), 0, length - shortest))
        earliest_stop = int(np.clip(np.ceil(spans.max()), 0, length))
    else:
        latest_start, earliest_stop = length - shortest, 0
    start = int(generator.integers(latest_start + 1))
    stop = int(generator.integers(max(earliest_stop, start + shortest), length + 1))
    return start, stop


def random_affine(sample: Sample, size: int, settings: AugmentSettings, generator: np.random.Generator) -> Sample:
    """Rotate, shear, zoom and shift about the centre, straight into the network's square. Boxes become the boxes
    around their turned corners, clipped to the square."""
    angle, shear_x, shear_y = np.radians(
        generator.uniform(-1, 1, 3) * (settings.degrees, settings.shear, settings.shear)
    )
    zoom = 1 + generator.uniform(-settings.scale, settings.scale)
    shift = generator.uniform(-settings.translate, settings.translate, 2) * size

    height, width = sample.image.shape[:2]
    scale = min(size / width, size / height) * zoom
    cosine, sine = np.cos(angle), np.sin(angle)
    rotate = np.array([[cosine, -sine], [sine, cosine]])
    shear = np.array([[1, np.tan(shear_x)], [np.tan(shear_y), 1]])
    linear = scale * rotate @ shear
    matrix = np.column_stack((linear, size / 2 + shift - linear @ (width / 2, height / 2)))

    warped = replace(sample, image=_warp(sample.image, matrix, scale, size), boxes=_warp_boxes(sample.boxes, matrix))
    return with_visible_objects(warped, settings.min_visible)


def _warp(image: NDArray[np.uint8], matrix: NDArray[np.float64], scale: float, size: int) -> NDArray[np.uint8]:
    """`image` under the map `matrix` [2, 3] of pixel coordinates, u8 [size, size, 3], grey outside.

    Coordinates are continuous: pixel i covers [i, i + 1).
    """
    image, factor = shrink(image, scale)
    linear, offset = matrix[:, :2] * factor, matrix[:, 2]
    # OpenCV counts from pixel centres: its coordinate is ours minus a half, on both sides of the map.
    centres = np.column_stack((linear, offset + linear @ (0.5, 0.5) - 0.5))
    grey = (PADDING_GREY, PADDING_GREY, PADDING_GREY)
    return cv2.warpAffine(image, centres, (size, size), borderValue=grey)  # type: ignore[return-value]


def shrink(image: NDArray[np.uint8], scale: float) -> tuple[NDArray[np.uint8], int]:
    """Average an image down by the largest whole factor that leaves it no smaller than `scale` asks for.

    What remains to be scaled is less than a factor of 2, which linear interpolation does without aliasing; averaging
    by a fraction of a pixel, as INTER_AREA would in one step, takes ten times as long. Right and bottom pixels that
    fill no block are left out, so a coordinate is exactly `factor` times smaller afterwards.

    Returns:
        The image, and the factor (1: the image itself).
    """
    height, width = image.shape[:2]
    factor = min(int(1 / scale), width, height)
    if factor < 2:
        return image, 1
    new_w, new_h = width // factor, height // factor
    whole = image[: new_h * factor, : new_w * factor]
    return cv2.resize(whole, (new_w, new_h), interpolation=cv2.INTER_AREA), factor  # type: ignore[return-value]


def _warp_boxes(boxes: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """[N, 4] -> [N, 4]: the upright boxes around the mapped corners."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).astype(np.float64)
    corners = corners @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1).astype(np.float32)


def with_visible_objects(sample: Sample, min_visible: float, min_side: float = MIN_SIDE) -> Sample:
    """Clip boxes to the image; drop objects of which less than a share `min_visible` of the area is left, those
    narrower or lower than `min_side` pixels, and empty ones."""
    height, width = sample.image.shape[:2]
    clipped = np.clip(sample.boxes, 0, np.array([width, height, width, height], np.float32))
    sides, full_sides = clipped[:, 2:] - clipped[:, :2], sample.boxes[:, 2:] - sample.boxes[:, :2]
    keep = (
        (sides > 0).all(axis=1)
        & (sides >= min_side).all(axis=1)
        & (sides.prod(axis=1) >= min_visible * full_sides.prod(axis=1))
    )
    return replace(sample, boxes=clipped).with_objects(keep)


def random_colour(sample: Sample, settings: AugmentSettings, generator: np.random.Generator) -> Sample:
    """Vary colour and sharpness; boxes stay."""
    pipeline = _colour_pipeline(settings)
    if pipeline is None:
        return sample
    # Not set_random_seed: that gives each transform the same seed, and so ties their draws together.
    pipeline.set_random_state(generator, random.Random(int(generator.integers(2**63))))
    return replace(sample, image=pipeline(image=sample.image)["image"])


@lru_cache(maxsize=8)
def _colour_pipeline(settings: AugmentSettings) -> Any:
    """albumentations' Compose of the settings' colour transforms, or None where there are none."""
    jitter = (settings.hue, settings.saturation, settings.brightness, settings.contrast)
    if not any((*jitter, settings.grayscale, settings.blur, settings.noise)):
        return None
    # Its import asks the network for a newer version unless told not to; and takes a second, so it waits until here.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as A  # noqa: PLC0415

    def around_one(spread: float) -> tuple[float, float]:
        return (1 - spread, 1 + spread)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a misspelt argument only warns
        transforms = [
            A.ColorJitter(
                brightness=around_one(settings.brightness),
                contrast=around_one(settings.contrast),
                saturation=around_one(settings.saturation),
                hue=(-settings.hue, settings.hue),
                p=float(any(jitter)),
            ),
            A.ToGray(p=settings.grayscale),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.5, 1.5), p=settings.blur),
            A.GaussNoise(std_range=(0.02, 0.06), p=settings.noise),
        ]
        return A.Compose([t for t in transforms if t.p > 0])
