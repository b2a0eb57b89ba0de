"""Every kind of pixel a file can hold -> 3 x 8 bits, by the rules of `visionkit.imaging.reader`."""

import struct
from io import BytesIO

import numpy as np
import pytest
from pictures import BLUE, GREEN, RED, WHITE, corners, encoded, encoded_by_opencv, four_corners, noise, png, slopes
from PIL import Image

from visionkit.errors import DataError
from visionkit.imaging.reader import decode_image


def read(data: bytes) -> np.ndarray:
    return decode_image(data, "picture")


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB")).astype(int)


# --- bits a channel ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "steps"), [(1, 255), (2, 85), (4, 17), (8, 1)])
def test_grey_of_few_bits_is_stretched(depth: int, steps: int) -> None:
    # From black to white in 2 ** depth - 1 equal steps: of 2 bits 0, 85, 170, 255.
    values = np.arange(2**depth, dtype=np.uint8)[None]
    assert np.array_equal(read(png(values, depth=depth, colour_type=0)), grey(values * steps))


# 0x0100 is one step of 8 bits; 0x01ff is nearly two and keeps one. 65535 / 257 = 255.
SIXTEEN = np.array([[0, 0x00FF, 0x0100, 0x01FF, 0x1234, 0xFFFF]], np.uint16)
EIGHT = np.array([[0, 0, 1, 1, 0x12, 255]], np.uint8)


def test_sixteen_bits_keep_their_upper_eight() -> None:
    big_endian = Image.new("I;16B", (6, 1))
    big_endian.frombytes(SIXTEEN.astype(">u2").tobytes())
    for data in (
        png(SIXTEEN, depth=16, colour_type=0),
        encoded(SIXTEEN, "TIFF"),
        encoded(SIXTEEN, "TIFF", compression="tiff_lzw"),
        encoded_by_opencv(SIXTEEN, ".tif"),
        encoded(big_endian, "TIFF"),
    ):
        assert np.array_equal(read(data), grey(EIGHT))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_of_sixteen_bits_too(suffix: str, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (9, 7, channels), np.uint16)
    seen = read(encoded_by_opencv(values, suffix))
    assert np.array_equal(seen, values[..., :3] >> 8)
    # The nearest of 256 levels is v / 257 rounded: the same, or one beside it.
    assert np.abs(np.round(values[..., :3] / 257) - seen).max() == 1


def test_a_sixteen_bit_picture_of_few_levels_stays_dark() -> None:
    assert read(png(np.array([[0, 4095]]), depth=16, colour_type=0)).max() == 15  # 4095 >> 8


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_white_are_refused(mode: str) -> None:
    with pytest.raises(DataError) as caught:
        read(encoded(Image.new(mode, (2, 2)), "TIFF"))
    assert str(caught.value) == (
        f"picture is a TIFF of 32 bits a channel (mode {mode}), unsigned ones of up to 8 or of 16 are read, grey, "
        "palette, RGB or CMYK; export it as 8-bit RGB"
    )


# --- colours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_one_channel_becomes_three(image_format: str, mode: str) -> None:
    picture = Image.fromarray(slopes()).convert(mode)
    expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(read(encoded(picture, image_format)), expected)
    if mode == "1":
        assert set(np.unique(expected)) == {0, 255}


def test_a_grey_jpeg_has_three_equal_channels() -> None:
    seen = read(encoded(slopes(), "JPEG", "L", quality=95))
    assert (seen == seen[..., :1]).all()
    assert np.abs(seen.astype(int) - by_pillow(encoded(slopes(), "PNG", "L"))).max() <= 3


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette_colours_are_looked_up(depth: int) -> None:
    palette = np.random.default_rng(0).integers(0, 256, (2**depth, 3), np.uint8)
    indices = np.random.default_rng(1).integers(0, 2**depth, (5, 11))
    data = png(indices, depth=depth, colour_type=3, chunks={b"PLTE": palette.tobytes()})
    assert np.array_equal(read(data), palette[indices])


# What Pillow makes of the inks C and K: (255 - C) * (255 - K) / 255 of red, and so on.
def test_cmyk_is_inks_on_white() -> None:
    inks = noise().astype(int)
    black = inks[..., 0] // 2
    cmyk = np.dstack([inks, black]).astype(np.uint8)
    expected = (255 - inks) * (255 - black[..., None]) / 255
    picture = Image.fromarray(cmyk, "CMYK")
    assert np.abs(read(encoded(picture, "TIFF")) - expected).max() <= 1


@pytest.mark.parametrize("marked", [True, False])
def test_cmyk_jpeg_is_stored_inverted_as_adobe_does(marked: bool) -> None:
    data = encoded(four_corners(), "JPEG", "CMYK", quality=95)
    adobe = data.index(b"\xff\xee")  # the APP14 segment; its length follows
    (length,) = struct.unpack(">H", data[adobe + 2 : adobe + 4])
    assert data[adobe + 4 : adobe + 9] == b"Adobe"
    if not marked:  # as some tools write it
        data = data[:adobe] + data[adobe + 2 + length :]
    seen = read(data)
    assert corners(seen) == [RED, GREEN, BLUE, WHITE]
    assert np.abs(seen - by_pillow(data)).max() <= 2


def test_a_jpeg_that_holds_rgb_itself_is_taken_as_it_is() -> None:
    data = encoded(slopes(), "JPEG", quality=95, keep_rgb=True)
    assert np.abs(read(data).astype(int) - slopes()).max() <= 4
    assert np.abs(read(data) - by_pillow(data)).max() <= 1


def test_a_tiff_of_luma_and_chroma() -> None:
    data = encoded(slopes(), "TIFF", "YCbCr")
    assert np.abs(read(data).astype(int) - slopes()).max() <= 3


def test_gamma_and_profiles_are_ignored() -> None:
    picture = slopes(5, 6)
    gamma = {b"gAMA": struct.pack(">I", 100_000)}  # 1.0: the values are linear light
    assert np.array_equal(read(png(picture, depth=8, colour_type=2, chunks=gamma)), picture)
    assert np.array_equal(read(encoded(picture, "PNG", icc_profile=b"not a profile")), picture)


# --- transparency -----------------------------------------------------------------------------------------------------


def faded() -> np.ndarray:
    """u8 [40, 48, 4]: `slopes`, clear at the left and opaque at the right."""
    picture = slopes()
    return np.dstack([picture, picture[..., 0]])


@pytest.mark.parametrize(
    "data",
    [
        encoded(faded(), "PNG"),
        encoded(faded(), "WEBP", lossless=True, exact=True),
        encoded(faded(), "TIFF"),
        encoded(faded(), "TIFF", compression="tiff_lzw"),
        encoded_by_opencv(faded(), ".bmp"),
        encoded_by_opencv(faded(), ".tif"),
    ],
    ids=["png", "webp", "tiff", "tiff-lzw", "bmp", "tiff-of-opencv"],
)
def test_transparency_is_dropped_and_the_colour_under_it_kept(data: bytes) -> None:
    assert np.array_equal(read(data), slopes())


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_of_grey_with_alpha_the_grey_stays(image_format: str) -> None:
    picture = Image.fromarray(faded()).convert("LA")
    expected = grey(np.asarray(picture)[..., 0])
    assert np.array_equal(read(encoded(picture, image_format)), expected)


def test_grey_with_alpha_of_sixteen_bits() -> None:
    values = np.dstack([SIXTEEN, SIXTEEN[:, ::-1]])
    assert np.array_equal(read(png(values, depth=16, colour_type=4)), grey(EIGHT))


def test_colours_declared_transparent_stay() -> None:
    palette = {b"PLTE": bytes([*RED, *GREEN]), b"tRNS": b"\x00\x80"}
    indices = np.array([[0, 1]])
    assert read(png(indices, depth=8, colour_type=3, chunks=palette)).tolist() == [[[*RED], [*GREEN]]]
    clear_grey = {b"tRNS": struct.pack(">H", 7)}
    assert read(png(np.array([[7, 9]]), depth=8, colour_type=0, chunks=clear_grey))[0, :, 0].tolist() == [7, 9]
    clear_red = {b"tRNS": struct.pack(">HHH", *RED)}
    picture = np.array([[RED, BLUE]])
    assert np.array_equal(read(png(picture, depth=8, colour_type=2, chunks=clear_red)), picture)


def test_a_transparent_colour_of_a_gif_stays() -> None:
    picture = Image.fromarray(four_corners()).quantize(4)
    index = picture.getpixel((0, 0))
    assert corners(read(encoded(picture, "GIF", transparency=index))) == [RED, GREEN, BLUE, WHITE]


# --- several pictures in a file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_or_pages_the_first_is_read(image_format: str) -> None:
    options = {"lossless": True} if image_format == "WEBP" else {}
    first, second = Image.fromarray(four_corners()), Image.new("RGB", (24, 16), "black")
    data = encoded(first, image_format, save_all=True, append_images=[second], **options)
    assert corners(read(data)) == [RED, GREEN, BLUE, WHITE]
