from dataclasses import fields, replace

import numpy as np
import pytest

from visionkit.data.augment import (
    PRESETS,
    AugmentSettings,
    augment,
    keyed_generator,
    letterboxed,
    preset,
    random_affine,
    random_colour,
    random_crop,
    random_flip,
    shrink,
    with_visible_objects,
)
from visionkit.errors import ConfigError, UsageError
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
        sample, _ = augment(red_rectangle(width, height, box), 320, GEOMETRY[name], keyed_generator(0, draw))
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
    assert seen >= 12  # large zooms and shifts may push it out of sight


def test_flip_left_right_by_hand():
    # 10 wide: x1 = 1, x2 = 4 mirror to 10 - 4 = 6 and 10 - 1 = 9.
    flipped = random_flip(red_rectangle(10, 8, (1, 2, 4, 6)), AugmentSettings(flip_left_right=1), keyed_generator(0))
    assert flipped.boxes.tolist() == [[6, 2, 9, 6]]
    assert red_region(flipped.image).tolist() == [6, 2, 9, 6]


def test_affine_without_motion_is_letterbox():
    sample = red_rectangle(640, 480, (100, 60, 300, 200))
    still = random_affine(sample, 320, AugmentSettings(affine=1), keyed_generator(0))
    plain, _ = letterboxed(sample, 320)
    # 640x480 -> 320x240 in 320x320: half the size, (320 - 240) / 2 = 40 further down.
    assert plain.boxes.tolist() == [[50, 70, 150, 140]]
    np.testing.assert_allclose(still.boxes, plain.boxes, atol=1e-4)
    np.testing.assert_array_equal(still.image, plain.image)


def test_without_augmentation_it_is_letterbox_with_its_frame():
    sample = red_rectangle(641, 333, (100, 60, 300, 200))
    augmented, frame = augment(sample, 320, AugmentSettings(), keyed_generator(0))
    plain, plain_frame = letterboxed(sample, 320)
    np.testing.assert_array_equal(augmented.image, plain.image)
    np.testing.assert_allclose(frame.to_original(augmented.boxes), sample.boxes, atol=1e-3)
    assert frame == plain_frame


def test_crop_keeps_wanted_objects_whole_and_enough_of_the_image():
    image = np.zeros((100, 200, 3), np.uint8)
    sample = sample_of(image, [(50, 40, 60, 50), (90, 10, 99, 20), (0, 90, 200, 100)], [0, 1, 2], [0, 0, 1])
    sizes = set()
    for draw in range(100):
        cropped = random_crop(sample, AugmentSettings(crop=1), keyed_generator(draw))
        height, width = cropped.image.shape[:2]
        assert width >= 60  # 30 % of 200
        assert height >= 30
        assert cropped.labels.tolist()[:2] == [0, 1]
        # Whole: 10x10 and 9x10 still. The third is a crowd, which may be cut.
        assert (cropped.boxes[:2, 2:] - cropped.boxes[:2, :2]).tolist() == [[10, 10], [9, 10]]
        sizes.add((width, height))
    assert len(sizes) > 50


def test_crop_of_a_background_image():
    cropped = random_crop(sample_of(np.zeros((100, 200, 3), np.uint8)), AugmentSettings(crop=1), keyed_generator(3))
    assert cropped.image.shape[0] < 100
    assert cropped.boxes.shape == (0, 4)


def test_labels_and_ignore_stay_with_their_boxes():
    boxes = [(10, 10, 50, 50), (300, 200, 380, 300), (630, 0, 640, 10), (200, 100, 260, 150)]
    sample = sample_of(np.zeros((480, 640, 3), np.uint8), boxes, labels=[4, 9, 2, 7], ignore=[0, 1, 0, 0])
    settings = AugmentSettings(affine=1, scale=0.9, translate=0.5)
    dropped = 0
    for draw in range(50):
        moved = random_affine(sample, 320, settings, keyed_generator(draw))
        assert [int(label) for label in moved.labels] == [label for label in [4, 9, 2, 7] if label in moved.labels]
        assert (moved.ignore == (moved.labels == 9)).all()
        assert (moved.boxes.dtype, moved.labels.dtype, moved.ignore.dtype) == (np.float32, np.int64, np.bool_)
        dropped += len(moved.labels) < 4
    assert dropped > 10


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
    kept = with_visible_objects(sample_of(np.zeros((20, 20, 3), np.uint8), boxes, labels=range(7)), min_visible=0.2)
    assert kept.labels.tolist() == [0, 6]
    assert kept.boxes.tolist() == [[0, 0, 2, 10], [12, 12, 20, 20]]


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_shrink_averages_whole_blocks():
    image = np.repeat(np.arange(7, dtype=np.uint8)[None, :, None] * 10, 3, axis=2).repeat(5, axis=0)  # 7 wide, 5 high
    small, factor = shrink(image, 0.4)  # 1 / 0.4 = 2.5: blocks of 2x2; the 7th column and the 5th row fill none
    assert factor == 2
    assert small[:, :, 0].tolist() == [[5, 25, 45]] * 2  # (0 + 10) / 2, (20 + 30) / 2, (40 + 50) / 2
    assert shrink(image, 0.6)[0] is image


def test_fine_texture_turns_grey_not_into_false_patterns():
    stripes = np.zeros((1600, 1600, 3), np.uint8)
    stripes[:, ::2] = 255
    moved = random_affine(sample_of(stripes), 320, AugmentSettings(affine=1, translate=0.01), keyed_generator(0))
    # Blocks of 5 columns hold 2 or 3 white ones: 2/5 and 3/5 of 255 are 102 and 153. Sampling would find 0 and 255.
    inside = moved.image[20:-20, 20:-20]
    assert inside.min() >= 102
    assert inside.max() <= 153


def test_grey_stays_grey_under_colour_jitter():
    settings = AugmentSettings(hue=0.1, saturation=0.9, brightness=0.3, contrast=0.3)
    grey = sample_of(np.full((8, 8, 3), 90, np.uint8))
    for draw in range(20):
        image = random_colour(grey, settings, keyed_generator(draw)).image.astype(int)
        assert np.ptp(image, axis=2).max() <= 1


@pytest.mark.parametrize("name", ["hue", "saturation", "brightness", "contrast", "grayscale", "blur", "noise"])
def test_each_colour_setting_changes_pixels_only(name):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    sample = sample_of(image, [(1, 1, 9, 9)])
    value = 0.5 if name == "hue" else 1.0
    changed = random_colour(sample, AugmentSettings(**{name: value}), keyed_generator(1))
    assert (changed.image.shape, changed.image.dtype) == ((32, 32, 3), np.uint8)
    assert (changed.image != image).any()
    assert changed.boxes is sample.boxes


def test_input_is_never_written_to():
    sample = red_rectangle(64, 48, (10, 10, 30, 30))
    image, boxes = sample.image.copy(), sample.boxes.copy()
    for draw in range(5):
        augment(sample, 32, replace(PRESETS["heavy"], mosaic=0, noise=1), keyed_generator(draw))
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.boxes, boxes)


# --- awkward input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(1, 1), (4000, 10), (4000, 1), (3, 500), (2, 2)])
@pytest.mark.parametrize("name", [*GEOMETRY, "heavy"])
def test_any_shape_of_image(name, width, height):
    settings = GEOMETRY.get(name, PRESETS["heavy"])
    boxes = [(0, 0, width, height), (0, 0, 0.4, 0.4), (width / 2, 0, width / 2, height)]
    for draw in range(5):
        sample, _ = augment(
            sample_of(np.zeros((height, width, 3), np.uint8), boxes), 64, settings, keyed_generator(draw)
        )
        assert sample.image.shape == (64, 64, 3)


@pytest.mark.parametrize("name", GEOMETRY)
def test_degenerate_boxes_and_backgrounds_do_no_harm(name):
    outside = [(-50, -50, -10, -10), (700, 500, 900, 600), (-1e6, -1e6, 1e6, 1e6)]
    for boxes in ([], [(5, 5, 5, 5)], [(9, 9, 3, 3)], outside):
        for draw in range(5):
            sample = sample_of(np.zeros((480, 640, 3), np.uint8), boxes)
            augmented, _ = augment(sample, 64, GEOMETRY[name], keyed_generator(draw))
            assert augmented.boxes.shape == (len(augmented.labels), 4)
            assert augmented.boxes.dtype == np.float32


# --- randomness -------------------------------------------------------------------------------------------------------


def test_generator_is_a_function_of_its_key():
    draws = {
        key: keyed_generator(*key).random()
        for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0), (0,), (2**40, 3)]
    }
    assert len(set(draws.values())) == len(draws)
    assert all(keyed_generator(*key).random() == value for key, value in draws.items())


def test_flips_are_independent_of_each_other():
    """albumentations' set_random_seed would tie them: always both or none."""
    settings = AugmentSettings(flip_left_right=0.5, flip_up_down=0.5)
    sample = red_rectangle(10, 10, (0, 0, 5, 5))
    corners = [tuple(random_flip(sample, settings, keyed_generator(i)).boxes[0, :2]) for i in range(400)]
    # 100 of each expected, standard deviation sqrt(400 * 1/4 * 3/4) = 8.7; 5 deviations are 43.
    for corner in [(0, 0), (0, 5), (5, 0), (5, 5)]:
        assert 57 <= corners.count(corner) <= 143


def test_colour_draws_are_independent_of_each_other():
    """Gray and blur at 0.5 each: all four combinations occur."""
    settings = AugmentSettings(grayscale=0.5, blur=0.5)
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 8:] = RED
    seen = set()
    for i in range(100):
        out = random_colour(sample_of(image), settings, keyed_generator(i)).image.astype(int)
        seen.add((bool(np.ptp(out, axis=2).max() == 0), len(np.unique(out[8, :, 0])) > 2))
    assert len(seen) == 4


def test_same_key_same_bytes():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    settings = replace(PRESETS["heavy"], noise=1.0, blur=0.5)
    first, second = (augment(sample_of(image), 32, settings, keyed_generator(5, 1, 2))[0].image for _ in range(2))
    other = augment(sample_of(image), 32, settings, keyed_generator(5, 1, 3))[0].image
    assert first.tobytes() == second.tobytes() != other.tobytes()


# --- settings ---------------------------------------------------------------------------------------------------------


def test_presets():
    assert list(PRESETS) == ["none", "light", "heavy"]
    assert preset("none") == AugmentSettings()
    with pytest.raises(UsageError, match="unknown augmentation 'strong'; choose one of none, light, heavy"):
        preset("strong")


@pytest.mark.parametrize("name", [f.name for f in fields(AugmentSettings) if f.name != "mosaic_scale"])
def test_values_out_of_bounds_are_refused(name):
    with pytest.raises(
        ConfigError, match=rf"augment\.{name} must be from 0 to [\d.]+, got -0\.1; choose a value between"
    ):
        AugmentSettings(**{name: -0.1})
    with pytest.raises(ConfigError, match=rf"augment\.{name} must be from 0"):
        AugmentSettings(**{name: float("nan")})


@pytest.mark.parametrize("scale", [(0, 1), (1, 0.5), (1, 5)])
def test_mosaic_scale_is_checked(scale):
    with pytest.raises(
        ConfigError, match=r"augment\.mosaic_scale must rise from above 0 to at most 4, got .*; try 0\.5 to"
    ):
        AugmentSettings(mosaic_scale=scale)


def test_every_setting_is_documented():
    described = AugmentSettings.__doc__.split("Args:")[1]
    for field in fields(AugmentSettings):
        assert field.name in described


def test_every_bound_belongs_to_a_setting():
    from visionkit.data.augment import _BOUNDS

    assert set(_BOUNDS) <= {f.name for f in fields(AugmentSettings)}
