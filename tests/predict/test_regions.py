"""Regions of maps as polygons and RLEs, which pycocotools turns back into exactly their pixels."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from visionkit.formats.coco_segmentation import checked_segmentation
from visionkit.formats.outlines import Outlines, bitmap_rings
from visionkit.predict.regions import Region, regions


def pixels(region: Region, height: int, width: int) -> NDArray[np.bool_]:
    """As pycocotools draws it."""
    segmentation = region.segmentation
    if isinstance(segmentation, list):
        assert len(segmentation) == 1
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    decoded: NDArray[np.bool_] = coco_mask.decode(segmentation).astype(np.bool_)
    return decoded


def drawn(text: str) -> NDArray[np.bool_]:
    return np.array([[letter == "#" for letter in line.strip()] for line in text.strip().splitlines()])


def test_a_region_by_hand() -> None:
    # An L of 1 + 1 + 3 pixels: around it clockwise from its upper left corner.
    (region,) = regions(drawn("#..\n#..\n###"))
    assert region == Region([[0, 0, 1, 0, 1, 2, 3, 2, 3, 3, 0, 3]], (0, 0, 3, 3), 5)


def test_a_hole_makes_an_rle() -> None:
    mask = drawn("....\n.###\n.#.#\n.###")
    (region,) = regions(mask)
    assert isinstance(region.segmentation, dict)
    assert (region.bbox, region.area) == ((1, 1, 3, 3), 8)
    assert np.array_equal(pixels(region, 4, 4), mask)


def test_pixels_that_touch_at_a_corner_are_two_regions() -> None:
    first, second = regions(drawn("##.\n..#"))
    assert (first.area, second.area) == (2, 1)
    assert second.segmentation == [[2, 1, 3, 1, 3, 2, 2, 2]]


def test_a_region_that_touches_itself_at_a_corner_is_one_polygon_and_what_it_surrounds_a_hole() -> None:
    # What lies within is open to the outside at a corner alone, where both outlines turn right: no hole.
    mask = drawn(".###\n#..#\n#..#\n####")
    (region,) = regions(mask)
    assert isinstance(region.segmentation, list)
    assert np.array_equal(pixels(region, 4, 4), mask)


def test_two_holes_that_touch_at_a_corner_are_one() -> None:
    mask = drawn("####\n#.##\n##.#\n####")
    assert len(bitmap_rings(mask)) == 2
    (region,) = regions(mask)
    assert np.array_equal(pixels(region, 4, 4), mask)


@pytest.mark.parametrize("density", [0.2, 0.5, 0.7, 0.95])
def test_random_regions_come_back_exactly(density: float) -> None:
    random = np.random.default_rng(0)
    polygons = 0
    for _ in range(20):
        height, width = (int(side) for side in random.integers(1, 24, 2))
        mask = random.random((height, width)) < density
        found = regions(mask)
        total = np.zeros((height, width), np.int64)
        for region in found:
            own = pixels(region, height, width)
            assert own.sum() == region.area
            ys, xs = np.nonzero(own)
            assert region.bbox == (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)
            # What our own reader takes.
            assert checked_segmentation(region.segmentation, width, height) == (region.segmentation, 0)
            polygons += isinstance(region.segmentation, list)
            total += own
        assert np.array_equal(total, mask)  # every pixel in one region
        assert [region.area for region in found] == sorted((region.area for region in found), reverse=True)
    assert polygons


def test_rings_go_round_their_pixels_and_the_other_way_round_holes() -> None:
    def area(ring: NDArray[np.int64]) -> float:
        x, y = ring.T
        return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2

    rings = bitmap_rings(drawn("###\n#.#\n###"))
    assert sorted(map(area, rings)) == [-1, 9]
    assert bitmap_rings(np.zeros((3, 3), np.bool_)) == []
    random = np.random.default_rng(1)
    for _ in range(20):
        mask = random.random((9, 7)) < 0.6
        rings = bitmap_rings(mask)
        assert sum(map(area, rings)) == mask.sum()
        edges = [np.hstack((ring, np.roll(ring, -1, axis=0))) for ring in rings]
        outline = Outlines.of([np.concatenate(edges).astype(np.float32)])
        assert np.array_equal(outline.box_masks(np.array([[0, 0, 7, 9]], np.float32), 63)[0][3::7, 4::9], mask)


def test_no_pixels_no_regions() -> None:
    assert regions(np.zeros((4, 5), np.bool_)) == []
    (everything,) = regions(np.ones((4, 5), np.bool_))
    assert everything == Region([[0, 0, 5, 0, 5, 4, 0, 4]], (0, 0, 5, 4), 20)
