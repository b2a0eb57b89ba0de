import os
import socket
from pathlib import Path

import numpy as np
import pytest
from pictures import BLUE, GREEN, RED, WHITE, corners, encoded, exif, four_corners
from PIL import Image, ImageOps

from visionkit.errors import DataError
from visionkit.imaging import reader
from visionkit.imaging.reader import check_image, decode_image, read_image


def file_of(folder: Path, data: bytes, name: str = "picture") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


# --- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_come_back_pixel_for_pixel_in_rgb(tmp_path: Path, image_format: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    path = file_of(tmp_path, encoded(picture, image_format))
    assert np.array_equal(read_image(path), picture)
    assert check_image(path) == (5, 7)


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP"])
def test_lossy_formats_keep_their_colours(tmp_path: Path, image_format: str) -> None:
    path = file_of(tmp_path, encoded(four_corners(), image_format, quality=95))
    assert corners(read_image(path)) == [RED, GREEN, BLUE, WHITE]
    assert check_image(path) == (24, 16)


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
    assert (image.shape[1], image.shape[0]) == check_image(path) == size
    with Image.open(path) as judge:
        assert corners(np.asarray(ImageOps.exif_transpose(judge))) == UPRIGHT[orientation]


@pytest.mark.parametrize("block", [exif(0).tobytes(), exif(9).tobytes(), b"Exif\0\0no tiff header at all", b"Exif"])
def test_unknown_orientation_means_as_stored(tmp_path: Path, block: bytes) -> None:
    path = file_of(tmp_path, encoded(four_corners(), "JPEG", quality=95, exif=block))
    assert corners(read_image(path)) == [RED, GREEN, BLUE, WHITE]
    assert check_image(path) == (24, 16)


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
    assert refusal(file_of(tmp_path, bytes(data))) == (
        "cannot be decoded, its PNG data is damaged or of an unknown kind; export it again"
    )


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    # 1 bit a pixel, all the same: 10,001 x 10,000 = 100.01 million pixels in 13 kB.
    path = file_of(tmp_path, encoded(Image.new("1", (10_001, 10_000)), "PNG"))
    assert refusal(path) == "is 10001x10000 pixels, at most 100 million are read; scale it down"
    with pytest.raises(DataError, match="at most 100 million are read"):
        check_image(path)


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
    assert refusal(path) == "is a pipe, socket or device, an image must be a regular file; name the image file"
    with pytest.raises(DataError, match="is a pipe, socket or device"):
        check_image(path)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no such sockets")
def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket may have some 100 characters
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a.jpg")
        assert (
            refusal(Path("a.jpg"))
            == "is a pipe, socket or device, an image must be a regular file; name the image file"
        )


def test_a_link_to_nowhere_and_one_in_a_circle_are_refused(tmp_path: Path) -> None:
    for name, target in (("lost.jpg", "nowhere.jpg"), ("circle.jpg", "circle.jpg")):
        (tmp_path / name).symlink_to(tmp_path / target)
        assert refusal(tmp_path / name).startswith("cannot be opened (")


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="this system has no /dev/zero")
def test_a_device_is_refused() -> None:
    assert refusal(Path("/dev/zero")).startswith("is a pipe, socket or device")


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert refusal(file_of(tmp_path, b"x")) == "cannot be read (Permission denied); check its permissions"


def test_bytes_without_a_file_are_called_by_the_name_given() -> None:
    assert corners(decode_image(encoded(four_corners(), "PNG"), "upload")) == [RED, GREEN, BLUE, WHITE]
    with pytest.raises(DataError, match=r"^upload is empty"):
        decode_image(b"", "upload")
