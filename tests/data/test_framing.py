"""One image in the square. Boxes are judged by where the red rectangle is that they belong to."""

from dataclasses import replace

import numpy as np
import pytest

from visionkit.data.augment import PRESETS, AugmentSettings, keyed_generator
from visionkit.data.framing import (
    Motion,
    Window,
    framed,
    letterboxed,
    random_framing,
    random_mirroring,
    random_motion,
    random_transpose,
    random_window,
)
from visionkit.types import Sample

RED = (255, 0, 0)
GEOMETRY = {
    "flip left right": AugmentSettings(flip_left_right=1),
    "flip up down": AugmentSettings(flip_up_down=1),
    "both flips": AugmentSettings(flip_left_right=1, flip_up_down=1),
    "crop": AugmentSettings(crop=1),
    "translate": AugmentSettings(affine=1, translate=0.3),
    "zoom": AugmentSettings(affine=1, scale=0.6),
    "rotate": AugmentSettings(affine=1, degrees=180),
    "shear": AugmentSettings(affine=1, shear=20),
    "all but turns": AugmentSettings(
        flip_left_right=0.5, flip_up_down=0.5, crop=0.5, affine=1, translate=0.2, scale=0.5
    ),
    "all": AugmentSettings(
        flip_left_right=0.5, flip_up_down=0.5, crop=0.5, affine=1, degrees=30, translate=0.2, scale=0.5, shear=10
    ),
}


def sample_of(image, boxes=(), labels=None, ignore=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.zeros(len(boxes)) if labels is None else labels
    ignore = np.zeros(len(boxes)) if ignore is None else ignore
    return Sample(image, boxes, np.array(labels, np.int64), np.array(ignore, np.bool_), image_id=7)


def red_rectangle(width, height, box):
    """A black picture with one red rectangle, which is its only object."""
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = RED
    return sample_of(image, [box])


def red_region(image):
    """The box around the red pixels of an image: 114-grey padding and black are not red."""
    rows, columns = np.nonzero((image[:, :, 0] > 127) & (image[:, :, 1] < 50))
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


# --- where boxes go ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize(("width", "height"), [(640, 480), (90, 130), (3000, 2000)], ids=str)
def test_box_stays_on_its_object(name, width, height):
    box = (width // 3, height // 4, width // 2, height // 2)
    turns = GEOMETRY[name].degrees > 0 or GEOMETRY[name].shear > 0
    seen = 0
    for draw in range(15):
        sample, _ = random_framing(red_rectangle(width, height, box), 320, GEOMETRY[name], keyed_generator(0, draw))
        assert sample.image.shape == (320, 320, 3)
        if len(sample.boxes):
            seen += 1
            found, region = sample.boxes[0], red_region(sample.image)
            if turns and (found.min() == 0 or found.max() == 320):
                # The border cuts off a corner of the turned rectangle that its box still reaches out for.
                assert (found[:2] <= region[:2] + 1.6).all()
                assert (found[2:] >= region[2:] - 1.6).all()
            else:
                np.testing.assert_allclose(found, region, atol=1.6)
    assert seen >= 11  # large zooms and shifts may push it out of sight


def test_mirrored_by_hand():
    # 10 wide and high, drawn at its size: x1 = 1, x2 = 4 mirror to 10 - 4 = 6 and 10 - 1 = 9.
    sample = red_rectangle(10, 10, (1, 2, 4, 6))
    flipped = framed(sample, 10, mirrored=(True, False))
    assert flipped.boxes.tolist() == [[6, 2, 9, 6]]
    np.testing.assert_array_equal(flipped.image, sample.image[:, ::-1])
    both = framed(sample, 10, mirrored=(True, True))
    assert both.boxes.tolist() == [[6, 4, 9, 8]]
    np.testing.assert_array_equal(both.image, sample.image[::-1, ::-1])


def test_window_and_motion_by_hand():
    sample = red_rectangle(80, 60, (30, 20, 40, 40))
    # The window is 40x40 px: in a square of 80 everything doubles. x 30 - 20 = 10 -> 20, y 20 - 10 = 10 -> 20.
    assert framed(sample, 80, window=Window(20, 10, 60, 50)).boxes.tolist() == [[20, 20, 40, 60]]
    # Mirrored it runs from 80 - 40 = 40 to 80 - 20 = 60, and shifted by a quarter of 80 from 60 to 80.
    moved = framed(sample, 80, (True, False), Window(20, 10, 60, 50), Motion(shift_x=0.25))
    assert moved.boxes.tolist() == [[60, 20, 80, 60]]
    assert red_region(moved.image).tolist() == [60, 20, 80, 60]
    assert (moved.image[:, :20] == 114).all()


def test_what_a_window_cuts_away_never_shows():
    """A zoom out shows grey around the window, not the rest of the image."""
    image = np.full((40, 40, 3), RED, np.uint8)
    image[10:30, 10:30] = 0
    for angle in (0.0, 0.3):
        motion = Motion(angle=angle, zoom=0.5)
        out = framed(sample_of(image), 64, window=Window(10, 10, 30, 30), motion=motion).image
        assert (out[:, :, 0] <= 114).all()
        assert (out == 0).any()


def test_motion_that_stands_still_is_letterbox():
    sample = red_rectangle(640, 480, (100, 60, 300, 200))
    still = framed(sample, 320, motion=Motion())
    plain, _ = letterboxed(sample, 320)
    # 640x480 -> 320x240 in 320x320: half the size, (320 - 240) / 2 = 40 further down.
    assert plain.boxes.tolist() == [[50, 70, 150, 140]]
    np.testing.assert_allclose(still.boxes, plain.boxes, atol=1e-4)
    np.testing.assert_array_equal(still.image, plain.image)


def test_windows_and_warp_agree():
    """The same map, once as a window and once, with a turn too small to see, as a warp."""
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    sample = sample_of(image, [(20, 20, 60, 80), (100, 40, 140, 100)])
    for mirrored in [(False, False), (True, False), (True, True)]:
        # 160x120 in 320: doubled. The shift of 1/8 is 40 pixels, so no rounding sets the two apart.
        by_window = framed(sample, 320, mirrored, motion=Motion(shift_x=0.125, shift_y=-0.125))
        by_warp = framed(sample, 320, mirrored, motion=Motion(angle=1e-9, shift_x=0.125, shift_y=-0.125))
        np.testing.assert_allclose(by_window.boxes, by_warp.boxes, atol=1e-3)
        # At its border the warp blends in what lies beyond, grey or the rest of the image, and the window does not.
        shown = np.zeros((320, 320), bool)
        shown[2:238, 42:318] = True
        assert np.abs(by_window.image.astype(int) - by_warp.image)[shown].max() <= 4


def test_without_augmentation_it_is_letterbox_with_its_frame():
    sample = red_rectangle(641, 333, (100, 60, 300, 200))
    augmented, frame = random_framing(sample, 320, AugmentSettings(), keyed_generator(0))
    plain, plain_frame = letterboxed(sample, 320)
    np.testing.assert_array_equal(augmented.image, plain.image)
    np.testing.assert_allclose(frame.to_original(augmented.boxes), sample.boxes, atol=1e-3)
    assert frame == plain_frame


def test_window_keeps_wanted_objects_whole_and_enough_of_the_image():
    sample = sample_of(
        np.zeros((100, 200, 3), np.uint8), [(50, 40, 60, 50), (90, 10, 99, 20), (0, 90, 200, 100)], [0, 1, 2], [0, 0, 1]
    )
    windows = {random_window(sample, keyed_generator(draw)) for draw in range(100)}
    for left, top, right, bottom in windows:
        assert right - left >= 60  # 30 % of 200
        assert bottom - top >= 30
        # Around the first two objects; the third is a crowd, which may be cut.
        assert left <= 50
        assert right >= 99
        assert top <= 10
        assert bottom >= 50
    assert len(windows) > 50


def test_window_of_a_background_image():
    left, top, right, bottom = random_window(sample_of(np.zeros((100, 200, 3), np.uint8)), keyed_generator(3))
    assert 0 <= left < right <= 200
    assert 0 <= top < bottom <= 100
    assert bottom - top < 100


def test_labels_and_ignore_stay_with_their_boxes():
    boxes = [(10, 10, 50, 50), (300, 200, 380, 300), (630, 0, 640, 10), (200, 100, 260, 150)]
    sample = sample_of(np.zeros((480, 640, 3), np.uint8), boxes, labels=[4, 9, 2, 7], ignore=[0, 1, 0, 0])
    settings = AugmentSettings(affine=1, scale=0.9, translate=0.5)
    dropped = 0
    for draw in range(50):
        moved, _ = random_framing(sample, 320, settings, keyed_generator(draw))
        assert [int(label) for label in moved.labels] == [label for label in [4, 9, 2, 7] if label in moved.labels]
        assert (moved.ignore == (moved.labels == 9)).all()
        assert (moved.boxes.dtype, moved.labels.dtype, moved.ignore.dtype) == (np.float32, np.int64, np.bool_)
        dropped += len(moved.labels) < 4
    assert dropped > 10


@pytest.mark.parametrize("name", ["translate", "zoom", "rotate", "crop"])
def test_an_ignored_region_stays_while_it_shows(name):
    """A crowd along the left side, which crops and shifts may cut."""
    sample = red_rectangle(640, 480, (0, 0, 120, 480))
    wanted = replace(
        sample,
        boxes=np.concatenate((sample.boxes, np.array([[300, 200, 340, 240]], np.float32))),
        labels=np.array([0, 1]),
        ignore=np.array([True, False]),
    )
    settings = replace(GEOMETRY[name], min_visible=1.0)
    for draw in range(15):
        moved, _ = random_framing(wanted, 320, settings, keyed_generator(3, draw))
        shows = ((moved.image[:, :, 0] > 200) & (moved.image[:, :, 1] < 50)).sum() > 40
        assert (0 in moved.labels) or not shows


@pytest.mark.parametrize("name", ["flip left right", "zoom", "rotate"])
def test_drawn_on_a_given_square_it_is_the_same(name):
    sample = red_rectangle(64, 48, (10, 10, 30, 30))
    squares = np.full((3, 32, 32, 3), 7, np.uint8)
    for settings in (AugmentSettings(), GEOMETRY[name]):
        fresh, _ = random_framing(sample, 32, settings, keyed_generator(1))
        given, _ = random_framing(sample, 32, settings, keyed_generator(1), squares[1])
        assert given.image is not fresh.image
        np.testing.assert_array_equal(squares[1], fresh.image)
        np.testing.assert_array_equal(given.boxes, fresh.boxes)
    assert (squares[[0, 2]] == 7).all()


def test_input_is_never_written_to():
    sample = red_rectangle(64, 48, (10, 10, 30, 30))
    sample.image.flags.writeable = sample.boxes.flags.writeable = False
    for settings in GEOMETRY.values():
        for draw in range(5):
            random_framing(sample, 32, settings, keyed_generator(draw))


def test_fine_texture_turns_grey_not_into_false_patterns():
    stripes = np.zeros((1600, 1600, 3), np.uint8)
    stripes[:, ::2] = 255
    for angle in (0.0, 0.01):
        moved = framed(sample_of(stripes), 320, motion=Motion(angle=angle, shift_x=0.003))
        # Each block of 4 columns holds two white ones: half of 255. Sampling alone would find 0 and 255.
        inside = moved.image[20:-20, 20:-20]
        assert inside.min() >= 127
        assert inside.max() <= 128


# --- awkward input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(1, 1), (4000, 10), (4000, 1), (3, 500), (2, 2)])
@pytest.mark.parametrize("name", [*GEOMETRY, "heavy"])
def test_any_shape_of_image(name, width, height):
    settings = GEOMETRY.get(name, PRESETS["heavy"])
    boxes = [(0, 0, width, height), (0, 0, 0.4, 0.4), (width / 2, 0, width / 2, height)]
    image = np.zeros((height, width, 3), np.uint8)
    for draw in range(5):
        sample, _ = random_framing(sample_of(image, boxes), 64, settings, keyed_generator(draw))
        assert sample.image.shape == (64, 64, 3)
        assert (sample.boxes >= 0).all()
        assert (sample.boxes <= 64).all()


@pytest.mark.parametrize("name", GEOMETRY)
def test_degenerate_boxes_and_backgrounds_do_no_harm(name):
    outside = [(-50, -50, -10, -10), (700, 500, 900, 600), (-1e6, -1e6, 1e6, 1e6)]
    for boxes in ([], [(5, 5, 5, 5)], outside):
        for draw in range(5):
            sample = sample_of(np.zeros((480, 640, 3), np.uint8), boxes)
            moved, _ = random_framing(sample, 64, GEOMETRY[name], keyed_generator(draw))
            assert moved.boxes.shape == (len(moved.labels), 4)
            assert moved.boxes.dtype == np.float32


# --- randomness -------------------------------------------------------------------------------------------------------


def test_flips_are_independent_of_each_other():
    settings = AugmentSettings(flip_left_right=0.5, flip_up_down=0.5)
    seen = [random_mirroring(settings, keyed_generator(i)) for i in range(400)]
    # 100 of each expected, standard deviation sqrt(400 * 1/4 * 3/4) = 8.7; 5 deviations are 43.
    for both in [(False, False), (False, True), (True, False), (True, True)]:
        assert 57 <= seen.count(both) <= 143


def test_motion_stays_within_its_bounds_and_fills_them():
    settings = AugmentSettings(degrees=90, shear=30, scale=0.4, translate=0.1)
    motions = np.array([random_motion(settings, keyed_generator(i)) for i in range(300)])
    low = [-np.pi / 2, -np.pi / 6, -np.pi / 6, 0.6, -0.1, -0.1]
    high = [np.pi / 2, np.pi / 6, np.pi / 6, 1.4, 0.1, 0.1]
    assert (motions >= low).all()
    assert (motions <= high).all()
    # The largest of 300 draws falls short of the end by more than 5 % once in (1 - 0.025)^-300 = 2,000 times.
    np.testing.assert_allclose((motions.max(axis=0) - motions.min(axis=0)), np.subtract(high, low), rtol=0.06)


def test_same_key_same_bytes():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    settings = replace(PRESETS["heavy"], affine=1)
    first, second, other = (
        random_framing(sample_of(image), 32, settings, keyed_generator(5, 1, k))[0].image.tobytes() for k in (2, 2, 3)
    )
    assert first == second != other


def test_transposing_swaps_rows_and_columns_and_keeps_objects_where_they_are() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[1:3, 0:5] = 200  # 5 wide and 2 high at (0, 1)
    sample = Sample(image, np.array([[0, 1, 5, 3]], np.float32), np.array([2]), np.array([False]), image_id=1)
    turned = random_transpose(sample, AugmentSettings(transpose=1.0), keyed_generator(0))
    assert turned.image.shape == (6, 4, 3)
    assert turned.boxes.tolist() == [[1, 0, 3, 5]]
    assert (turned.image[0:5, 1:3] == 200).all()
    assert turned.image.sum() == sample.image.sum()
    assert random_transpose(sample, AugmentSettings(), keyed_generator(0)) is sample
