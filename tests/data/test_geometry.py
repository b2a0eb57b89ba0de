from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionkit.data.geometry import (
    Span,
    draw_window,
    moved_boxes,
    turned_boxes,
    visible_span,
    with_visible_objects,
)
from visionkit.imaging.halving import halve
from visionkit.types import Sample


def sample_of(image, boxes, labels):
    return Sample(
        image, np.array(boxes, np.float32), np.array(labels, np.int64), np.zeros(len(labels), np.bool_), image_id=7
    )


def background(image):
    return sample_of(image, np.zeros((0, 4)), [])


def test_span_maps_its_ends_onto_its_ends():
    # 10 source pixels from 4 on 20 canvas pixels from 100: twice as large, 4 -> 100 and 14 -> 120.
    factor, offset = Span(4, 10, 100, 20).map()
    assert (4 * factor + offset, 14 * factor + offset) == (100, 120)
    factor, offset = Span(4, 10, 100, 20, mirrored=True).map()
    assert (4 * factor + offset, 14 * factor + offset) == (120, 100)


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (0, Span(5, 20, 0, 40)),  # 20 pixels doubled are 40 of 64
        (30, Span(5, 17, 30, 34)),  # 64 - 30 = 34 canvas pixels are left, which show 17
        (-10, Span(10, 15, 0, 30)),  # the first 10 / 2 = 5 are cut off; 15 are left, doubled 30
    ],
)
def test_visible_span_by_hand(offset, expected):
    assert visible_span(5, 20, 2.0, offset, 64, mirrored=False) == expected


def test_visible_span_of_a_mirrored_axis_cuts_off_the_other_end():
    # The last 5 of pixels 5..25 come first, and are cut off: 5..20 are left.
    assert visible_span(5, 20, 2.0, -10, 64, mirrored=True) == Span(5, 15, 0, 30, mirrored=True)


@given(
    length=st.integers(1, 5000),
    factor=st.floats(0.01, 20),
    middle=st.floats(0, 1),
    size=st.integers(1, 700),
    mirrored=st.booleans(),
)
def test_law_visible_span_lies_in_both_and_near_where_it_should(length, factor, middle, size, mirrored):
    """With the centre of the image anywhere on the canvas."""
    offset = size * middle - factor * length / 2
    span = visible_span(3, length, factor, offset, size, mirrored)
    assert 3 <= span.start < span.start + span.length <= 3 + length
    assert 0 <= span.at < span.at + span.extent <= size
    # An end is rounded by half a pixel, of the source or of the canvas; something always shows, if only one pixel.
    first = 3 + length - span.start - span.length if mirrored else span.start - 3
    assert abs(factor * first + offset - span.at) <= max(factor, 1)


@pytest.mark.parametrize("mirror_x", [False, True])
@pytest.mark.parametrize("mirror_y", [False, True])
def test_window_is_drawn_where_the_spans_say_and_nowhere_else(mirror_x, mirror_y):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    canvas = np.full((50, 60, 3), 1, np.uint8)
    draw_window(background(image), Span(5, 20, 11, 20, mirror_x), Span(7, 10, 13, 10, mirror_y), canvas)
    expected = np.full((50, 60, 3), 1, np.uint8)
    expected[13:23, 11:31] = image[7:17, 5:25][:: -1 if mirror_y else 1, :: -1 if mirror_x else 1]
    np.testing.assert_array_equal(canvas, expected)


def test_window_leaves_out_pixels_that_fill_no_block():
    image = np.zeros((9, 11, 3), np.uint8)
    canvas = np.zeros((4, 5, 3), np.uint8)
    # 11 x 9 on 5 x 4: blocks of 2 x 2, of which the 11th column and the 9th row fill none.
    across, down = draw_window(background(image), Span(0, 11, 0, 5), Span(0, 9, 0, 4), canvas)
    assert (across, down) == (Span(0, 10, 0, 5), Span(0, 8, 0, 4))


def test_window_of_blocks_begins_and_ends_between_the_blocks_of_the_whole_image():
    image = np.arange(12, dtype=np.uint8)[None, :, None].repeat(12, axis=0).repeat(3, axis=2) * 20
    canvas = np.zeros((2, 3, 3), np.uint8)
    # Columns 3 to 8 of 12 on 3: blocks 2-3, 4-5, 6-7 (half a canvas pixel to the left), whose means are 2.5, 4.5, 6.5.
    across, down = draw_window(background(image), Span(3, 6, 0, 3), Span(5, 4, 0, 2), canvas)
    assert (across, down) == (Span(2, 6, 0, 3), Span(4, 4, 0, 2))
    assert canvas[:, :, 0].tolist() == [[50, 90, 130]] * 2


@pytest.mark.parametrize("size", [(97, 61), (64, 48), (5, 70)])
@pytest.mark.parametrize("extent", [30, 15, 7, 3, 1])
def test_halves_at_hand_change_no_pixel(size, extent):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    halves = tuple(half for factor in (2, 4) if (half := halve(image, factor)).size)
    drawn = []
    alone = background(image)
    for sample in (alone, replace(alone, halves=halves)):
        canvas = np.zeros((32, 32, 3), np.uint8)
        spans = draw_window(sample, Span(1, size[1] - 3, 1, extent), Span(2, size[0] - 3, 2, extent), canvas)
        drawn.append((canvas, spans))
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
    assert drawn[0][1] == drawn[1][1]


def test_moved_boxes_one_map_an_object():
    boxes = np.array([[1, 2, 3, 4], [1, 2, 3, 4]], np.float32)
    factors, offsets = np.array([[2, 1], [-1, 1]], np.float32), np.array([[0, 10], [10, 0]], np.float32)
    assert moved_boxes(boxes, factors, offsets).tolist() == [[2, 12, 6, 14], [7, 2, 9, 4]]
    assert moved_boxes(boxes[:1], factors[1], offsets[1]).tolist() == [[7, 2, 9, 4]]
    assert moved_boxes(boxes[:0], factors[0], offsets[0]).shape == (0, 4)


def test_turned_boxes_by_hand():
    quarter = np.array([[0, -1, 10], [1, 0, 0]])  # x' = 10 - y, y' = x
    assert turned_boxes(np.array([[1, 2, 5, 4]], np.float32), quarter).tolist() == [[6, 1, 8, 5]]
    assert turned_boxes(np.zeros((0, 4), np.float32), quarter).shape == (0, 4)


def test_visible_objects_by_hand():
    boxes = [
        (-8, 0, 2, 10),  # 2 of 10 columns show: 20 %, just enough
        (-9, 0, 2, 10),  # 2 of 11: 18 %, dropped
        (5, 5, 6.5, 9),  # 1.5 px wide, dropped
        (3, 3, 3, 9),  # empty, dropped
        (7, 7, 4, 9),  # inside out, dropped
        (30, 30, 40, 40),  # outside, dropped
        (12, 12, 20, 20),  # whole
    ]
    kept = with_visible_objects(sample_of(np.zeros((20, 20, 3), np.uint8), boxes, range(7)), min_visible=0.2)
    assert kept.labels.tolist() == [0, 6]
    assert kept.boxes.tolist() == [[0, 0, 2, 10], [12, 12, 20, 20]]


def test_an_ignored_region_stays_while_any_of_it_shows():
    boxes = [
        (-90, 0, 10, 20),  # 10 of 100 columns show: too few of an object, and yet half of the picture
        (19, 0, 60, 20),  # one pixel wide
        (30, 0, 60, 20),  # outside
        (5, 5, 5, 9),  # empty
    ]
    sample = sample_of(np.zeros((20, 20, 3), np.uint8), boxes, range(4))
    assert with_visible_objects(sample, min_visible=0.2).labels.tolist() == []
    kept = with_visible_objects(replace(sample, ignore=np.ones(4, np.bool_)), min_visible=0.2)
    assert kept.labels.tolist() == [0, 1]
    assert kept.boxes.tolist() == [[0, 0, 10, 20], [19, 0, 20, 20]]
    assert kept.ignore.all()
