"""Selective search: where objects of any class may be, by grouping what looks alike in several ways.

Source: Uijlings et al. 2013, Selective Search for Object Recognition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.errors import UsageError
from visionkit.proposals.colour_spaces import COLOUR_SPACES, ColourSpace
from visionkit.proposals.grouping import Measure, Regions, group
from visionkit.proposals.histograms import colour_bins, texture_bins
from visionkit.proposals.segments import segment

LONGEST_SIDE = 500
"""A larger image is searched at this size, because the number of regions grows with it (Girshick et al. 2014, Rich
feature hierarchies, section 4.2)."""

MOST_PROPOSALS = 2000
"""Of an image, as R-CNN takes them (section 2.2 there: about so many)."""

ModeName = Literal["single", "fast", "quality"]


@dataclass(frozen=True, slots=True)
class Mode:
    """Which ways of grouping there are: every combination of these.

    Args:
        spaces: colour spaces.
        scales: of the segments, k.
        measures: what counts as alike.
    """

    spaces: tuple[ColourSpace, ...]
    scales: tuple[int, ...]
    measures: tuple[tuple[Measure, ...], ...]


_ALL: tuple[Measure, ...] = ("colour", "texture", "size", "fill")
_NO_COLOUR: tuple[Measure, ...] = ("texture", "size", "fill")

MODES: Mapping[ModeName, Mode] = {
    "single": Mode(("hsv",), (100,), (_ALL,)),
    "fast": Mode(("hsv", "lab"), (50, 100), (_ALL, _NO_COLOUR)),
    "quality": Mode(
        ("hsv", "lab", "rgi", "hue", "intensity"), (50, 100, 150, 300), (_ALL, _NO_COLOUR, ("fill",), ("size",))
    ),
}
"""Source: section 5.3, table 5; 1, 8 and 80 ways."""


def selective_search(
    image: NDArray[np.uint8], mode: ModeName = "fast", *, most: int = MOST_PROPOSALS, seed: int = 0
) -> NDArray[np.float32]:
    """Boxes f32 [N, 4] x1 y1 x2 y2 in pixels of the image, no two alike, N at least 1; the same for the same image.

    Those come first that stand high in their hierarchy, and so are large, each hierarchy's k-th as k times a random
    number says (section 3.3), which lets small ones be among them.

    Args:
        image: u8 [H, W, 3] RGB.
        most: how many of them.
        seed: of those random numbers.

    Raises:
        UsageError: an unknown mode, `most` below 1, or scikit-image is not installed.
    """
    if mode not in MODES:
        raise UsageError(f"unknown mode {mode!r} of selective search; choose {', '.join(MODES)}")
    if most < 1:
        raise UsageError(f"most must be at least 1 proposal, got {most}; use {MOST_PROPOSALS}")
    searched = _searched_at(image)
    ways = MODES[mode]
    boxes: list[NDArray[np.float64]] = []
    ranks: list[NDArray[np.float64]] = []
    for space in ways.spaces:
        channels = COLOUR_SPACES[space](searched)
        colours, textures = colour_bins(channels), texture_bins(channels)
        for scale in ways.scales:
            regions = Regions.of(segment(channels, scale), colours, textures)
            for measures in ways.measures:
                found = group(regions, measures)
                random = np.random.default_rng((seed, len(boxes))).random(len(found))
                boxes.append(found)
                ranks.append(random * np.arange(len(found), 0, -1))
    best_first = np.concatenate(boxes)[np.argsort(np.concatenate(ranks), kind="stable")]
    _, first = np.unique(best_first, axis=0, return_index=True)
    chosen = best_first[np.sort(first)[:most]]
    back = np.array(image.shape[1::-1]) / np.array(searched.shape[1::-1])
    return np.asarray(chosen * np.tile(back, 2), np.float32)


def _searched_at(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image, brought down to `LONGEST_SIDE` where it is larger."""
    height, width = image.shape[:2]
    ratio = LONGEST_SIDE / max(height, width)
    if ratio >= 1:
        return image
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
