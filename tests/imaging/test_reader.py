import os
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from reference_data import reference_data

from visionkit.errors import DataError
from visionkit.imaging import reader
from visionkit.imaging.reader import decode_image, read_image, read_size

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def four_corners() -> np.ndarray:
    """u8 [16, 24, 3]: red | green over blue | white, so that each turn and flip can be told from the others."""
    picture = np.zeros((16, 24, 3), np.uint8)
    picture[:8, :12], picture[:8, 12:], picture[8:, :12], picture[8:, 12:] = RED, GREEN, BLUE, WHITE
    return picture


def corners(picture: np.ndarray) -> list[tuple[int, ...]]:
    """Top left, top right, bottom left, bottom right; rounded to 0 or 255, as JPEG is off by a little."""
    return [tuple(255 * (picture[y, x] > 127).astype(int)) for y in (1, -2) for x in (1, -2)]


def encoded(picture: np.ndarray | Image.Image, image_format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def file_of(folder: Path, data: bytes, name: str = "picture") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


# --- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_come_back_pixel_for_pixel_in_rgb(tmp_path: Path, image_format: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    path = file_of(tmp_path, encoded(picture, image_format))
    assert np.array_equal(read_image(path), picture)
    assert read_size(path) == (5, 7)


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP"])
def test_lossy_formats_keep_their_colours(tmp_path: Path, image_format: str) -> None:
    path = file_of(tmp_path, encoded(four_corners(), image_format, quality=95))
    assert corners(read_image(path)) == [RED, GREEN, BLUE, WHITE]
    assert read_size(path) == (24, 16)


def test_the_result_is_contiguous_and_the_callers_own(tmp_path: Path) -> None:
    image = read_image(file_of(tmp_path, encoded(four_corners(), "JPEG", exif=exif(6))))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable


# The EXIF standard's table: orientation says where row 0 and column 0 of the stored pixels belong. Stored is
# red | green over blue | white; the four colours below are top left, top right, bottom left, bottom right upright.
UPRIGHT = {
    1: [RED, GREEN, BLUE, WHITE],
    2: [GREEN, RED, WHITE, BLUE],  # row 0 is the top, column 0 the right side: mirrored
    3: [WHITE, BLUE, GREEN, RED],  # bottom, right: half a turn
    4: [BLUE, WHITE, RED, GREEN],  # bottom, left: upside down and mirrored
    5: [RED, BLUE, GREEN, WHITE],  # left, top: rows become columns
    6: [BLUE, RED, WHITE, GREEN],  # right, top: a quarter turn clockwise
    7: [WHITE, GREEN, BLUE, RED],  # right, bottom
    8: [GREEN, WHITE, RED, BLUE],  # left, bottom: a quarter turn counter-clockwise
}


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_exactly_once(tmp_path: Path, image_format: str, orientation: int) -> None:
    options = {} if image_format == "TIFF" else {"quality": 95}
    path = file_of(tmp_path, encoded(four_corners(), image_format, exif=exif(orientation), **options))
    image = read_image(path)
    assert corners(image) == UPRIGHT[orientation]
    size = (24, 16) if orientation < 5 else (16, 24)
    assert (image.shape[1], image.shape[0]) == read_size(path) == size
    with Image.open(path) as judge:
        assert corners(np.asarray(ImageOps.exif_transpose(judge))) == UPRIGHT[orientation]


@pytest.mark.parametrize("block", [exif(0).tobytes(), exif(9).tobytes(), b"Exif\0\0no tiff header at all", b"Exif"])
def test_unknown_orientation_means_as_stored(tmp_path: Path, block: bytes) -> None:
    path = file_of(tmp_path, encoded(four_corners(), "JPEG", quality=95, exif=block))
    assert corners(read_image(path)) == [RED, GREEN, BLUE, WHITE]
    assert read_size(path) == (24, 16)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = read_image(file_of(tmp_path, encoded(grey, "PNG")))
    assert np.array_equal(image, np.repeat(grey[..., None], 3, axis=2))


def test_transparency_is_dropped_and_the_colour_under_it_kept(tmp_path: Path) -> None:
    rgba = np.full((2, 2, 4), (10, 20, 30, 0), np.uint8)
    assert (read_image(file_of(tmp_path, encoded(rgba, "PNG"))) == (10, 20, 30)).all()


def test_sixteen_bits_keep_their_upper_eight(tmp_path: Path) -> None:
    grey16 = np.array([[0, 0x1234, 0xFFFF]], np.uint16)  # 0x12 = 18, 0xff = 255
    assert read_image(file_of(tmp_path, encoded(grey16, "PNG")))[0, :, 0].tolist() == [0, 18, 255]


def test_palette_colours_are_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(four_corners()).quantize(4)
    assert corners(read_image(file_of(tmp_path, encoded(image, "PNG")))) == [RED, GREEN, BLUE, WHITE]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(four_corners()).convert("CMYK")
    assert corners(read_image(file_of(tmp_path, encoded(image, "JPEG", quality=95)))) == [RED, GREEN, BLUE, WHITE]


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    first, second = Image.fromarray(four_corners()), Image.new("RGB", (24, 16), "black")
    path = file_of(tmp_path, encoded(first, "GIF", save_all=True, append_images=[second]))
    if not cv2.haveImageReader(os.fspath(path)):
        with pytest.raises(DataError, match="this OpenCV reads no GIF"):
            read_image(path)
        return
    assert corners(read_image(path)) == [RED, GREEN, BLUE, WHITE]
    assert read_size(path) == (24, 16)


def test_the_content_decides_the_format_and_not_the_suffix(tmp_path: Path) -> None:
    path = file_of(tmp_path, encoded(four_corners(), "PNG"), "picture.jpg")
    assert corners(read_image(path)) == [RED, GREEN, BLUE, WHITE]


def test_a_jpeg_with_something_appended_is_whole(tmp_path: Path) -> None:
    # Phones append a video, whose bytes may look like another start of scan (FF DA).
    path = file_of(tmp_path, encoded(four_corners(), "JPEG", quality=95) + b"\xff\xda a video")
    assert corners(read_image(path)) == [RED, GREEN, BLUE, WHITE]


# --- refusals: one line that names the file, whatever is wrong -------------------------------------------------------


def refusal(path: Path) -> str:
    """What `read_image` says of a file, without its name, after checking that it is one line that names it."""
    with pytest.raises(DataError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert "\n" not in message
    return message.removeprefix(f"{path} ")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.55, 0.9, 0.99])
def test_a_file_cut_off_is_refused(tmp_path: Path, image_format: str, share: float) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(picture, image_format)
    message = refusal(file_of(tmp_path, data[: int(share * len(data))]))
    assert "cut off" in message or "damaged" in message


def test_a_cut_off_jpeg_is_refused_although_its_thumbnail_is_whole(tmp_path: Path) -> None:
    thumbnail = encoded(four_corners(), "JPEG")  # ends in the mark FF D9, well before the cut
    block = b"Exif\0\0" + exif(1).tobytes().removeprefix(b"Exif\0\0") + thumbnail
    data = encoded(four_corners(), "JPEG", exif=block)
    assert data.count(b"\xff\xd9") == 2
    assert refusal(file_of(tmp_path, data[:-2])) == (
        "is cut off, a JPEG must reach its end mark; copy or export it again"
    )


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert refusal(file_of(tmp_path, b"")) == "is empty (0 bytes), an image is needed; copy or export it again"


@pytest.mark.parametrize("data", [b"hello", b"<svg/>", b"RIFF\x24\0\0\0WAVEfmt ", b"%PDF-1.7", b"\0" * 100])
def test_what_is_not_an_image_is_refused(tmp_path: Path, data: bytes) -> None:
    assert refusal(file_of(tmp_path, data)) == (
        "is not an image of a known format (JPEG, PNG, WebP, BMP, TIFF, GIF); convert it or leave it out"
    )


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"GIF89a"])
def test_a_broken_header_is_refused(tmp_path: Path, start: bytes) -> None:
    message = refusal(file_of(tmp_path, start + b"\x07" * 40))
    assert message.startswith("has a damaged or unknown kind of ")
    assert message.endswith("; export it again")


def test_damaged_pixels_are_refused(tmp_path: Path) -> None:
    data = bytearray(encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), "PNG"))
    data[200] ^= 0xFF  # the checksum of the pixels no longer agrees
    assert refusal(file_of(tmp_path, bytes(data))) == "cannot be decoded, its PNG data is damaged; export it again"


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    # 1 bit a pixel, all the same: 10,001 x 10,000 = 100.01 million pixels in 13 kB.
    path = file_of(tmp_path, encoded(Image.new("1", (10_001, 10_000)), "PNG"))
    assert refusal(path) == "is 10001x10000 pixels, at most 100 million are read; scale it down"
    with pytest.raises(DataError, match="at most 100 million are read"):
        read_size(path)


def test_a_file_of_too_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_BYTES", 10)
    message = refusal(file_of(tmp_path, encoded(Image.new("L", (1, 1)), "PNG")))
    assert message.endswith("bytes, an image file may have 10; scale or compress the image")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere.jpg") == "cannot be opened (No such file or directory); check the path"
    with pytest.raises(DataError, match="not a file name"):
        read_image(tmp_path / "a\0b")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "is a folder, an image must be a regular file; name the image file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFO")
@pytest.mark.timeout(5)
def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    assert refusal(path) == "is a pipe or device, an image must be a regular file; name the image file"
    with pytest.raises(DataError, match="is a pipe or device"):
        read_size(path)


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="this system has no /dev/zero")
def test_a_device_is_refused() -> None:
    assert refusal(Path("/dev/zero")).startswith("is a pipe or device")


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert refusal(file_of(tmp_path, b"x")) == "cannot be read (Permission denied); check its permissions"


def test_bytes_without_a_file_are_called_by_the_name_given() -> None:
    assert corners(decode_image(encoded(four_corners(), "PNG"), "upload")) == [RED, GREEN, BLUE, WHITE]
    with pytest.raises(DataError, match=r"^upload is empty"):
        decode_image(b"", "upload")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_no_damage_makes_anything_but_a_data_error() -> None:
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (24, 24, 3), np.uint8)
    for image_format in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"):
        whole = np.frombuffer(encoded(picture, image_format), np.uint8)
        for _ in range(50):
            data = whole.copy()
            where = generator.integers(0, min(len(data), generator.choice([40, 400, 4000])), 3)
            data[where] = generator.integers(0, 256, 3)
            with suppress(DataError):
                assert decode_image(data.tobytes(), "damaged").dtype == np.uint8


# --- the reference pictures ------------------------------------------------------------------------------------------

REFUSED = {
    "truncated.jpg": "is cut off",
    "zero_bytes.jpg": "is empty",
    "text.jpg": "is not an image of a known format",
    "huge_14000x14000.png": "is 14000x14000 pixels, at most 100 million are read",
}


def test_every_awkward_picture_is_read_or_refused_by_name() -> None:
    folder = reference_data("awkward") / "images"
    for path in sorted(folder.iterdir()):
        if path.name in REFUSED:
            assert refusal(path).startswith(REFUSED[path.name])
        elif path.suffix != ".gif" or cv2.haveImageReader(os.fspath(path)):
            height, width = read_image(path).shape[:2]
            assert (width, height) == read_size(path), path.name
            with Image.open(path) as judge:
                assert (width, height) == ImageOps.exif_transpose(judge).size, path.name


@pytest.mark.parametrize("name", ["exif_3.jpg", "exif_6.jpg", "exif_8.jpg", "exif_bad.jpg", "png_named.jpg"])
def test_turned_pictures_look_like_the_upright_one(name: str) -> None:
    folder = reference_data("awkward") / "images"
    upright = read_image(folder / "ok_1.jpg").astype(int)
    # Each was compressed again after turning, which moves a pixel by a few grey levels.
    assert np.abs(read_image(folder / name) - upright).mean() < 6
