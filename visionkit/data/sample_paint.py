"""What the sample's pictures are painted with: textured shapes, cluttered grounds, a camera that is not perfect."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

TEXTURES = ("stripes", "dots", "checker")

Floats = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Sprite:
    """A shape ready to be laid into a scene: alpha f32 [h, w] in [0, 1], colour f32 [h, w, 3] RGB, drop shadow 0..1."""

    alpha: Floats
    colour: Floats
    shadow: float


def _polar(angles: NDArray[Any], radii: Any) -> NDArray[np.float64]:
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _circle(radius: float) -> NDArray[np.float64]:
    return _polar(np.linspace(0, 2 * np.pi, 48, endpoint=False), radius)


def _spokes(radii: list[float]) -> NDArray[np.float64]:
    """The closed outline with corners at these radii, evenly spaced in angle."""
    return _polar(2 * np.pi * np.arange(len(radii)) / len(radii), np.array(radii))


def _crescent() -> NDArray[np.float64]:
    """The unit disc less a smaller one whose circle cuts it at 45 degrees: outer arc there, inner arc back."""
    tip, inner_centre = math.sqrt(0.5), 0.62
    start = math.atan2(tip, tip - inner_centre)
    outer = _polar(np.linspace(np.pi / 4, 7 / 4 * np.pi, 40), 1)
    inner = _polar(np.linspace(2 * np.pi - start, start, 30), math.hypot(tip, tip - inner_centre))
    return np.concatenate([outer, inner + np.array([inner_centre, 0])])


def _blob(rng: Rng) -> NDArray[np.float64]:
    """A smooth potato: a circle with a few random harmonics."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radii = np.ones_like(angles)
    for harmonic in (2, 3, 4, 5):
        radii += rng.uniform(0, 0.45 / harmonic) * np.cos(harmonic * angles + rng.uniform(0, 2 * np.pi))
    return _polar(angles, radii / radii.max())


def _cross() -> NDArray[np.float64]:
    corner = np.array([(-0.34, -0.94), (0.34, -0.94), (0.34, -0.34)])
    return np.concatenate([corner @ _turn(quarter * np.pi / 2).T for quarter in range(4)])


def _bar() -> NDArray[np.float64]:
    return np.array([(-1, -0.13), (1, -0.13), (1, 0.13), (-1, 0.13)])


# Outlines [points, 2] of radius about 1 around the origin, filled by the even-odd rule: a second one is a hole.
_OUTLINES: Mapping[str, Callable[[Rng], list[NDArray[np.float64]]]] = {
    "disc": lambda rng: [_circle(1)],
    "ring": lambda rng: [_circle(1), _circle(0.5)],
    "triangle": lambda rng: [_spokes([1] * 3)],
    "square": lambda rng: [_spokes([1] * 4)],
    "star": lambda rng: [_spokes([1, 0.45] * 5)],
    "cross": lambda rng: [_cross()],
    "crescent": lambda rng: [_crescent()],
    "bar": lambda rng: [_bar()],
    "blob": lambda rng: [_blob(rng)],
}


def _turn(angle: float) -> NDArray[np.float64]:
    """The 2x2 rotation matrix of an angle in radians."""
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def draw_sprite(rng: Rng, shape: str, texture: str, diameter: float) -> Sprite:
    """A shape turned, slightly squeezed and sheared, filled with a two-coloured texture, lit from one side."""
    to_pixels = _turn(rng.uniform(0, 2 * np.pi)) @ np.array([[1, rng.uniform(-0.15, 0.15)], [0, rng.uniform(0.75, 1)]])
    to_pixels *= diameter / 2
    outlines = [contour @ to_pixels.T for contour in _OUTLINES[shape](rng)]
    half = math.ceil(max(float(np.abs(o).max()) for o in outlines)) + 1
    outlined = 0.0 if rng.random() < 0.5 else rng.uniform(0.03, 0.06) * diameter
    alpha, rim = _rasterise(outlines, half, outlined)

    first, second, rim_colour = _colours(rng)
    mix = _texture(rng, texture, half, to_pixels, diameter)[..., None]
    colour = first + mix * (second - first)
    colour += rim[..., None] * (rim_colour - colour)
    ramp = np.linspace(-1, 1, 2 * half, dtype=np.float32)
    lean = rng.uniform(-0.16, 0.16, 2).astype(np.float32)
    colour *= 1 + (lean[0] * ramp[:, None] + lean[1] * ramp)[..., None]
    shadow = 0.0 if rng.random() < 0.4 else float(rng.uniform(0.15, 0.5))
    return Sprite(alpha, np.minimum(colour, 255).astype(np.float32), shadow)


def _rasterise(outlines: list[NDArray[Any]], half: int, rim_width: float) -> tuple[Floats, Floats]:
    """Antialiased alpha and rim, f32 [2 half, 2 half] in [0, 1], of outlines in pixels around the centre."""
    fine = 4 if half < 40 else 2  # subpixels a side
    side, shift = 2 * half, 4
    points = [np.round(((o + half) * fine - 0.5) * 2**shift).astype(np.int32) for o in outlines]
    layers = [np.zeros((side * fine, side * fine), np.uint8) for _ in range(2)]
    cv2.fillPoly(layers[0], points, 255, cv2.LINE_8, shift)
    if rim_width:
        cv2.polylines(layers[1], points, True, 255, max(1, round(rim_width * fine)), cv2.LINE_8, shift)
    alpha, rim = (cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA) / np.float32(255) for layer in layers)
    return alpha, rim


def _texture(rng: Rng, texture: str, half: int, to_pixels: NDArray[np.float64], diameter: float) -> Floats:
    """f32 [2 half, 2 half] in [0, 1]: how much of the second colour each pixel shows."""
    if texture == "plain":
        return np.zeros((2 * half, 2 * half), np.float32)
    # Periods are counted across the object, so the texture grows with it; turned anew, so its angle tells nothing.
    periods = rng.uniform(1.5, 2.6) if texture == "checker" else rng.uniform(2.7, 4.5)
    axes = _turn(rng.uniform(0, 2 * np.pi)) @ np.linalg.inv(to_pixels) * (np.pi * periods)
    phase = rng.uniform(0, 2 * np.pi, 2)
    centred = np.arange(2 * half) - (half - 0.5)
    u, v = (np.add.outer(axes[k, 1] * centred + phase[k], axes[k, 0] * centred).astype(np.float32) for k in (0, 1))
    match texture:
        case "stripes":
            wave = np.sin(u)
        case "checker":
            wave = 1.5 * np.sin(u) * np.sin(v)
        case "dots":
            wave = np.cos(u) + np.cos(v) - np.float32(0.55)
        case _:
            raise AssertionError(texture)
    # The wave becomes an edge about one pixel wide: sharp, yet free of aliasing.
    pixels_per_radian = diameter / (2 * np.pi * periods)
    return np.asarray(np.clip(0.5 + max(0.6, pixels_per_radian) * wave, 0, 1), np.float32)


def _colour(rng: Rng, most_saturated: float = 0.9) -> Floats:
    """Any colour, f32 [3] RGB 0..255: a hue, washed out and dimmed at random (HSV)."""
    hue = np.clip(np.abs((rng.random() * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    saturation, value = rng.uniform(0.05, most_saturated), rng.uniform(0.2, 1.0)
    return np.asarray(255 * value * (1 - saturation * (1 - hue)), np.float32)


def _brightness(colour: Floats) -> float:
    """Luma 0..255 of an RGB colour (ITU-R BT.601)."""
    return float(colour @ np.array([0.299, 0.587, 0.114]))


def _colours(rng: Rng) -> tuple[Floats, Floats, Floats]:
    """Two colours of a texture, far enough apart in brightness to be seen, and one for the rim."""
    first, second = _colour(rng), _colour(rng)
    while abs(_brightness(first) - _brightness(second)) < 60:
        first, second = _colour(rng), _colour(rng)
    return first, second, 0.35 * min(first, second, key=_brightness)


def draw_ground(rng: Rng, height: int, width: int) -> Floats:
    """A background, f32 [H, W, 3]: clouds, grain or patchwork between two near colours, with strokes on it."""
    base, other = _colour(rng, 0.5), _colour(rng, 0.5)
    other = base + rng.uniform(0.25, 0.7) * (other - base)
    mix: Floats
    match rng.choice(["clouds", "grain", "patchwork"]):
        case "clouds":
            octaves = [_noise(rng, height, width, cells, cells) / cells**0.5 for cells in (3, 7, 17, 40)]
            mix = np.sum(octaves, axis=0, dtype=np.float32)
        case "grain":
            mix = 0.6 * _noise(rng, height, width, 40, 3) + 0.4 * _noise(rng, height, width, 3, 3)
        case _:
            cells = int(rng.integers(4, 14))
            mix = _noise(rng, height, width, cells, cells, cv2.INTER_NEAREST)
    image = (base + mix[..., None] * (other - base)).astype(np.float32)
    _scatter_strokes(rng, image)
    return image


def _noise(rng: Rng, height: int, width: int, rows: int, columns: int, how: int = cv2.INTER_CUBIC) -> Floats:
    """A grid of random numbers in [0, 1], turned and enlarged to f32 [H, W]."""
    grid = rng.random((rows, columns), dtype=np.float32)
    side = math.hypot(height, width)
    matrix = _turn(rng.uniform(0, 2 * np.pi)) @ np.diag([side / columns, side / rows])
    shift = np.array([width, height]) / 2 - matrix @ (np.array([columns, rows]) / 2 - 0.5)
    affine = np.column_stack([matrix, shift])
    turned = cv2.warpAffine(grid, affine, (width, height), flags=how, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(turned, np.float32)


def _scatter_strokes(rng: Rng, image: Floats) -> None:
    """Half-transparent strokes of no class, drawn into the image."""
    height, width = image.shape[:2]
    overlay = image.copy()
    for _ in range(int(rng.integers(22))):
        start = rng.uniform(-0.1, 1.1, 2) * (width, height)
        end = start + rng.normal(0, 0.15, 2) * (width, height)
        ends = np.round([start, end]).astype(int).tolist()
        cv2.line(overlay, ends[0], ends[1], _colour(rng).tolist(), int(rng.integers(1, 4)), cv2.LINE_AA)
    cv2.addWeighted(image, 0.5, overlay, 0.5, 0, dst=image)


def photograph(rng: Rng, scene: Floats) -> NDArray[np.uint8]:
    """Light from one side, contrast, focus and sensor noise; f32 in, u8 [H, W, 3] out."""
    height, width = scene.shape[:2]
    lean = rng.uniform(-0.3, 0.3, 2)
    light = 1 + np.add.outer(lean[0] * np.linspace(-1, 1, height), lean[1] * np.linspace(-1, 1, width))
    contrast, brightness = rng.uniform(0.65, 1.05), rng.uniform(-15, 25)
    image = scene * (contrast * light).astype(np.float32)[..., None] + np.float32(128 * (1 - contrast) + brightness)
    if rng.random() < 0.35:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.3)), np.float32)
    noise = rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(rng.uniform(1, 9))
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)
