"""One mask looked at: what is wrong with its pixels, and the mask as a repair would leave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visionkit.errors import DataError
from visionkit.formats.mask_colours import Colour
from visionkit.formats.mask_images import IGNORED, MaskClasses
from visionkit.imaging.header import Header, read_header
from visionkit.imaging.mask import LOSSLESS
from visionkit.imaging.reader import check_image

# Of values that no class has, so many different ones come from smoothing, whatever their place; and so many do where
# they lie in lines, between two classes.
SMOOTH_ANYWHERE, SMOOTH_IN_LINES = 8, 3
LINE_WIDTH = 5
"""Pixels: a line of strays holds no square of this side."""

WRITTEN = ("PNG", "BMP", "TIFF")
"""Formats of masks that a repair writes."""

# EXIF 2.32, section 4.6.4: those that swap the sides, from the picture as stored to the upright one.
_TURNS = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(slots=True)
class JudgedMask:
    """What is wrong with a mask.

    Args:
        found: codes, each with a fact and whether the repair mends it.
        labels: u8 [H, W], `IGNORED` where no one judges, as the repair leaves them; None where it cannot be used.
        repaired: the file as a repair leaves it; None where it stays.
        gone: the repair leaves out the image with it.
    """

    found: list[tuple[str, str, bool]] = field(default_factory=list)
    labels: NDArray[np.uint8] | None = None
    repaired: bytes | None = None
    gone: bool = False


def judge_mask(
    mask: Path,
    picture: Header,
    size: tuple[int, int],
    classes: MaskClasses,
    palette: Mapping[Colour, int],
) -> JudgedMask:
    """Look at a mask.

    Args:
        picture: what the header of its image says, `size` its upright size in pixels.
        palette: numbers of colours, for masks that should hold numbers.
    """
    judged = JudgedMask()
    try:
        image, kind = _opened(mask)
    except DataError as error:
        judged.found.append(("VK306", str(error), True))
        judged.gone = True
        return judged
    if image is None:
        judged.found.append(("VK311", f"is a {kind}", False))
        return judged
    as_said = _pixels(image, classes)
    pixels = as_said
    if as_said is None:
        pixels = _said_otherwise(image, classes, palette)
        judged.found.append(("VK313", f"has pixels of kind {image.mode}", pixels is not None and kind in WRITTEN))
        if pixels is None:
            return judged
    assert pixels is not None
    if (pixels.shape[1], pixels.shape[0]) != size:
        words = f"is {pixels.shape[1]}x{pixels.shape[0]} and the upright picture {size[0]}x{size[1]}"
        as_stored = (pixels.shape[1], pixels.shape[0]) == (picture.width, picture.height)
        if not as_stored or picture.orientation not in _TURNS:
            judged.found = [(code, fact, False) for code, fact, _ in (*judged.found, ("VK305", words, False))]
            return judged
        turned = Image.fromarray(pixels).transpose(_TURNS[picture.orientation])
        pixels = np.array(turned)
        words += f", turned by EXIF orientation {picture.orientation}"
        judged.found.append(("VK406", words, kind in WRITTEN))
    labels, stray, values = _labels(pixels, classes)
    if stray.any():
        pixels, mended = _without_strays(pixels, stray, classes)
        smooth = len(values) >= SMOOTH_ANYWHERE or (len(values) >= SMOOTH_IN_LINES and _in_lines(stray))
        words = f"has {stray.sum()} pixels of {len(values)} values that no class has, such as {_told(values[0])}"
        judged.found.append(("VK310" if smooth else "VK309", words, mended and kind in WRITTEN))
    elif (labels == IGNORED).all():
        judged.found.append(("VK312", "has no pixel of a class", False))
    judged.labels = labels
    if any(mended for _, _, mended in judged.found) and all(mended or c == "VK312" for c, _, mended in judged.found):
        judged.repaired = _written(pixels, image, kind)
    else:
        judged.found = [(code, fact, False) for code, fact, _ in judged.found]
    return judged


def _opened(mask: Path) -> tuple[Image.Image | None, str]:
    """The mask decoded, None where its format changes values; and the name of the format.

    Raises:
        DataError: it cannot be read.
    """
    check_image(mask)
    data = mask.read_bytes()
    header = read_header(BytesIO(data), str(mask))
    if header.format not in LOSSLESS:
        return None, header.format
    try:
        image = header.parser(BytesIO(data))
        image.load()
    except Exception as error:  # damaged data makes Pillow raise almost anything
        raise DataError(f"{mask} cannot be decoded, its {header.format} data is damaged; export it again") from error
    return image, header.format


def _pixels(image: Image.Image, classes: MaskClasses) -> NDArray[np.uint8] | None:
    """The numbers u8 [H, W] or colours u8 [H, W, 3] of a mask; None where it has the others."""
    if classes.colours is None:
        return np.array(image) if image.mode in ("L", "P") else None
    if image.mode not in ("L", "P", "RGB", "RGBA"):
        return None
    colours = np.array(image.convert("RGB"))
    if image.mode in ("RGB", "RGBA"):
        return colours
    # A grey mask may hold the numbers of its classes.
    known = classes.colours.labels(colours, IGNORED)[1] is None
    numbers = np.array(image)
    as_numbers = ((numbers < len(classes.table)) | (numbers == IGNORED)).all()
    return None if as_numbers and not known else colours


def _said_otherwise(
    image: Image.Image, classes: MaskClasses, palette: Mapping[Colour, int]
) -> NDArray[np.uint8] | None:
    """The numbers or colours that a mask of other pixels stands for; None where nobody knows."""
    if classes.colours is not None:
        return _in_colours(np.array(image), classes) if image.mode in ("L", "P") else None
    if image.mode in ("1", "LA"):
        return np.array(image if image.mode == "1" else image.convert("L")).astype(np.uint8)
    if image.mode in ("RGB", "RGBA"):
        colours = np.array(image.convert("RGB"))
        grey = (colours == colours[..., :1]).all()
        return np.ascontiguousarray(colours[..., 0]) if grey else _by_palette(colours, palette)
    numbers = np.asarray(image)
    small = image.mode.startswith("I") and numbers.min() >= 0 and numbers.max() <= IGNORED
    return numbers.astype(np.uint8) if small else None


def _in_colours(numbers: NDArray[np.uint8], classes: MaskClasses) -> NDArray[np.uint8] | None:
    """The colours of numbers u8 [H, W]; None where one has none."""
    assert classes.colours is not None
    ignored = classes.colours.ignored
    if (numbers == IGNORED).any() and not ignored:
        return None
    table = np.zeros((IGNORED + 1, 3), np.uint8)
    table[: len(classes.table)] = classes.colours.classes
    table[IGNORED] = ignored[0] if ignored else 0
    return np.asarray(table[numbers], np.uint8)


def _by_palette(colours: NDArray[np.uint8], palette: Mapping[Colour, int]) -> NDArray[np.uint8] | None:
    """The numbers of colours u8 [H, W, 3], each of which the palette has; None where it has not."""
    numbers = np.full(colours.shape[:2], IGNORED, np.uint8)
    known = np.zeros(colours.shape[:2], np.bool_)
    for colour, number in palette.items():
        here = (colours == np.array(colour, np.uint8)).all(axis=2)
        numbers[here] = number
        known |= here
    return numbers if known.all() else None


def _labels(pixels: NDArray[np.uint8], classes: MaskClasses) -> tuple[NDArray[np.uint8], NDArray[np.bool_], list[Any]]:
    """Labels, `IGNORED` where no one judges; where values stand for nothing, bool [H, W]; and those values."""
    if classes.colours is None:
        ignored = (pixels == IGNORED) | (pixels == classes.ignored)
        stray = (pixels >= len(classes.table)) & ~ignored
        return np.where(stray | ignored, np.uint8(IGNORED), pixels), stray, np.unique(pixels[stray]).tolist()
    labels = classes.colours.labels(pixels, IGNORED)[0]
    stray = labels == IGNORED
    for colour in classes.colours.ignored:
        stray &= ~(pixels == np.array(colour, np.uint8)).all(axis=2)
    return labels, stray, np.unique(pixels[stray], axis=0).tolist()


def _without_strays(
    pixels: NDArray[np.uint8], stray: NDArray[np.bool_], classes: MaskClasses
) -> tuple[NDArray[np.uint8], bool]:
    """The pixels with strays ignored, where the mask has a value for that; and whether it has."""
    if classes.colours is not None and not classes.colours.ignored:
        return pixels, False
    mended = pixels.copy()
    mended[stray] = IGNORED if classes.colours is None else classes.colours.ignored[0]
    return mended, True


def _in_lines(stray: NDArray[np.bool_]) -> bool:
    square = np.ones((LINE_WIDTH, LINE_WIDTH), np.uint8)
    return not cv2.erode(stray.astype(np.uint8), square, borderValue=0).any()


def _told(value: Any) -> str:
    return f"colour {' '.join(map(str, value))}" if isinstance(value, list) else f"label {value}"


def _written(pixels: NDArray[np.uint8], image: Image.Image, kind: str) -> bytes:
    """The bytes of a mask; one of numbers keeps its palette."""
    palette = image.getpalette() if image.mode == "P" and pixels.ndim == 2 else None
    new = Image.fromarray(pixels)
    if palette is not None:
        new = Image.frombytes("P", new.size, new.tobytes())
        # Of a shorter palette Pillow writes as few bits a pixel as it takes to count its colours.
        new.putpalette(palette + [0] * (3 * (IGNORED + 1) - len(palette)))
    stream = BytesIO()
    new.save(stream, kind)
    return stream.getvalue()
