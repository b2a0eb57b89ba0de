"""Pictures that a program hands over."""

import io

import numpy as np
import pytest
from pictures import corners, encoded, exif, four_corners, noise
from PIL import Image

from visionkit.errors import DataError, UsageError
from visionkit.imaging.reader import decode_image
from visionkit.predict import given_pictures
from visionkit.predict.given_pictures import pixels_of_array, pixels_of_pillow


def test_an_array_is_taken_as_it_is():
    picture = noise()
    assert pixels_of_array(picture) is picture
    view = picture[::2, ::2]
    taken = pixels_of_array(view)
    assert taken.flags.c_contiguous
    np.testing.assert_array_equal(taken, view)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 6, 3), np.float32), "float32 [4, 6, 3]"),
        (np.zeros((4, 6), np.uint8), "uint8 [4, 6]"),
        (np.zeros((3, 4, 6), np.uint8), "uint8 [3, 4, 6]"),
        (np.zeros((4, 6, 4), np.uint8), "uint8 [4, 6, 4]"),
        (np.zeros((0, 6, 3), np.uint8), "uint8 [0, 6, 3]"),
        (np.zeros((1, 4, 6, 3), np.uint8), "uint8 [1, 4, 6, 3]"),
    ],
)
def test_an_array_of_another_kind(array, words):
    with pytest.raises(UsageError) as error:
        pixels_of_array(array)
    assert str(error.value) == f"an array is {words}, a picture must be uint8 [height, width, 3] in RGB; convert it"


def test_too_large(monkeypatch):
    monkeypatch.setattr(given_pictures, "MAX_PIXELS", 23)
    array, image = np.zeros((4, 6, 3), np.uint8), Image.new("L", (6, 4))
    for read in (lambda: pixels_of_array(array), lambda: pixels_of_pillow(image, "")):
        with pytest.raises(UsageError, match="a picture is 6x4 pixels, 1 to 0 million are read; scale it down"):
            read()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_an_image_of_pillow_is_what_the_reader_makes_of_its_file(mode):
    image = Image.fromarray(noise())
    image = Image.fromarray(noise()[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    np.testing.assert_array_equal(pixels_of_pillow(image, ""), decode_image(encoded(image, kind), "a"))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_it_is_turned_upright(orientation):
    data = encoded(four_corners(), "PNG", exif=exif(orientation))
    assert corners(pixels_of_pillow(Image.open(io.BytesIO(data)), "")) == corners(decode_image(data, "a"))


def test_a_tiff_is_turned_once():
    data = encoded(four_corners(), "TIFF", exif=exif(6))
    assert corners(pixels_of_pillow(Image.open(io.BytesIO(data)), "")) == corners(decode_image(data, "a"))


def test_modes_without_colours():
    with pytest.raises(UsageError) as error:
        pixels_of_pillow(Image.new("F", (6, 4)), "a.tif")
    assert str(error.value) == "a.tif is of mode F, a picture is grey, palette, RGB or CMYK; convert it"
    with pytest.raises(UsageError, match="an image of Pillow is of mode I, a picture is grey"):
        pixels_of_pillow(Image.new("I", (6, 4)), "")


def test_a_file_that_is_cut_off():
    data = encoded(noise(), "PNG")
    with pytest.raises(DataError, match=r"a\.png cannot be decoded \(.*\); export it again"):
        pixels_of_pillow(Image.open(io.BytesIO(data[: len(data) // 2])), "a.png")
