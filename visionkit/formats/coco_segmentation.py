"""COCO segmentations: polygons and run-length encodings, checked before pycocotools' C code meets them.

That code trusts its input: it crashes on coordinates that are not finite or huge and on outlines of more than some
4e8 pixels, takes a polygon of two points for a box, and reads memory it does not own where the runs are fewer than the
pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import DataError

FARTHEST_PIXEL = 1e6
"""No coordinate may lie farther out, in pixels: the largest image side read is far below."""

LONGEST_OUTLINE = 4e6
"""No polygon may have a longer outline, in pixels: cocoapi walks along it with 40 bytes for each."""

MOST_PIXELS = 2**32 - 1
"""No image may have more pixels: cocoapi counts the runs and the area of a mask in 32 bits."""

POLYGON_RULE = (
    f"polygons must be lists of finite x, y pairs within {FARTHEST_PIXEL:.0f} px, with outlines of at most "
    f"{LONGEST_OUTLINE:.0f} px; correct or leave out the segmentation"
)
RLE_RULE = (
    'an RLE must be {"size": [height, width], "counts": runs} with runs that add up to height x width; '
    "correct or leave out the segmentation"
)
RLE_SIZE_RULE = "the size of an RLE must be height and width of its image; make masks in pixels of the image"
_MOST_CHARACTERS = 8  # of one run: 40 bits, FARTHEST_PIXEL squared


def checked_segmentation(
    segmentation: Any, width: int, height: int
) -> tuple[list[list[float]] | dict[str, Any] | None, int]:
    """A segmentation that can be trusted, and how many degenerate polygons were left out of it.

    Args:
        segmentation: as a COCO file has it.
        width, height: of its image in pixels; 0 where they are not known.

    Returns:
        Polygons of at least three points, an RLE, or None where nothing is left; and the number of polygons of
        fewer than three points, which enclose nothing.

    Raises:
        DataError: it is neither; the message is the rule and the remedy, to stand behind the name of the item.
    """
    if segmentation is None or segmentation in ([], {}):
        return None, 0
    if isinstance(segmentation, dict):
        _check_rle(segmentation, width, height)
        return segmentation, 0
    if not isinstance(segmentation, list) or not all(_is_polygon(polygon) for polygon in segmentation):
        raise DataError(POLYGON_RULE)
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
    return polygons or None, len(segmentation) - len(polygons)


def segmentation_area(segmentation: list[list[float]] | dict[str, Any]) -> float:
    """Pixels inside a checked segmentation; parts that overlap count twice."""
    if isinstance(segmentation, dict):
        return float(_runs(segmentation["counts"])[1::2].sum())
    return sum(_polygon_area(np.asarray(polygon, np.float64).reshape(-1, 2)) for polygon in segmentation)


def _polygon_area(points: NDArray[np.float64]) -> float:
    """[N, 2] -> the area inside, by the shoelace formula."""
    x, y = (points - points[0]).T  # nearer to 0, more digits are left for the area
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _is_polygon(polygon: Any) -> bool:
    if not isinstance(polygon, list) or len(polygon) % 2:
        return False
    if not polygon:
        return True
    try:
        # The sum is NaN if any number is, which minimum and maximum do not promise.
        lowest, highest = min(polygon), max(polygon)
        if not (math.isfinite(sum(polygon)) and lowest >= -FARTHEST_PIXEL and highest <= FARTHEST_PIXEL):
            return False
    except (TypeError, OverflowError):
        return False
    longest = (highest - lowest) * len(polygon) / 2
    return longest <= LONGEST_OUTLINE or _outline(np.asarray(polygon, np.float64).reshape(-1, 2)) <= LONGEST_OUTLINE


def _outline(points: NDArray[np.float64]) -> float:
    """[N, 2] -> the steps of a king, in pixels, once around the polygon."""
    return float(np.abs(points - np.roll(points, -1, axis=0)).max(axis=1).sum())


def _check_rle(rle: dict[str, Any], width: int, height: int) -> None:
    size = rle.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_side(side) for side in size):
        raise DataError(RLE_RULE)
    if width and height and size != [height, width]:
        raise DataError(RLE_SIZE_RULE)
    runs, pixels = _runs(rle.get("counts")), size[0] * size[1]
    if pixels > MOST_PIXELS or runs.min() < 0 or runs.max() > pixels or runs.sum() != pixels:
        raise DataError(RLE_RULE)


RLES_AT_A_TIME = 1 << 10


def are_sound_rles(rles: Sequence[Any], sizes: Sequence[list[int]]) -> bool:
    """Whether all are compressed RLEs of these sizes, [height, width], that `checked_segmentation` would let pass.

    It goes through thousands at once; of what is no compressed RLE it says False.
    """
    if not set(map(type, rles)) <= {dict}:
        return False
    counts, said = [rle.get("counts") for rle in rles], [rle.get("size") for rle in rles]
    if not set(map(type, counts)) <= {str} or not all(counts):
        return False
    if said != list(sizes) or not set(map(type, chain.from_iterable(said))) <= {int}:
        return False
    pixels = np.fromiter((height * width for height, width in sizes), np.int64, len(sizes))
    return all(
        _runs_add_up(counts[start : start + RLES_AT_A_TIME], pixels[start : start + RLES_AT_A_TIME])
        for start in range(0, len(counts), RLES_AT_A_TIME)
    )


def _runs_add_up(texts: Sequence[str], pixels: NDArray[np.int64]) -> bool:
    """Whether the runs of compressed RLEs, read as `_decompressed` reads them, are sound and add up to `pixels`."""
    codes = np.frombuffer("".join(texts).encode("ascii", "replace"), np.uint8) - np.uint8(48)  # below 48: far above 63
    text_ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    ends = np.flatnonzero((codes & 0x20) == 0)
    if codes.max() > 0x3F or (codes[text_ends - 1] & 0x20).any() or pixels.max() > MOST_PIXELS:
        return False
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MOST_CHARACTERS:
        return False
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & 0x1F).astype(np.int64) << (5 * place), starts)
    numbers -= np.where(codes[ends] & 0x10, np.int64(1) << (5 * lengths), 0)
    # From the fourth number of a text on, each is the difference to the run two before. In rows of two, with a zero
    # behind the last of an odd number of them, a column's sums are the runs.
    text_stops = np.searchsorted(ends, text_ends - 1) + 1
    counts = np.diff(text_stops, prepend=0)
    rows = (counts + 1) // 2
    row_starts = np.cumsum(rows) - rows
    filled = np.ones(2 * int(rows.sum()), np.bool_)
    odd = counts % 2 == 1
    filled[2 * (row_starts + rows)[odd] - 1] = False
    runs = np.zeros(len(filled), np.int64)
    runs[filled] = numbers
    first = runs[2 * row_starts]
    runs[2 * row_starts] = 0
    sums = np.cumsum(runs.reshape(-1, 2), axis=0)
    before = np.concatenate((np.zeros((1, 2), np.int64), sums))[row_starts]
    runs = (sums - np.repeat(before, rows, axis=0)).ravel()
    runs[~filled] = 0
    total = first + np.add.reduceat(runs, 2 * row_starts)
    return bool(first.min() >= 0 and runs.min() >= 0 and (total == pixels).all())


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= FARTHEST_PIXEL


def _runs(counts: Any) -> NDArray[np.int64]:
    """The lengths of the runs, background first, of either kind of RLE. Raises DataError if there are none."""
    if isinstance(counts, str) and counts:
        return _decompressed(counts)
    if not isinstance(counts, list) or not counts or any(type(run) is not int for run in counts):
        raise DataError(RLE_RULE)
    try:
        return np.array(counts, np.int64)
    except OverflowError as error:
        raise DataError(RLE_RULE) from error


def _decompressed(text: str) -> NDArray[np.int64]:
    """The runs behind a compressed RLE (`rleToString` in cocoapi's maskApi.c).

    Each character holds 6 bits above ASCII 48: five bits of a number, lowest first, and the mark that more follow.
    The highest bit of the last five is the sign. From the fourth run on, the number is the difference to the run two
    before.
    """
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 0x20) == 0)
    if ((codes < 0) | (codes > 0x3F)).any() or len(ends) == 0 or ends[-1] != len(codes) - 1:
        raise DataError(RLE_RULE)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MOST_CHARACTERS:
        raise DataError(RLE_RULE)
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    numbers -= np.where(codes[ends] & 0x10, np.int64(1) << (5 * lengths), 0)
    runs = numbers
    runs[1::2] = np.cumsum(numbers[1::2])
    runs[2::2] = np.cumsum(numbers[2::2])
    return runs
