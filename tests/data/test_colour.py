import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from visionkit.data.augment import PRESETS, AugmentSettings, keyed_generator
from visionkit.data.colour import colour_matrix, random_colour, random_colour_matrix
from visionkit.types import Sample

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def sample_of(image):
    return Sample(image, np.array([[1, 1, 9, 9]], np.float32), np.zeros(1, np.int64), np.zeros(1, np.bool_), 7)


def random_image(height=32, width=33):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mapped(matrix, colour):
    return (matrix @ (*colour, 1)).round(6).tolist()


# --- the matrix -------------------------------------------------------------------------------------------------------


def test_matrix_of_nothing_changes_nothing():
    np.testing.assert_allclose(colour_matrix(), np.eye(3, 4), atol=1e-12)


def test_hue_turns_the_colour_circle():
    # A third of a turn takes red to green, green to blue, blue to red.
    third = colour_matrix(hue=1 / 3)
    assert [mapped(third, colour) for colour in (RED, GREEN, BLUE)] == [list(GREEN), list(BLUE), list(RED)]
    # Half a turn mirrors red at the grey of its sum: (85, 85, 85) * 2 - (255, 0, 0).
    assert mapped(colour_matrix(hue=0.5), RED) == [-85, 170, 170]


def test_saturation_is_the_distance_from_the_grey_of_the_same_luma():
    # Luma of (100, 50, 200): 29.9 + 29.35 + 22.8 = 82.05.
    assert mapped(colour_matrix(saturation=0), (100, 50, 200)) == [82.05] * 3
    # Twice the distance: 82.05 + 2 * (100 - 82.05) = 117.95, 82.05 + 2 * -32.05 = 17.95, 82.05 + 2 * 117.95 = 317.95.
    assert mapped(colour_matrix(saturation=2), (100, 50, 200)) == [117.95, 17.95, 317.95]


def test_contrast_turns_about_the_padding():
    assert mapped(colour_matrix(contrast=0.5), (114, 14, 214)) == [114, 64, 164]


def test_brightness_and_contrast_compose():
    # First half the brightness, (100, 50, 0), then twice the distance from 114: 114 + 2 * (100 - 114) = 86, ...
    assert mapped(colour_matrix(brightness=0.5, contrast=2), (200, 100, 0)) == [86, -14, -114]


def test_matrix_is_the_product_of_its_parts():
    whole = np.vstack((colour_matrix(0.1, 0.5, 0.8, 1.4), (0, 0, 0, 1)))
    parts = [{"hue": 0.1}, {"saturation": 0.5}, {"brightness": 0.8}, {"contrast": 1.4}]
    product = np.eye(4)
    for part in parts:
        product = np.vstack((colour_matrix(**part), (0, 0, 0, 1))) @ product
    np.testing.assert_allclose(whole, product, atol=1e-12)


@pytest.mark.parametrize("extreme", [(0.5, 2.0, 2.0, 2.0), (-0.3, 0.0, 0.5, 2.0), (0.1, 2.0, 1.0, 0.0)])
def test_image_is_what_the_matrix_says(extreme):
    """Against the definition, pixel by pixel: OpenCV reckons in fixed point, which may be off by one."""

    class Ends:
        """A generator whose draws are the ends of the settings' ranges."""

        def uniform(self, low, high, count):
            hue, *factors = extreme
            return np.array([hue / 0.5, *(f - 1 for f in factors)])

    image = random_image()
    settings = AugmentSettings(hue=0.5, saturation=1, brightness=1, contrast=1)
    out = random_colour(sample_of(image), settings, Ends()).image
    matrix = colour_matrix(*extreme)
    expected = np.array([[np.clip(np.rint(matrix @ (*pixel, 1)), 0, 255) for pixel in row] for row in image])
    assert np.abs(out.astype(int) - expected).max() <= 1


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_grey_stays_grey_under_colour_jitter():
    settings = AugmentSettings(hue=0.1, saturation=0.9, brightness=0.3, contrast=0.3)
    grey = sample_of(np.full((8, 8, 3), 90, np.uint8))
    for draw in range(20):
        image = random_colour(grey, settings, keyed_generator(draw)).image.astype(int)
        assert np.ptp(image, axis=2).max() <= 1


@pytest.mark.parametrize("name", ["hue", "saturation", "brightness", "contrast", "grayscale", "blur", "noise"])
def test_each_colour_setting_changes_pixels_only(name):
    image = random_image()
    sample = sample_of(image.copy())
    value = 0.5 if name == "hue" else 1.0
    changed = random_colour(sample, AugmentSettings(**{name: value}), keyed_generator(1))
    assert (changed.image.shape, changed.image.dtype) == (image.shape, np.uint8)
    assert (changed.image != image).any()
    np.testing.assert_array_equal(sample.image, image)  # the sample itself stays as it was
    assert changed.boxes is sample.boxes


def test_grayscale_is_grey_and_as_probable_as_said():
    settings = AugmentSettings(grayscale=0.5, hue=0.1, saturation=0.5)
    spread = [
        np.ptp(random_colour(sample_of(random_image(8, 8)), settings, keyed_generator(i)).image.astype(int), axis=2)
        for i in range(200)
    ]
    # 100 expected, standard deviation sqrt(200 / 4) = 7; 5 deviations are 35. A channel may round apart by one.
    assert 65 <= sum(s.max() <= 1 for s in spread) <= 135


def test_nothing_to_vary_is_no_matrix():
    assert random_colour_matrix(AugmentSettings(), keyed_generator(0)) is None
    sample = sample_of(random_image())
    assert random_colour(sample, AugmentSettings(), keyed_generator(0)).image is sample.image


def test_drawn_where_told():
    """On another image, or on the sample's own."""
    settings = replace(PRESETS["heavy"], blur=0.5, noise=0.5)
    for draw in range(12):
        image = random_image()
        expected = random_colour(sample_of(image), settings, keyed_generator(draw)).image
        out = np.zeros_like(image)
        assert random_colour(sample_of(image), settings, keyed_generator(draw), out).image is out
        np.testing.assert_array_equal(out, expected)
        random_colour(sample_of(image), settings, keyed_generator(draw), image)
        np.testing.assert_array_equal(image, expected)
    random_colour(sample_of(random_image()), AugmentSettings(), keyed_generator(0), out)
    np.testing.assert_array_equal(out, random_image())


def test_draws_are_independent_of_each_other():
    """Grey and blur at 0.5 each: all four combinations occur."""
    settings = AugmentSettings(grayscale=0.5, blur=0.5)
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 8:] = RED
    seen = set()
    for i in range(100):
        out = random_colour(sample_of(image), settings, keyed_generator(i)).image.astype(int)
        seen.add((bool(np.ptp(out, axis=2).max() == 0), len(np.unique(out[8, :, 0])) > 2))
    assert len(seen) == 4


def test_same_key_same_bytes():
    settings = replace(PRESETS["heavy"], noise=1.0, blur=0.5)
    first, second, other = (
        random_colour(sample_of(random_image()), settings, keyed_generator(5, 1, k)).image.tobytes() for k in (2, 2, 3)
    )
    assert first == second != other


def test_albumentations_is_imported_for_blur_and_noise_only():
    """Its import takes seconds in every worker."""
    program = """
import sys
import numpy as np
from visionkit.data.augment import AugmentSettings, keyed_generator
from visionkit.data.colour import random_colour
from visionkit.types import Sample
sample = Sample(np.zeros((8, 8, 3), np.uint8), np.zeros((0, 4)), np.zeros(0), np.zeros(0), 1)
jitter = dict(hue=0.1, saturation=0.5, brightness=0.5, contrast=0.5, grayscale=0.5)
for i in range(20):
    random_colour(sample, AugmentSettings(**jitter, blur=1e-9, noise=1e-9), keyed_generator(i))
print("albumentations" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
