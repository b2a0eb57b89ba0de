"""Files cut off: refused wherever the cut is, never a half-grey picture."""

from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, files_of_every_kind, noise, slopes
from PIL import Image

from visionkit.errors import DataError
from visionkit.imaging import whole
from visionkit.imaging.header import read_header
from visionkit.imaging.reader import check_image, decode_image

JPEG_END = b"\xff\xd9"


def cuts(length: int) -> list[int]:
    """Lengths to cut a file to: some 60 anywhere, and all of the last 40, where end marks are."""
    return sorted({*range(0, length, max(1, length // 60)), *range(max(0, length - 40), length)})


# --- everywhere -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", files_of_every_kind())
def test_cut_anywhere_a_file_is_refused_or_nothing_was_missing(kind: str, tmp_path: Path) -> None:
    data = files_of_every_kind()[kind]
    picture = decode_image(data, kind)
    path = tmp_path / "cut"
    path.write_bytes(data)
    assert check_image(path) == (picture.shape[1], picture.shape[0])
    refused = 0
    for length in cuts(len(data)):
        path.write_bytes(data[:length])
        try:
            assert np.array_equal(decode_image(data[:length], kind), picture)
        except DataError:
            refused += 1
        else:  # the first page of several was whole
            assert kind.startswith("TIFF pages")
            continue
        # The check that a dataset goes through sees a cut too, without decoding.
        with pytest.raises(DataError):
            check_image(path)
    assert refused == len(cuts(len(data))) or kind.startswith("TIFF pages")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "GIF"])
def test_what_is_appended_to_a_whole_file_does_no_harm(kind: str) -> None:
    data = files_of_every_kind()[f"{kind} slopes"]
    appended = data + b"\xff\xda a video" * 1000  # more than the tail that is searched first
    assert np.array_equal(decode_image(appended, kind), decode_image(data, kind))


def test_a_file_cut_off_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(slopes(), "PNG")[:-1])
    for read in (check_image, lambda path: decode_image(path.read_bytes(), str(path))):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value) == f"{path} is cut off, a PNG must reach its end mark; copy or export it again"


@pytest.mark.parametrize("damage", [b"\x2c", b"\x21\xf9", b"\x99 no block"])
def test_a_gif_whose_blocks_lead_nowhere_is_not_whole(damage: bytes) -> None:
    data = encoded(slopes(), "GIF")
    assert data.endswith(b"\x3b")
    with pytest.raises(DataError, match="is cut off, a GIF must reach its end mark"):
        decode_image(data[:-1] + damage, "a.gif")


@pytest.mark.timeout(5)
def test_a_png_chunk_longer_than_the_file_is_not_tried() -> None:
    """OpenCV 5 takes 20 s and gigabytes to say no to it."""
    data = bytearray(encoded(slopes(), "PNG"))
    pixels = data.index(b"IDAT")
    data[pixels - 4 : pixels] = b"\xbc\x62\x01\x23"
    with pytest.raises(DataError, match="is cut off, a PNG must reach its end mark"):
        decode_image(bytes(data), "a.png")


# --- a JPEG that was cut off and then given an end mark ---------------------------------------------------------------

JPEGS = {
    "4:2:0": {"subsampling": 2},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "restart": {"restart_marker_blocks": 3},
}


def ended_early(data: bytes, share: float) -> bytes:
    """A JPEG with this share of its scan, and an end mark."""
    scan = read_header(BytesIO(data), "picture").end
    return data[: scan + int(share * (len(data) - 2 - scan))] + JPEG_END


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("size", [(96, 112), (89, 101)])
def test_pixels_that_the_decoder_made_up_are_noticed(options: dict, size: tuple[int, int]) -> None:
    data = encoded(noise(*size), "JPEG", **options)
    for share in np.linspace(0.02, 0.9, 12):
        with pytest.raises(DataError) as caught:
            decode_image(ended_early(data, share), "a.jpg")
        assert str(caught.value) == (
            "a.jpg is cut off, its JPEG data ends before its pixels do; copy or export it again"
        )


@pytest.mark.parametrize("options", [*JPEGS.values(), {"progressive": True}], ids=[*JPEGS, "progressive"])
@pytest.mark.parametrize("value", [0, 64, 65, 66, 127, 128, 129, 255])
def test_what_really_ends_in_grey_is_whole(options: dict, value: int) -> None:
    picture = noise(48, 64)
    picture[24:] = value
    data = encoded(picture, "JPEG", quality=95, **options)
    assert np.abs(decode_image(data, "a.jpg")[32:].astype(int) - value).max() <= 2


def test_only_a_grey_end_is_looked_at_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    eighth = whole._eighth
    monkeypatch.setattr(whole, "_eighth", lambda data: looks.append(1) or eighth(data))
    for colour in ((255, 255, 255), (0, 0, 0), (200, 30, 90), (128, 128, 140)):
        decode_image(encoded(np.full((16, 16, 3), colour, np.uint8), "JPEG"), "a.jpg")
    assert not looks
    decode_image(encoded(np.full((16, 16, 3), 128, np.uint8), "JPEG"), "a.jpg")
    assert len(looks) == 2


def test_a_progressive_jpeg_is_noticed_within_its_first_scan_only() -> None:
    """Later scans refine the whole picture, and how many there are is the encoder's choice: without the last it is
    coarser, but a picture."""
    picture = slopes(96, 112)
    data = encoded(picture, "JPEG", progressive=True, quality=95)
    second_scan = data.index(b"\xff\xda", read_header(BytesIO(data), "a.jpg").end)
    with pytest.raises(DataError, match="ends before its pixels do"):
        decode_image(ended_early(data[:second_scan] + JPEG_END, 0.5), "a.jpg")
    coarse = decode_image(data[:second_scan] + JPEG_END, "a.jpg").astype(int)
    assert 1 < np.abs(coarse - picture).mean() < 8


def test_damage_within_the_scan_of_a_jpeg_is_mostly_a_picture() -> None:
    """What cannot be noticed: a JPEG has no checksum, and its decoder goes on. Nothing but a DataError comes of it."""
    data = encoded(Image.fromarray(noise(64, 64)), "JPEG")
    scan = read_header(BytesIO(data), "a.jpg").end
    generator = np.random.default_rng(0)
    read = 0
    for _ in range(40):
        damaged = bytearray(data)
        damaged[generator.integers(scan, len(data) - 2)] = generator.integers(256)
        with suppress(DataError):
            assert decode_image(bytes(damaged), "a.jpg").shape == (64, 64, 3)
            read += 1
    assert read > 20
