"""Hierarchical grouping: by hand, and against the algorithm of the paper written in loops over pixels."""

import numpy as np
import pytest
from numpy.typing import NDArray

from visionkit.proposals.grouping import Measure, Regions, group
from visionkit.proposals.histograms import COLOUR_BINS, TEXTURE_BINS

ALL: tuple[Measure, ...] = ("colour", "texture", "size", "fill")


def bins(shape: tuple[int, ...], size: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(size, size=shape, dtype=np.uint8)


def regions(segments: NDArray[np.int64], seed: int = 0) -> Regions:
    colours = bins((2, *segments.shape), COLOUR_BINS, seed)
    return Regions.of(segments, colours, bins((3, *segments.shape), TEXTURE_BINS, seed + 1))


ROW = np.array([[0, 1, 1, 2, 2, 2]])  # three regions of 1, 2 and 3 pixels


def test_what_is_known_of_regions() -> None:
    found = Regions.of(
        np.array([[0, 0, 1], [2, 1, 1]]),
        # Of the colours of region 1 a third is in bin 0 and two thirds are in bin 24.
        np.array([[[3, 3, 0], [9, 24, 24]]], np.uint8),
        np.array([[[0, 9, 1], [1, 1, 1]]], np.uint8),
    )
    assert found.sizes.tolist() == [2, 3, 1]
    assert found.boxes.tolist() == [[0, 0, 2, 1], [1, 0, 3, 2], [0, 1, 1, 2]]
    assert found.neighbours.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert found.colours[0, 3] == 1
    assert found.colours[1, [0, 24]].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert found.textures[0, [0, 9]].tolist() == [0.5, 0.5]
    assert found.pixels == 6


def test_by_size_the_smallest_come_together_first() -> None:
    # 1 - 3 / 6 for the first two regions is more than 1 - 5 / 6 for the last two.
    assert group(regions(ROW), ["size"]).tolist()[3:] == [[0, 0, 3, 1], [0, 0, 6, 1]]


def test_by_fill_what_leaves_no_gap_comes_together_first() -> None:
    segments = np.array([[0, 1, 1], [0, 2, 2], [0, 0, 2]])
    # They have 4, 2 and 3 pixels. 0 with 1 or 2 has a box of 9: 1 - (9 - 6) / 9 and 1 - (9 - 7) / 9; 1 with 2 has one
    # of 2 x 3: 1 - (6 - 5) / 9, the most.
    assert group(regions(segments), ["fill"]).tolist()[3:] == [[1, 0, 3, 3], [0, 0, 3, 3]]


def test_by_colour_what_shares_most_comes_together_first() -> None:
    colours = np.array([[[0, 8, 8, 8, 8, 0]]], np.uint8)
    found = Regions.of(ROW, colours, np.zeros((1, 1, 6), np.uint8))
    # 0 and 1 share nothing, 1 and 2 the two thirds of 2 that are in bin 8.
    assert group(found, ["colour"]).tolist()[3:] == [[1, 0, 6, 1], [0, 0, 6, 1]]


def test_of_equally_alike_pairs_the_earlier_goes_first() -> None:
    assert group(regions(np.array([[0, 1, 2, 3]])), ["size"]).tolist()[4:] == [[0, 0, 2, 1], [2, 0, 4, 1], [0, 0, 4, 1]]


def test_one_region_is_the_whole() -> None:
    assert group(regions(np.zeros((4, 7), np.int64)), ALL).tolist() == [[0, 0, 7, 4]]


# The algorithm, pixel by pixel ----------------------------------------------------------------------------------------

Pixels = frozenset[tuple[int, int]]


def slow_histogram(pixels: Pixels, bins: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    counts = np.zeros((len(bins), size))
    for y, x in sorted(pixels):
        for feature, values in enumerate(bins):
            counts[feature, values[y, x]] += 1
    return counts / (len(pixels) * len(bins))


def slow_box(pixels: Pixels) -> list[int]:
    rows, columns = zip(*pixels, strict=True)
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


def touch(one: Pixels, other: Pixels) -> bool:
    return any((y + dy, x + dx) in other for y, x in one for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)))


def slow_group(
    segments: NDArray[np.int64], colours: NDArray[np.uint8], textures: NDArray[np.uint8], measures: tuple[Measure, ...]
) -> list[list[int]]:
    """Algorithm 1 of the paper: all is computed anew from pixels, and all pairs are looked at, in each step."""

    def alike(one: Pixels, other: Pixels) -> float:
        x1, y1, x2, y2 = slow_box(one | other)
        together = len(one) + len(other)
        shared = {
            "colour": sum(
                min(a, b)
                for a, b in zip(
                    slow_histogram(one, colours, COLOUR_BINS).ravel(),
                    slow_histogram(other, colours, COLOUR_BINS).ravel(),
                    strict=True,
                )
            ),
            "texture": sum(
                min(a, b)
                for a, b in zip(
                    slow_histogram(one, textures, TEXTURE_BINS).ravel(),
                    slow_histogram(other, textures, TEXTURE_BINS).ravel(),
                    strict=True,
                )
            ),
            "size": 1 - together / segments.size,
            "fill": 1 - ((x2 - x1) * (y2 - y1) - together) / segments.size,
        }
        return sum(shared[measure] for measure in measures)

    there: dict[int, Pixels] = {
        label: frozenset(zip(*(axis.tolist() for axis in np.nonzero(segments == label)), strict=True))
        for label in range(segments.max() + 1)
    }
    boxes = [slow_box(pixels) for pixels in there.values()]
    while len(there) > 1:
        pairs = [(a, b) for a in there for b in there if a < b and touch(there[a], there[b])]
        a, b = max(pairs, key=lambda pair: (alike(there[pair[0]], there[pair[1]]), -pair[0], -pair[1]))
        union = there.pop(a) | there.pop(b)
        there[len(boxes)] = union
        boxes.append(slow_box(union))
    return boxes


@pytest.mark.parametrize("measures", [ALL, ("texture", "size", "fill"), ("fill",), ("size",), ("colour",)])
@pytest.mark.parametrize("seed", [0, 1])
def test_grouping_is_that_of_the_paper(measures: tuple[Measure, ...], seed: int) -> None:
    random = np.random.default_rng(seed)
    # Twelve random points, and to each the pixels that are nearest to it.
    points = random.permutation(9 * 11)[:12]
    y, x = np.mgrid[:9, :11]
    distance = (y[..., None] - points // 11) ** 2 + (x[..., None] - points % 11) ** 2
    segments = (distance * 100 + np.arange(12)).argmin(axis=2)
    colours, textures = bins((2, 9, 11), COLOUR_BINS, seed + 2), bins((3, 9, 11), TEXTURE_BINS, seed + 3)
    found = group(Regions.of(segments, colours, textures), measures)
    assert found.tolist() == slow_group(segments, colours, textures, measures)
    assert found[-1].tolist() == [0, 0, 11, 9]
    assert len(found) == 2 * 12 - 1


def test_a_long_chain_ends() -> None:
    found = group(regions(np.arange(300)[None]), ALL)
    assert len(found) == 599
    assert found[-1].tolist() == [0, 0, 300, 1]
