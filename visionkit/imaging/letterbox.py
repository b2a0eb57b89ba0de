"""Letterbox: fit an image into the network's frame without distortion, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.imaging.halving import halve, whole_factor

PADDING_GREY = 114


@dataclass(frozen=True, slots=True)
class Frame:
    """How an image was placed in the network's frame, and so how to go back.

    Args:
        width, height: pixels of the original upright image.
        scale_x, scale_y: network pixels per original pixel (they differ by less than a pixel's rounding).
        left, top: padding before the image, network pixels.
        corner: x and y of its first pixel in the larger image that it was cut out of, whose pixels boxes are in then.
    """

    width: int
    height: int
    scale_x: float
    scale_y: float
    left: int
    top: int
    corner: tuple[int, int] = (0, 0)

    def at(self, left: int, top: int) -> Frame:
        """The frame of the same image as a part of a larger one, which begins there."""
        return replace(self, corner=(left, top))

    def to_frame(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N, 4] x1 y1 x2 y2: original pixels -> network pixels."""
        return ((boxes - self._corner) * self._scale + self._offset).astype(np.float32)

    def to_original(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N, 4] x1 y1 x2 y2: network pixels -> original pixels, clipped to the image. Undoes `to_frame`."""
        limit = np.array([self.width, self.height, self.width, self.height], np.float32)
        return (np.clip(self._to_image(boxes), 0, limit) + self._corner).astype(np.float32)

    def to_plane(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `to_original`, but boxes keep what reaches beyond the image."""
        return (self._to_image(boxes) + self._corner).astype(np.float32)

    def inside(self, values: NDArray[Any]) -> NDArray[Any]:
        """Of values for each network pixel [..., S, S] those of the picture without its padding [..., h, w]: a view."""
        width, height = round(self.scale_x * self.width), round(self.scale_y * self.height)
        return values[..., self.top : self.top + height, self.left : self.left + width]

    def _to_image(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        return (boxes - self._offset) / self._scale

    @property
    def _corner(self) -> NDArray[np.float32]:
        return np.array([*self.corner, *self.corner], np.float32)

    @property
    def _scale(self) -> NDArray[np.float32]:
        return np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y], np.float32)

    @property
    def _offset(self) -> NDArray[np.float32]:
        return np.array([self.left, self.top, self.left, self.top], np.float32)


def letterbox(
    image: NDArray[np.uint8], size: int, out: NDArray[np.uint8] | None = None, *, multiple: int | None = None
) -> tuple[NDArray[np.uint8], Frame]:
    """Scale an image to fit a square of `size` pixels, centred, the rest filled with grey.

    Args:
        image: u8 [H, W, 3].
        size: side of the square in pixels.
        out: u8 to draw on, such as a place in a batch, of the size that is returned; None makes one.
        multiple: of the square only as many rows and columns as the image needs, rounded up to multiples of this; None
            keeps the square.

    Returns:
        The square u8 [size, size, 3], or u8 [rows, columns, 3] of it, and the Frame that leads back.
    """
    height, width = image.shape[:2]
    new_h, new_w = _scaled_sides(height, width, size)
    rows, columns = frame_sides(height, width, size, multiple)
    left, top = (columns - new_w) // 2, (rows - new_h) // 2
    canvas = np.empty((rows, columns, 3), np.uint8) if out is None else out
    if (new_h, new_w) != (rows, columns):
        canvas.fill(PADDING_GREY)
    place = canvas[top : top + new_h, left : left + new_w]
    if (new_w, new_h) == (width, height):
        place[:] = image
    else:
        _scale_onto(place, image)
    return canvas, Frame(width, height, new_w / width, new_h / height, left, top)


def _scale_onto(place: NDArray[np.uint8], image: NDArray[np.uint8]) -> None:
    """Draw a whole image on a place of another size, of about its shape, as training draws it: see `halve`."""
    (height, width), (new_h, new_w) = image.shape[:2], place.shape[:2]
    factor = whole_factor(max(new_h / height, new_w / width), width, height)
    while height % factor or width % factor:  # blocks that leave pixels out would move the others
        factor //= 2
    reduced = halve(image, factor)
    # What is still more than twice too large would alias fine texture by linear interpolation.
    interpolation = cv2.INTER_AREA if reduced.shape[0] > 2 * new_h or reduced.shape[1] > 2 * new_w else cv2.INTER_LINEAR
    cv2.resize(reduced, (new_w, new_h), dst=place, interpolation=interpolation)


def frame_sides(height: int, width: int, size: int, multiple: int | None) -> tuple[int, int]:
    """Height and width in pixels of what `letterbox` gives of an image of these.

    >>> frame_sides(1080, 1920, 640, None), frame_sides(1080, 1920, 640, 32)  # 360 x 640 pixels in it
    ((640, 640), (384, 640))
    """
    if multiple is None:
        return size, size
    rows, columns = (-(-side // multiple) * multiple for side in _scaled_sides(height, width, size))
    return rows, columns


def _scaled_sides(height: int, width: int, size: int) -> tuple[int, int]:
    ratio = min(size / width, size / height)
    return max(1, round(height * ratio)), max(1, round(width * ratio))
