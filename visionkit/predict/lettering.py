"""Text on pictures: a font that has the letters, text cut to fit, a line written. UTF-8, as far as fonts go."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

from visionkit.predict.colours import Colour

# Latin, Greek, Cyrillic, Hebrew, Arabic; as matplotlib ships them, so that a picture is the same on every machine.
BUNDLED_FONTS = ("DejaVuSans-Bold.ttf", "DejaVuSans.ttf")

# Chinese, Japanese and Korean on Linux, Windows and macOS; Pillow looks these up in the system's font folders.
SYSTEM_FONTS = (
    "NotoSansCJK-Bold.ttc",
    "NotoSansCJK-Regular.ttc",
    "DroidSansFallbackFull.ttf",
    "msyh.ttc",
    "malgun.ttf",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
)


def text_width(text: str, size: int) -> int:
    """Pixels that a line of letters of a size takes."""
    return -int(-font_for(text, size).getlength(text) // 1)


def fit_text(wordings: Sequence[str], size: int, width: int) -> str:
    """The first wording that a width in pixels can hold; where it holds none, the last, cut short with an ellipsis."""
    for text in wordings:
        if text_width(text, size) <= width:
            return text
    text = wordings[-1]
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text + "…"


def write_line(strip: NDArray[np.uint8], text: str, size: int, colour: Colour, left: int) -> None:
    """Write a line in place, half way between the top and the foot of a strip; what does not fit in is cut off.

    Args:
        strip: u8 [H, W, 3].
        size: of the letters, pixels.
        left: where the text starts, pixels.
    """
    font = font_for(text, size)
    ascent, descent = font.getmetrics()
    mask, (dx, dy) = font.getmask2(text, mode="L")
    cover = np.asarray(mask, np.float32).reshape(mask.size[1], mask.size[0], 1) / 255
    top = max(0, (strip.shape[0] - ascent - descent) // 2 + dy)
    left = max(0, left + dx)
    patch = strip[top : top + cover.shape[0], left : left + cover.shape[1]]
    cover = cover[: patch.shape[0], : patch.shape[1]]
    patch[:] = np.rint(patch * (1 - cover) + np.array(colour, np.float32) * cover)


@lru_cache(maxsize=1024)
def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """The first font at hand with every character of a text; where none has them all, the first (it draws boxes).

    Args:
        size: of the letters, pixels.
    """
    fonts = _fonts(size)
    return next((font for font in fonts if _has_letters(font, text)), fonts[0])


@lru_cache(maxsize=64)
def _fonts(size: int) -> tuple[ImageFont.FreeTypeFont, ...]:
    fonts = []
    for name in (*(str(_bundled_folder() / name) for name in BUNDLED_FONTS), *SYSTEM_FONTS):
        try:
            fonts.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    if not fonts:
        ascii_only = ImageFont.load_default(size)
        assert isinstance(ascii_only, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
        fonts.append(ascii_only)
    return tuple(fonts)


def _bundled_folder() -> Path:
    """Where matplotlib keeps its fonts, found without importing it."""
    package = importlib.util.find_spec("matplotlib")
    folder = Path(package.origin).parent if package is not None and package.origin else Path()
    return folder / "mpl-data" / "fonts" / "ttf"


def _has_letters(font: ImageFont.FreeTypeFont, text: str) -> bool:
    absent = bytes(font.getmask("\uffff"))  # never a character, so it is drawn as an absent one
    return all(char.isspace() or bytes(font.getmask(char)) != absent for char in text)
