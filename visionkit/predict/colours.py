"""One colour a class, told apart by eye, and letters that read on it."""

from __future__ import annotations

Colour = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
INK: Colour = (24, 24, 27)
GREY: Colour = (160, 160, 160)

# Red, green and blue of each class, farthest first: each colour is the one that is farthest from all before it, so that
# few classes differ most (Glasbey et al. 2007, "Colour displays for categorical images"). Distances are those of OKLab
# (Ottosson 2020, "A perceptual color space"); of sRGB in steps of 8 were taken the colours of lightness 0.52 to 0.88
# and chroma 0.08 to 0.24 whose lines stand out on any background by the shade beside them.
_FARTHEST_FIRST = bytes.fromhex("""
    f86850 0058f0 00ff80 008008 80c0ff b000a8 f870f8 f8d090 a0a800 985818 2090a8 9078f0 d00048 00c8a8 f8b8f0 805888
    b880a0 68f0e8 f038a0 c0d800 8038e0 00d030 f0a020 788850 0090f8 00a848 c848e0 f888b8 c07800 c098f0 a8c888 5070c0
    b85098 8098d0 d04800 008068 f0a898 98f0a0 08b8d8 a86068 c89070 80a878 f83060 38e088 9058c0 d870c8 687000 6860f8
    f8c808 8878b0 c80080 00d8f8 20a080 e86890 68c060 a050f8 f898f8 c078f8 80e808 c8b830 b04038 e88018 c0b8f8 d05068
    48a8f8 007890 f83800 80d0c0 d028b0 609000 b03868 c87058 984098 d0b078 d8e078 90d8f8 c89808 a838d0 b068c8 f88880
""")
_COLOURS = len(_FARTHEST_FIRST) // 3


def class_colour(label: int) -> Colour:
    """The colour of a class, u8 RGB: the same in every picture. There are 80; the 81st class has that of the first."""
    red, green, blue = _FARTHEST_FIRST[3 * (label % _COLOURS) :][:3]
    return red, green, blue


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
