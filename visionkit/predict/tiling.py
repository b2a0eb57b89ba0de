"""Large images cut into overlapping tiles, each seen at the network's full resolution, and put together again.

Maps are blended without seams (`blending`), boxes merged so that each object comes once (`merging`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from visionkit.errors import UsageError
from visionkit.imaging.letterbox import Frame
from visionkit.predict.backend import Raw, RawDetections, RawMap
from visionkit.predict.blending import Cut, blended_labels
from visionkit.predict.maps import Labels, Scores, scores_in_pixels
from visionkit.predict.merging import Found, Window, found_in, merged

SMALLEST_TILE = 32
MOST_OVERLAP = 0.9
DEFAULT_OVERLAP = 0.2


@dataclass(frozen=True, slots=True)
class Tiling:
    """How images are cut that are larger than a tile.

    Args:
        size: a tile's side, pixels of the image.
        overlap: share of it that neighbouring tiles have in common, at least.

    Raises:
        UsageError: a value is out of its bounds.
    """

    size: int
    overlap: float = DEFAULT_OVERLAP

    def __post_init__(self) -> None:
        if self.size < SMALLEST_TILE:
            raise UsageError(f"a tile must be at least {SMALLEST_TILE} px wide, got {self.size}; choose a larger one")
        if not 0 <= self.overlap <= MOST_OVERLAP:
            raise UsageError(
                f"overlap is a share of a tile's side from 0 to {MOST_OVERLAP}, got {self.overlap}; choose a value "
                f"such as {DEFAULT_OVERLAP}"
            )

    def grid(self, height: int, width: int) -> Grid | None:
        """The tiles of an image of this size in pixels; None where it is not larger than one."""
        grid = Grid(self._cuts(height), self._cuts(width))
        return grid if len(grid.rows) > 1 or len(grid.columns) > 1 else None

    def _cuts(self, length: int) -> tuple[Cut, ...]:
        """The fewest tiles along an axis: all of one size, spread evenly from end to end."""
        if length <= self.size:
            return ((0, length),)
        step = max(1, self.size - round(self.overlap * self.size))
        further = -(-(length - self.size) // step)
        starts = (i * (length - self.size) // further for i in range(further + 1))
        return tuple((start, start + self.size) for start in starts)


class Grid(NamedTuple):
    """The tiles of one image.

    Args:
        rows: what the tiles of a column cover of the height, from top to bottom.
        columns: what the tiles of a row cover of the width, from left to right.

    >>> Tiling(100, overlap=0.2).grid(80, 250)
    Grid(rows=((0, 80),), columns=((0, 100), (75, 175), (150, 250)))
    """

    rows: tuple[Cut, ...]
    columns: tuple[Cut, ...]

    @property
    def windows(self) -> list[Window]:
        """Of each tile, row by row."""
        return [(left, top, right, bottom) for top, bottom in self.rows for left, right in self.columns]

    @property
    def views(self) -> list[Window]:
        """What a detector looks at: each tile, and last the whole image. What is larger than a tile, or than two have
        in common, it may see whole only there."""
        return [*self.windows, (0, 0, *self.size)]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image."""
        return self.columns[-1][1], self.rows[-1][1]


def chosen_tiling(tile: int | None, overlap: float | None, trained: Tiling | None = None) -> Tiling | None:
    """The tiling that the options `tile` and `overlap` ask for; None where images are seen whole, as a tile of 0 asks.

    Args:
        trained: how the model learnt to see larger images, which stays where nothing is asked for.

    Raises:
        UsageError: as `Tiling`, or an overlap without tiles.
    """
    if tile:
        return Tiling(tile, DEFAULT_OVERLAP if overlap is None else overlap)
    if overlap is not None:
        raise UsageError("overlap is a share of a tile, and no tile is given; give --tile too, or leave it out")
    return trained if tile is None else None


def look_tiled(
    look: Callable[[Sequence[Window]], Iterator[tuple[Frame, Raw]]], grid: Grid, max_det: int
) -> Labels | Found:
    """What a model says of an image tile by tile: a map u8 [H, W], or detections in the image's pixels, for which it
    looks at the whole image too.

    Args:
        look: what the model says of windows of the image, one after another, as they are asked for.
        max_det: most detections.

    Raises:
        UsageError: the model says a class of a whole picture.
    """
    seen = look(grid.windows)
    frame, raw = next(seen)
    seen = chain([(frame, raw)], seen)
    if isinstance(raw, RawMap):
        return blended_labels(_scores(seen), grid.rows, grid.columns)
    if not isinstance(raw, RawDetections):
        raise UsageError("a classifier says a class of a whole picture, which has no tiles; leave out --tile")
    views = grid.views
    looks = zip(views, chain(seen, look(views[-1:])), strict=True)
    parts = [
        found_in(raw, frame, window, grid.size, view)
        for view, (window, (frame, raw)) in enumerate(looks)
        if isinstance(raw, RawDetections)
    ]
    return merged(Found.joined(parts), max_det)


def _scores(seen: Iterable[tuple[Frame, Raw]]) -> Iterator[Scores]:
    for frame, raw in seen:
        assert isinstance(raw, RawMap)
        yield scores_in_pixels(raw.scores, frame)
