"""Images as the world has them, thirty kinds, through `detect`: what is seen of each, or the line that refuses it.

The table holds for the reference pictures and for a folder of the same kinds made here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import CommandLine
from pictures import encoded, encoded_by_opencv, exif
from PIL import Image
from reference_data import reference_data

import visionkit
from visionkit.build import build_model, save_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.errors import DataError
from visionkit.imaging.reader import read_image
from visionkit.predict.detect import read_images


@dataclass(frozen=True)
class Seen:
    """A picture that is read.

    Args:
        size: width and height.
        like: what it looks like: `photo` and `grey` are the first good picture, or its luma.
        levels: mean absolute difference from that, at most.
    """

    size: tuple[int, int]
    like: str = ""
    levels: float = 0


PHOTO = (320, 212)

# The copies are equal; the others differ by what JPEG made of the good picture, or of them.
TABLE: dict[str, Seen | str] = {
    "ok_1.jpg": Seen(PHOTO, "photo", 0),
    "ok_2.jpg": Seen(PHOTO),
    "ok_3.jpg": Seen((320, 240)),
    "truncated.jpg": "is cut off, a JPEG must reach its end mark; copy or export it again",
    "bitflips.jpg": Seen(PHOTO),  # damage within the scan: nothing in a JPEG tells
    "zero_bytes.jpg": "is empty (0 bytes), an image is needed; copy or export it again",
    "text.jpg": "is not an image of a known format (JPEG, PNG, WebP, BMP, TIFF, GIF); convert it or leave it out",
    "rgba.png": Seen(PHOTO, "photo", 6),
    "gray_alpha.png": Seen(PHOTO, "grey", 6),
    "gray16.png": Seen(PHOTO, "grey", 6),
    "rgb16.png": Seen(PHOTO, "photo", 6),
    "gray.jpg": Seen(PHOTO, "grey", 6),
    "cmyk.jpg": Seen(PHOTO, "photo", 6),
    "exif_3.jpg": Seen(PHOTO, "photo", 6),
    "exif_6.jpg": Seen(PHOTO, "photo", 6),
    "exif_8.jpg": Seen(PHOTO, "photo", 6),
    "exif_bad.jpg": Seen(PHOTO, "photo", 6),
    "animated.gif": Seen((160, 106), "photo", 12),
    "photo.webp": Seen(PHOTO, "photo", 6),
    "photo.bmp": Seen(PHOTO, "photo", 6),
    "photo.tif": Seen(PHOTO, "photo", 6),
    "png_named.jpg": Seen(PHOTO, "photo", 6),
    "progressive.jpg": Seen(PHOTO, "photo", 6),
    "UPPER.JPG": Seen(PHOTO, "photo", 0),
    "with space and #.jpg": Seen(PHOTO, "photo", 0),
    "Zürich 日本語 café.jpg": Seen(PHOTO, "photo", 0),
    "one_pixel.png": Seen((1, 1)),
    "one_pixel.jpg": Seen((1, 1)),
    "wide_4000x10.jpg": Seen((4000, 10)),
    "huge_14000x14000.png": "is 14000x14000 pixels, at most 100 million are read; scale it down",
}
REFUSED = [name for name, expected in TABLE.items() if isinstance(expected, str)]


def write_kinds(folder: Path) -> Path:
    """All files of the table, from a smooth picture."""
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    drawn = cv2.resize(coarse, PHOTO, interpolation=cv2.INTER_CUBIC)
    photo = encoded(drawn, "JPEG", quality=92)
    pixels = np.asarray(Image.open(BytesIO(photo)))
    picture, fading = Image.fromarray(pixels), np.tile(np.linspace(0, 255, PHOTO[0]).astype(np.uint8), (PHOTO[1], 1))
    grey = np.asarray(picture.convert("L"))
    flips = bytearray(photo)
    flips[len(photo) // 2] ^= 0x10
    small = picture.resize((160, 106), Image.Resampling.BOX)

    def turned(orientation: int, stored: Callable[[np.ndarray], np.ndarray]) -> bytes:
        return encoded(np.ascontiguousarray(stored(pixels)), "JPEG", quality=92, exif=exif(orientation))

    files = {
        "ok_1.jpg": photo,
        "ok_2.jpg": encoded(drawn[::-1].copy(), "JPEG"),
        "ok_3.jpg": encoded(np.zeros((240, 320, 3), np.uint8), "JPEG"),
        "truncated.jpg": photo[: int(0.55 * len(photo))],
        "bitflips.jpg": bytes(flips),
        "zero_bytes.jpg": b"",
        "text.jpg": b"this is not an image\n",
        "rgba.png": encoded(np.dstack([pixels, fading]), "PNG"),
        "gray_alpha.png": encoded(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(fading)]), "PNG"),
        "gray16.png": encoded(grey.astype(np.uint16) * 257, "PNG"),
        "rgb16.png": encoded_by_opencv(pixels.astype(np.uint16) * 257, ".png"),
        "gray.jpg": encoded(grey, "JPEG"),
        "cmyk.jpg": encoded(picture, "JPEG", "CMYK", quality=92),
        # The inverses of "half a turn", "a quarter turn clockwise" and "counter-clockwise".
        "exif_3.jpg": turned(3, lambda p: p[::-1, ::-1]),
        "exif_6.jpg": turned(6, lambda p: np.rot90(p, 1)),
        "exif_8.jpg": turned(8, lambda p: np.rot90(p, -1)),
        "exif_bad.jpg": turned(99, lambda p: p),
        "animated.gif": encoded(small, "GIF", save_all=True, append_images=[small.rotate(90), small.rotate(180)]),
        "photo.webp": encoded(pixels, "WEBP", quality=90),
        "photo.bmp": encoded(pixels, "BMP"),
        "photo.tif": encoded(pixels, "TIFF", compression="tiff_lzw"),
        "png_named.jpg": encoded(pixels, "PNG"),
        "progressive.jpg": encoded(pixels, "JPEG", quality=92, progressive=True),
        **dict.fromkeys(("UPPER.JPG", "with space and #.jpg", "Zürich 日本語 café.jpg"), photo),
        "one_pixel.png": encoded(pixels[:1, :1].copy(), "PNG"),
        "one_pixel.jpg": encoded(pixels[:1, :1].copy(), "JPEG"),
        "wide_4000x10.jpg": encoded(np.zeros((10, 4000, 3), np.uint8), "JPEG"),
        "huge_14000x14000.png": encoded(Image.new("1", (14_000, 14_000)), "PNG"),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module", params=["made here", "reference"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "reference":
        return reference_data("awkward") / "images"
    return write_kinds(tmp_path_factory.mktemp("awkward"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was never trained: it looks at every picture like any other."""
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    classes, recipe = ClassTable((3, 8), ("red block", "blue block")), Recipe(imgsz=64)
    save_model(path, build_model(recipe, classes).eval(), classes, recipe, {})
    return path


@pytest.fixture(scope="module")
def detector(weights: Path) -> visionkit.Detector:
    return visionkit.load(weights, device="cpu", threads=1)


def test_the_table_names_every_picture(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == set(TABLE)
    assert len(TABLE) == 30


@pytest.mark.parametrize("name", TABLE)
def test_each_alone(name: str, folder: Path, detector: visionkit.Detector) -> None:
    expected = TABLE[name]
    if isinstance(expected, str):
        with pytest.raises(DataError) as caught:
            detector.detect(folder / name)
        assert str(caught.value) == f"{folder / name} {expected}"
        return
    (result,) = detector.detect(folder / name, conf=0.01)
    assert (result.width, result.height) == expected.size
    assert (result.boxes >= 0).all()
    assert (result.boxes <= [*expected.size, *expected.size]).all()
    (image,) = read_images([folder / name], on_skip=lambda path, error: pytest.fail(str(error)))
    assert image.pixels.shape == (*expected.size[::-1], 3)
    if expected.like:
        photo = Image.fromarray(read_image(folder / "ok_1.jpg"))
        model = photo.convert("L").convert("RGB") if expected.like == "grey" else photo
        difference = image.pixels - np.asarray(model.resize(expected.size, Image.Resampling.BOX)).astype(int)
        assert np.abs(difference).mean() <= expected.levels


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
def test_all_as_one_folder(folder: Path, command_line: CommandLine, weights: Path) -> None:
    finished = command_line("detect", folder, "--weights", weights, "--no-save", "--threads", 1)
    assert finished.code == 3
    shown = [line for line in finished.stdout.splitlines() if not line.startswith("  ")]
    assert len(shown) == 26
    lines = finished.stderr.splitlines()
    # libjpeg and libpng write a word about flipped bits and an odd profile by themselves.
    words = [line for line in lines if not line.startswith(("Corrupt JPEG data", "libpng warning"))]
    assert set(words[:-1]) == {f"skipped: {folder / name} {TABLE[name]}" for name in REFUSED}
    assert words[-1] == "26 images done, 4 skipped"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_one_alone_is_one_line_and_exit_code_2(
    name: str, folder: Path, command_line: CommandLine, weights: Path
) -> None:
    finished = command_line("detect", folder / name, "--weights", weights, "--no-save")
    assert (finished.code, finished.stdout) == (2, "")
    assert finished.stderr.splitlines() == [f"skipped: {folder / name} {TABLE[name]}", "0 images done, 1 skipped"]


def peak_memory(*arguments: str | Path) -> tuple[int, float]:
    """Exit code of a `visionkit` process of its own, and the most memory it took, bytes."""
    command = [sys.executable, "-m", "visionkit", *map(str, arguments)]
    # Started by a small process: what a child takes is counted from the fork on, when it still is its parent's twin.
    small = f"""
import os, subprocess
process = subprocess.Popen({command!r}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""
    told = subprocess.run([sys.executable, "-c", small], check=True, capture_output=True, text=True).stdout
    code, most = map(int, told.split())
    return code, most * (1 if sys.platform == "darwin" else 1024)  # macOS counts bytes


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="this system does not tell the memory of a child")
def test_a_huge_picture_takes_no_memory(tmp_path: Path, weights: Path) -> None:
    """196 million pixels in 24 kB, 588 MB were they decoded; beside them a picture of one pixel."""
    for side in (1, 14_000):
        (tmp_path / f"{side}.png").write_bytes(encoded(Image.new("1", (side, side)), "PNG"))
    options = ("--weights", weights, "--no-save", "--threads", "1")
    code, most = peak_memory("detect", tmp_path / "1.png", *options)
    assert code == 0
    huge_code, huge_most = peak_memory("detect", tmp_path / "14000.png", *options)
    assert huge_code == 2
    assert huge_most < 700e6, f"{huge_most / 1e6:.0f} MB"
    assert huge_most < most + 50e6, f"{huge_most / 1e6:.0f} MB, {most / 1e6:.0f} MB for one pixel"
