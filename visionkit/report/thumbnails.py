"""Small pictures inside a report: as large as there is room for."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visionkit.errors import DataError
from visionkit.imaging.reader import read_image

MOST_BYTES = 24_000_000
"""All pictures of a report together, before base64 makes a third more of them."""
SIDES = (640, 480, 320, 240, 160, 96)
# What a photo of so many pixels takes as JPEG of this quality: 0.25 bytes a pixel at most, as a rule.
QUALITY, BYTES_A_PIXEL = 70, 0.25


@dataclass(slots=True)
class Thumbnails:
    """Makes thumbnails until the room is used up; the first images get theirs.

    Args:
        side: the longer side in pixels.
        left: bytes.
    """

    side: int
    left: int = MOST_BYTES

    @classmethod
    def for_images(cls, count: int) -> Thumbnails:
        """Thumbnails of so many images, as large as fits."""
        room = MOST_BYTES / max(1, count)
        side = next((side for side in SIDES if side * side * 0.75 * BYTES_A_PIXEL <= room), SIDES[-1])
        return cls(side)

    def of(self, path: Path) -> tuple[str | None, tuple[int, int] | None]:
        """A picture as a data URI, and its width and height in pixels; None without room or where it is broken."""
        try:
            image = read_image(path)
        except DataError:
            return None, None
        height, width = image.shape[:2]
        if self.left <= 0:
            return None, (width, height)
        size = self._size(width, height)
        small = image if size == (width, height) else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        return self._uri("image/jpeg", data.tobytes()), (width, height)

    def of_map(self, labels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> str | None:
        """A map as a data URI, as large as its picture: each pixel in the colour of its label, others transparent; None
        without room.

        Args:
            labels: u8 [H, W].
            palette: u8 [K, 3] RGB.
        """
        if self.left <= 0:
            return None
        size = self._size(labels.shape[1], labels.shape[0])
        # What has no colour is the index behind the last one: the fewer indices, the fewer bits a pixel.
        small = np.minimum(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), len(palette)).astype(np.uint8)
        picture = Image.fromarray(small)
        picture.putpalette(np.vstack([palette, np.zeros((1, 3), np.uint8)]).tobytes())
        stream = io.BytesIO()
        picture.save(stream, "PNG", transparency=len(palette), optimize=True)
        return self._uri("image/png", stream.getvalue())

    def _size(self, width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, self.side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _uri(self, kind: str, data: bytes) -> str:
        self.left -= len(data)
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"
