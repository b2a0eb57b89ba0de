"""Outlines: what is inside, by hand and against pycocotools; and that they move with their objects."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from visionkit.formats.outlines import Outlines, bitmap_edges, segmentation_edges

SQUARE = [1.0, 1, 3, 1, 3, 3, 1, 3]


def raster(segmentation: object, side: int) -> NDArray[np.uint8]:
    """The mask of one object in an image of so many pixels, a cell a pixel."""
    edges = segmentation_edges(segmentation, side, side)  # type: ignore[arg-type]
    return Outlines.of([edges]).box_masks(np.array([[0, 0, side, side]], np.float32), side)[0]


def test_a_square_by_hand() -> None:
    # From 1 to 3: the centres 1.5 and 2.5 are inside, 0.5 and 3.5 are not.
    expected = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert raster([SQUARE], 4).tolist() == expected
    backwards = np.array(SQUARE).reshape(-1, 2)[::-1].ravel().tolist()
    assert raster([backwards], 4).tolist() == expected


def test_a_triangle_by_hand() -> None:
    # Its long side runs from (0, 0) to (4, 4); of row r the centres beyond x = r + 0.5 are inside, and that on the
    # side itself, as a centre on the left border of a square is.
    assert raster([[0.0, 0, 4, 0, 4, 4]], 4).tolist() == [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]


@pytest.mark.parametrize("second", [[2.0, 2, 4, 2, 4, 4, 2, 4], [2.0, 2, 2, 4, 4, 4, 4, 2]])
def test_parts_that_overlap_are_one_mask(second: list[float]) -> None:
    # Whichever way round the second square goes, the pixel that both hold is inside.
    expected = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    assert raster([SQUARE, second], 4).tolist() == expected


def test_a_bitmap_comes_back_with_its_hole_and_its_corners() -> None:
    mask = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]], np.uint8)
    rle = coco_mask.encode(np.asfortranarray(mask))
    assert raster({"size": [4, 4], "counts": rle["counts"].decode()}, 4).tolist() == mask.tolist()
    uncompressed = {"size": [4, 4], "counts": [0, 3, 1, 1, 1, 1, 1, 3, 4, 1]}
    assert raster(uncompressed, 4).tolist() == mask.tolist()


def test_random_bitmaps_come_back_mirrored_and_turned() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        mask = random.random((7, 7)) < 0.5
        outline = Outlines.of([bitmap_edges(mask)])
        box = np.array([[0, 0, 7, 7]], np.float32)
        assert np.array_equal(outline.box_masks(box, 7)[0], mask)
        mirrored = outline.moved(np.array([-1, 1]), np.array([7, 0]))
        assert np.array_equal(mirrored.box_masks(box, 7)[0], mask[:, ::-1])
        assert np.array_equal(outline.transposed().box_masks(box, 7)[0], mask.T)
        # A quarter turn to the right: (x, y) -> (7 - y, x).
        turned = outline.moved(np.array([[0, -1], [1, 0]]), np.array([7, 0]))
        assert np.array_equal(turned.box_masks(box, 7)[0], np.rot90(mask, -1))


def test_as_pycocotools_but_for_the_border() -> None:
    # Random stars. cocoapi draws a border of its own rounding; away from it both say the same.
    random = np.random.default_rng(1)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    for _ in range(10):
        radius = random.uniform(15, 30, 20)
        star = (32 + radius * np.array((np.cos(angle), np.sin(angle)))).T.ravel().tolist()
        theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([star], 64, 64)))
        ours = raster([star], 64)
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97


def test_only_what_lies_in_the_box_counts() -> None:
    # The right half of the square, 1 px wide and 2 high, on 2 x 2 cells; and the square in a box twice as large.
    pair = Outlines.of([segmentation_edges([SQUARE], 4, 4)] * 2)
    masks = pair.box_masks(np.array([[2, 1, 3, 3], [1, 1, 5, 5]], np.float32), 2)
    assert masks.tolist() == [[[1, 1], [1, 1]], [[1, 0], [0, 0]]]


def test_nothing_known_and_nothing_left() -> None:
    known = segmentation_edges([SQUARE], 4, 4)
    outlines = Outlines.of([segmentation_edges(None, 4, 4), known, known])
    masks = outlines.box_masks(np.array([[0, 0, 4, 4], [0, 0, 4, 4], [2, 2, 2, 4]], np.float32), 4)
    assert masks.sum((1, 2)).tolist() == [0, 4, 0]
    assert Outlines.of([]).box_masks(np.empty((0, 4), np.float32), 8).shape == (0, 8, 8)


def test_objects_are_chosen_and_joined() -> None:
    one, two = (segmentation_edges([[float(v) * k for v in SQUARE]], 9, 9) for k in (1, 2))
    pair = Outlines.of([one, two])
    box = np.array([[0, 0, 8, 8]], np.float32)
    assert pair.take(np.array([False, True])).box_masks(box, 8).sum() == 16
    assert pair.take(np.array([1, 0])).box_masks(np.repeat(box, 2, 0), 8).sum((1, 2)).tolist() == [16, 4]
    joined = Outlines.joined([pair, Outlines.of([]), pair.take(np.array([1]))])
    assert joined.box_masks(np.repeat(box, 3, 0), 8).sum((1, 2)).tolist() == [4, 16, 16]
