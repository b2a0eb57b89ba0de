"""The one reader of masks: images whose pixels stand for classes, by a number or by a colour."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from visionkit.errors import DataError
from visionkit.imaging.header import read_header
from visionkit.imaging.reader import check_image

LOSSLESS = ("PNG", "BMP", "TIFF", "GIF")


def read_mask(path: Path) -> NDArray[np.uint8]:
    """The pixel values of a mask as stored: grey levels, or the indices of a palette, whatever its colours are.

    Nothing is turned: a mask is made for the upright picture.

    Returns:
        u8 [H, W].

    Raises:
        DataError: as `read_image`; or colours where one value a pixel is needed; or a format that changes values.
    """
    image = _decoded(path)
    if image.mode not in ("L", "P"):
        colours = ", or name the colours in classes.json" if image.mode in ("RGB", "RGBA") else ""
        raise DataError(
            f"{path} has pixels of kind {image.mode}, a mask has one value of 8 bits, its label; save it as a grey or "
            f"palette PNG{colours}"
        )
    return np.array(image)


def read_colour_mask(path: Path) -> NDArray[np.uint8]:
    """The colours of a mask, those of a palette too; what may show through is left out. Nothing is turned.

    Returns:
        u8 [H, W, 3] RGB.

    Raises:
        DataError: as `read_mask`, but for colours, which are wanted.
    """
    image = _decoded(path)
    if image.mode not in ("L", "P", "RGB", "RGBA"):
        raise DataError(
            f"{path} has pixels of kind {image.mode}, a colour-coded mask has red, green and blue of 8 bits; save it "
            "as an RGB PNG"
        )
    return np.array(image.convert("RGB"))


def _decoded(path: Path) -> ImageFile:
    check_image(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    header = read_header(BytesIO(data), str(path))
    if header.format not in LOSSLESS:
        raise DataError(f"{path} is a {header.format}, which changes labels; save masks as PNG")
    try:
        image = header.parser(BytesIO(data))
        image.load()
    except Exception as error:  # damaged data makes Pillow raise almost anything
        raise DataError(f"{path} cannot be decoded, its {header.format} data is damaged; export it again") from error
    return image
