"""Copy-paste: pasted boxes lie on pasted pixels, and what they cover leaves the truth; judged by counting pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionkit.data.augment import keyed_generator
from visionkit.data.copy_paste import LARGEST, MOST, ZOOM, _blend, _draw_pastes, _Paste, copy_paste, visible_part
from visionkit.data.geometry import MIN_SIDE
from visionkit.types import Sample

SIZE = 128
COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250), (250, 0, 250)]


def sample_of(image, boxes=(), labels=None, ignore=None, image_id=7):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.arange(len(boxes)) if labels is None else labels
    ignore = np.zeros(len(boxes)) if ignore is None else ignore
    return Sample(image, boxes, np.array(labels, np.int64), np.array(ignore, np.bool_), image_id)


def grey(boxes=(), labels=None, ignore=None):
    return sample_of(np.full((SIZE, SIZE, 3), 60, np.uint8), boxes, labels, ignore)


def painted(boxes):
    """A grey picture in which object i is a rectangle of colour i and has label i; later ones lie on top."""
    sample = grey(boxes)
    for (x1, y1, x2, y2), colour in zip(boxes, COLOURS, strict=False):
        sample.image[y1:y2, x1:x2] = colour
    return sample


def region(image, colour):
    """The box around the pixels close to a colour."""
    rows, columns = np.nonzero((np.abs(image.astype(int) - colour) < 60).all(axis=2))
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


# What is left of covered boxes ----------------------------------------------------------------------------------------


def visible_by_loop(box, covers):
    """The box around its uncovered pixels, and their number; coordinates are whole."""
    left = [
        (x, y)
        for x in range(box[0], box[2])
        for y in range(box[1], box[3])
        if not any(c[0] <= x < c[2] and c[1] <= y < c[3] for c in covers)
    ]
    if not left:
        return list(box), 0
    xs, ys = zip(*left, strict=True)
    return [min(xs), min(ys), max(xs) + 1, max(ys) + 1], len(left)


def boxes_of(rows):
    return np.array(rows, np.float64).reshape(-1, 4)


corner = st.integers(0, 12)
whole_box = st.tuples(corner, corner, corner, corner).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)


@given(boxes=st.lists(whole_box, max_size=4), covers=st.lists(whole_box, max_size=5))
def test_visible_part_is_what_counting_pixels_finds(boxes, covers):
    visible, areas = visible_part(boxes_of(boxes), boxes_of(covers))
    assert visible.shape == (len(boxes), 4)
    for box, found, area in zip(boxes, visible, areas, strict=True):
        assert (found.tolist(), area) == visible_by_loop(box, covers)


def test_visible_part_by_hand():
    boxes = boxes_of([(0, 0, 10, 10)] * 5)
    cases = [
        ([(6, -5, 20, 15)], (0, 0, 6, 10), 60),  # the right side is covered whole: trimmed
        ([(6, 0, 20, 9)], (0, 0, 10, 10), 64),  # a strip of it still shows: the box stays
        ([(5, 0, 10, 6), (5, 4, 10, 10)], (0, 0, 5, 10), 50),  # two overlapping ones cover it together, counted once
        ([(3, 3, 7, 7)], (0, 0, 10, 10), 84),  # a hole: 100 - 16
        ([(0, 0, 10, 5), (-1, 5, 11, 10)], (0, 0, 10, 10), 0),  # nothing left
    ]
    for covers, box, area in cases:
        visible, areas = visible_part(boxes[:1], boxes_of(covers))
        assert (tuple(visible[0]), areas[0]) == (box, area)
    # One call for all is the same as one for each.
    visible, areas = visible_part(boxes, boxes_of(cases[0][0]))
    assert visible.tolist() == [list(cases[0][1])] * 5
    assert areas.tolist() == [60] * 5


def test_visible_part_of_nothing_and_under_nothing():
    assert visible_part(boxes_of([]), boxes_of([(0, 0, 1, 1)]))[0].shape == (0, 4)
    visible, areas = visible_part(boxes_of([(0.5, 0.25, 2, 3)]), boxes_of([]))
    assert visible.tolist() == [[0.5, 0.25, 2, 3]]
    assert areas.tolist() == [1.5 * 2.75]


# Where pasted objects go ----------------------------------------------------------------------------------------------


def test_pasted_boxes_lie_on_pasted_objects():
    donor = painted([(20, 30, 60, 50), (70, 80, 90, 120)])
    seen = mirrored = 0
    donor.image[30:50, 20:30] = COLOURS[5]  # the left quarter of the first object
    for draw in range(100):
        out = copy_paste(grey(), donor, keyed_generator(draw), min_visible=1.0)  # none that another one covers
        assert 1 <= len(out.boxes) <= 2
        assert (out.image.shape, out.image.dtype, out.image_id) == ((SIZE, SIZE, 3), np.uint8, 7)
        for box, label in zip(out.boxes, out.labels, strict=True):
            seen += 1
            found = region(out.image, COLOURS[label])
            if label == 0:  # its ends have two colours, and which one is left tells whether it is mirrored
                quarter = region(out.image, COLOURS[5])
                mirrored += bool(quarter[0] > found[0])
                found = np.concatenate((np.minimum(found[:2], quarter[:2]), np.maximum(found[2:], quarter[2:])))
            # Edges blend over half a donor's pixel, two thirds of one here, and whole pixels are counted.
            np.testing.assert_allclose(box, found, atol=1.7)
            zoom = (box[2:] - box[:2]) / ([40, 20] if label == 0 else [20, 40])
            assert zoom[0] == pytest.approx(zoom[1])
            assert ZOOM[0] - 1e-5 <= zoom[0] <= ZOOM[1] + 1e-5
            assert box.min() >= 0
            assert box.max() <= SIZE
    assert seen > 120
    assert 20 < mirrored < 70


def test_unscaled_the_pixels_are_the_donors_to_the_bit():
    donor = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    box = np.array([10.0, 12, 30, 28])
    plain, mirrored = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)
    _blend(plain, donor, _Paste(box, np.array([1.0, 1]), np.array([5.0, 7])))  # 5 to the right, 7 down
    np.testing.assert_array_equal(plain[19:35, 15:35], donor[12:28, 10:30])
    _blend(mirrored, donor, _Paste(box, np.array([-1.0, 1]), np.array([50.0, 7])))  # x goes to 50 - x: 10..30 to 20..40
    np.testing.assert_array_equal(mirrored[19:35, 20:40], donor[12:28, 10:30][:, ::-1])


def test_the_border_is_soft_and_the_object_is_not():
    # The donor is one flat colour but for its object, so the pasted picture shows the opacity.
    donor = sample_of(np.full((SIZE, SIZE, 3), 160, np.uint8), [(40, 40, 80, 80)])
    donor.image[40:80, 40:80] = 200
    out = copy_paste(grey(), donor, keyed_generator(5), min_visible=0.2)
    x1, y1, x2, y2 = (int(v) for v in np.round(out.boxes[0]))
    assert (out.image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] == 200).all()
    row = out.image[(y1 + y2) // 2, :, 0].astype(int)
    outside = row[max(0, x1 - 20) : x1 - 1]
    assert (np.diff(outside) >= 0).all()  # from 60, the picture beneath, up to the donor's 160
    assert {60} < set(outside)
    assert np.diff(outside).max() < 60
    far = np.ones((SIZE, SIZE), bool)
    far[max(0, y1 - 8) : y2 + 8, max(0, x1 - 8) : x2 + 8] = False  # a tenth of at most 54 px, and rounding
    assert (out.image[far] == 60).all()


def test_a_window_at_the_donors_border_is_soft_on_that_side_too():
    donor = sample_of(np.full((SIZE, SIZE, 3), 200, np.uint8), [(0, 0, 40, 40)])
    for draw in range(20):
        out = copy_paste(grey(), donor, keyed_generator(draw), min_visible=0.2)
        steps = np.abs(np.diff(out.image[:, :, 0].astype(int), axis=0)).max()
        assert steps <= 2 * 140 / 3  # from 60 to 200 over at least 3 px, a tenth of 30; corners fall faster than sides


@pytest.mark.parametrize("draw", range(20))
def test_what_is_left_in_the_truth_is_what_still_shows(draw):
    """Objects and pasted windows are repainted on a raster in their order; shares and boxes are counted there."""
    own = [(5, 5, 45, 45), (50, 10, 120, 60), (10, 70, 60, 120), (80, 80, 110, 124)]
    sample, donor = grey(own), grey([(20, 30, 60, 70), (70, 80, 110, 120), (5, 90, 50, 125)], [10, 11, 12])
    everything = copy_paste(sample, donor, keyed_generator(draw), min_visible=0.0)
    windows = pasted_windows(sample, donor, draw)
    fine = 8  # raster cells a pixel
    top = np.full((SIZE * fine, SIZE * fine), -1)
    layers = [*zip(range(4), own, strict=True), *windows]
    for label, box in layers:
        x1, y1, x2, y2 = (round(v * fine) for v in box)
        # An object of the sample hides nothing; a window hides all beneath.
        if label >= 10:
            top[y1:y2, x1:x2] = label
    kept = dict(zip(everything.labels.tolist(), everything.boxes, strict=True))
    strict = copy_paste(sample, donor, keyed_generator(draw), min_visible=0.5)
    np.testing.assert_array_equal(strict.image, everything.image)
    for label, box in layers:
        x1, y1, x2, y2 = (round(v * fine) for v in box)
        rows, columns = np.nonzero(top[y1:y2, x1:x2] == (label if label >= 10 else -1))
        share = len(rows) / ((x2 - x1) * (y2 - y1))
        if abs(share - 0.5) > 0.02:
            assert (label in strict.labels) == (share > 0.5), (label, share)
        if label in kept:
            seen = np.array([columns.min() + x1, rows.min() + y1, columns.max() + x1 + 1, rows.max() + y1 + 1]) / fine
            np.testing.assert_allclose(kept[label], seen, atol=2 / fine)
        else:
            assert share < 0.1  # under MIN_SIDE pixels of a side


def pasted_windows(sample, donor, draw):
    """The windows of a draw, in their order, as (label, box)."""
    pastes = _draw_pastes(sample, donor, keyed_generator(draw))
    labels = {tuple(box): int(label) for box, label in zip(donor.boxes.tolist(), donor.labels, strict=True)}
    return [(labels[tuple(p.source.tolist())], p.mapped(p.source[None])[0]) for p in pastes]


def test_an_object_wholly_covered_is_gone_and_one_beside_it_stays_to_the_bit():
    beside = (0.1, 0.2, 1.1, 127.9)  # narrower than MIN_SIDE: nothing befalls it where nothing is pasted on it
    donor = grey([(40, 40, 100, 100)], [9])
    gone = 0
    for draw in range(60):
        out = copy_paste(grey([(62, 62, 66, 66), beside]), donor, keyed_generator(draw), min_visible=0.2)
        window = out.boxes[out.labels == 9][0]
        covers_small = (window[:2] <= 62).all() and (window[2:] >= 66).all()
        gone += covers_small
        if covers_small:
            assert 0 not in out.labels
        if window[0] >= 1.1:
            np.testing.assert_array_equal(out.boxes[out.labels == 1], np.array([beside], np.float32))
    assert gone > 10


def test_other_objects_in_the_window_come_along_cut_to_it():
    # The small one lies in the large one's window with half of itself, the far one with a tenth.
    boxes = [(20, 20, 60, 60), (50, 30, 70, 40), (56, 50, 96, 58)]
    donor = grey(boxes, [0, 1, 2], [False, True, False])
    whole = 0
    for draw in range(40):
        out = copy_paste(grey(), donor, keyed_generator(draw), min_visible=0.2)
        large = out.boxes[out.labels == 0]
        if len(large) != 1 or (out.labels == 2).any():
            continue  # the far one was pasted too, for its own sake
        whole += 1
        assert sorted(out.labels.tolist()) == [0, 1]
        assert out.ignore[out.labels == 1].tolist() == [True]
        (x1, y1, x2, _), (a1, b1, a2, b2) = large[0], out.boxes[out.labels == 1][0]
        zoom = (x2 - x1) / 40
        # Mirrored or not, its cut side is the window's, 10 of its 20 px wide and 10 px below the window's top.
        assert a2 == pytest.approx(x2) or a1 == pytest.approx(x1)
        np.testing.assert_allclose([a2 - a1, b1 - y1, b2 - b1], np.array([10, 10, 10]) * zoom, rtol=1e-4)
    assert whole > 5


# Ignored regions, limits, nothing to do -------------------------------------------------------------------------------


def test_ignored_regions_stay_while_they_show_and_are_not_pasted():
    donor = grey([(0, 0, 60, 60)], [9])
    small = 0
    for draw in range(60):
        # One region of 4 px, one that is always larger than a window: at least 80 * 80 of 128 * 128 pixels.
        out = copy_paste(
            grey([(60, 60, 64, 64), (10, 10, 120, 120)], [0, 1], [True, True]),
            donor,
            keyed_generator(draw),
            min_visible=0.9,
        )
        window = out.boxes[out.labels == 9][0]
        left = visible_part(boxes_of([(60, 60, 64, 64)]), boxes_of([window]))[1][0]
        assert (0 in out.labels) == (left > 0)
        small += left == 0
        assert 1 in out.labels  # though less than 0.9 of it may show
    assert small > 5
    crowd = grey([(0, 0, 60, 60)], [9], [True])
    own = grey()
    assert copy_paste(own, crowd, keyed_generator(0), min_visible=0.2) is own


@pytest.mark.parametrize(
    "boxes",
    [
        [],
        [(0, 0, LARGEST * SIZE + 1, 10)],
        [(0, 0, 10, SIZE)],
        [(5, 5, 5 + MIN_SIDE, 50)],  # scaled down it would be narrower than MIN_SIDE
        [(5, 5, 5, 5)],
    ],
    ids=["no object", "too wide", "too high", "too narrow", "empty box"],
)
def test_nothing_to_paste_leaves_the_sample_as_it_is(boxes):
    sample = grey([(1, 1, 20, 20)])
    assert copy_paste(sample, grey(boxes), keyed_generator(1), min_visible=0.2) is sample


def test_from_one_to_most_windows_are_pasted():
    donor = grey([(i * 12, 0, i * 12 + 10, 10) for i in range(10)])
    counts = {len(copy_paste(grey(), donor, keyed_generator(i), min_visible=0.0).boxes) for i in range(60)}
    assert counts == set(range(1, MOST + 1))


def test_same_key_same_bytes_other_key_others_and_the_inputs_stay():
    sample, donor = painted([(5, 5, 45, 45)]), painted([(20, 30, 60, 50), (70, 80, 90, 120)])
    before = [array.copy() for s in (sample, donor) for array in (s.image, s.boxes, s.labels, s.ignore)]
    results = [copy_paste(sample, donor, keyed_generator(k), min_visible=0.2) for k in (3, 3, 4)]
    first, second, third = (r.image.tobytes() + r.boxes.tobytes() for r in results)
    assert first == second != third
    after = [array for s in (sample, donor) for array in (s.image, s.boxes, s.labels, s.ignore)]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert results[0].boxes.dtype == np.float32
    assert (results[0].labels.dtype, results[0].ignore.dtype) == (np.int64, np.bool_)


def test_images_need_not_be_square():
    sample = sample_of(np.full((60, 90, 3), 60, np.uint8))
    donor = sample_of(np.full((60, 90, 3), 200, np.uint8), [(10, 10, 50, 30)])
    for draw in range(30):
        box = copy_paste(sample, donor, keyed_generator(draw), min_visible=0.2).boxes[0]
        assert box.min() >= 0
        assert (box[2:] <= (90, 60)).all()
