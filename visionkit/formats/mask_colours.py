"""Colour-coded masks: which colour stands for which label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import DataError
from visionkit.formats.findings import shown

Colour = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""


@dataclass(frozen=True)
class MaskColours:
    """The colours of masks: of each class, in the order of labels, and those that no one judges."""

    classes: tuple[Colour, ...]
    ignored: tuple[Colour, ...] = ()

    def labels(self, pixels: NDArray[np.uint8], ignored: int) -> tuple[NDArray[np.uint8], Colour | None]:
        """A mask u8 [H, W, 3] RGB as labels u8 [H, W], `ignored` where its colour is not judged or stands for nothing;
        and the first colour that stands for nothing, if there is one."""
        codes, labels = _coded(self, ignored)
        red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
        found = (red << 16) | (green << 8) | blue
        place = np.minimum(np.searchsorted(codes, found), len(codes) - 1)
        stray = codes[place] != found
        if not stray.any():
            return labels[place], None
        first = int(found[stray][0])
        return np.where(stray, np.uint8(ignored), labels[place]), (first >> 16, first >> 8 & 0xFF, first & 0xFF)


@lru_cache(maxsize=8)
def _coded(colours: MaskColours, ignored: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """The colours as numbers in ascending order, and their labels."""
    codes = np.array([(r << 16) | (g << 8) | b for r, g, b in (*colours.classes, *colours.ignored)], np.int32)
    labels = np.array([*range(len(colours.classes)), *[ignored] * len(colours.ignored)], np.uint8)
    order = np.argsort(codes)
    return codes[order], labels[order]


def read_mask_colours(content: Any, names: Sequence[str], file: Path) -> MaskColours | None:
    """What the keys `colours` and `ignored_colours` of a `classes.json` say, or `colors` and `ignored_colors`; None
    where there are none, and masks hold numbers.

    Raises:
        DataError: not a colour for each name, or one that occurs twice.
    """
    classes, ignored = (_said(content, key) for key in ("colours", "ignored_colours"))
    if classes is None:
        return None
    ignored = [] if ignored is None else ignored
    for key, value in (("colours", classes), ("ignored_colours", ignored)):
        if not isinstance(value, list) or not all(map(is_colour, value)):
            raise DataError(
                f"{file} has {key} {shown(value)}, they must be a list of [red, green, blue], each 0 to 255; correct it"
            )
    if len(classes) != len(names):
        raise DataError(f"{file} has {len(classes)} colours for {len(names)} names, each name needs one; correct it")
    every = [tuple(colour) for colour in (*classes, *ignored)]
    twice = next((colour for colour in every if every.count(colour) > 1), None)
    if twice is not None:
        raise DataError(f"{file} has the colour {list(twice)} twice, each stands for one class; correct it")
    return MaskColours(tuple(every[: len(classes)]), tuple(every[len(classes) :]))


def _said(content: Any, key: str) -> Any:
    return content.get(key, content.get(key.replace("colours", "colors"))) if isinstance(content, dict) else None


def is_colour(value: Any) -> bool:
    """Whether a value of a file is [red, green, blue], each 0 to 255."""
    return isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)
