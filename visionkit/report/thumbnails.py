"""Small pictures inside a report: as large as there is room for."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import cv2

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
        scale = min(1.0, self.side / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        self.left -= len(data)
        return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}", (width, height)
