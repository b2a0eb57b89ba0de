"""One colour a class, told apart by eye, and letters that read on it."""

from __future__ import annotations

import math

Colour = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
INK: Colour = (24, 24, 27)
GREY: Colour = (160, 160, 160)

# Steps of the golden angle spread hues evenly, however many there are (Vogel 1979). Hues that come near one another
# after 8 or 13 steps differ in lightness; of the orders tried, this one keeps 20 colours farthest apart.
_FIRST_HUE, _GOLDEN_ANGLE = 32.0, 137.508
_LIGHTNESSES = (0.70, 0.82, 0.58)
_CHROMA = 0.19


def class_colour(label: int) -> Colour:
    """The colour of a class, u8 RGB: the same in every picture, of a hue far from those of neighbouring labels."""
    hue = math.radians(_FIRST_HUE + label * _GOLDEN_ANGLE)
    return _rgb_of_oklch(_LIGHTNESSES[label % len(_LIGHTNESSES)], _CHROMA, hue)


def _rgb_of_oklch(lightness: float, chroma: float, hue: float) -> Colour:
    """OKLCh to sRGB, clipped to what a screen shows (Ottosson 2020, "A perceptual color space")."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    red, green, blue = (round(255 * _gamma(min(1.0, max(0.0, value)))) for value in linear)
    return red, green, blue


def _gamma(linear: float) -> float:
    """The sRGB transfer function (IEC 61966-2-1)."""
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def text_colour(background: Colour) -> Colour:
    """White or black, whichever stands out more from a background: from any by 4.58 to 1 or more, and letters need 4.5
    (WCAG 2.1, 1.4.3)."""
    return WHITE if contrast(WHITE, background) > contrast(BLACK, background) else BLACK


def contrast(one: Colour, other: Colour) -> float:
    """The contrast ratio of two colours, from 1 to 21 (WCAG 2.1)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: Colour) -> float:
    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)

    red, green, blue = (linear(channel / 255) for channel in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
