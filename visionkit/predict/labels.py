"""Where the labels of boxes go, so that they can be read: inside the image, beside one another, the best ones first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionkit.predict.colours import Colour, text_colour
from visionkit.predict.lettering import fit_text, text_width, write_line

# A box that a label covers more of than this cannot be seen.
_HIDDEN = 0.5
# Labels take no more of the image than this; in a crowd the best ones are named and colour tells the class of others.
_LARGEST_SHARE = 1 / 3
# Where along a side of its box a label may stand, as liked: at the left, at the right, between.
_ALONG = np.array([0, 1, 1 / 2, 1 / 4, 3 / 4])


@dataclass(frozen=True, slots=True)
class Label:
    """A line of text and the pixels it takes."""

    text: str
    left: int
    top: int
    width: int
    height: int


def place_labels(
    boxes: NDArray[np.float32],
    wordings: Sequence[Sequence[str]],
    *,
    letters: int,
    line: int,
    size: tuple[int, int],
    in_sight: NDArray[np.float32] | None = None,
) -> list[Label | None]:
    """A place for the label of each box, or None where there is none that can be read.

    A label likes to stand on its box's upper left corner, then inside that corner, below the box, inside its lower
    left corner, the same at the right and between, and last beside the box; each place moved into the image. No label
    covers another. Of the free places it takes the first of those that hide the fewest boxes, with the first of its
    wordings that has a free place.

    Args:
        boxes: f32 [N, 4] x1 y1 x2 y2, pixels, the most important first.
        wordings: of each box, the longest first.
        letters, line: size of the letters and width of the boxes' lines, pixels.
        size: width and height of the image, pixels.
        in_sight: f32 [M, 4], the boxes that are better not hidden; `boxes` where None.
    """
    image_width, image_height = size
    height, padding = round(letters * 1.45), _padding(letters)
    others = np.asarray(boxes if in_sight is None else in_sight, np.float64)
    hidden_from = _HIDDEN * (others[:, 2:] - others[:, :2]).prod(axis=1)
    labels: list[Label | None] = []
    taken = np.zeros((0, 4))
    room = image_width * image_height * _LARGEST_SHARE if height * 3 <= image_height else 0
    for box, words in zip(boxes.tolist(), wordings, strict=True):
        label = None
        for first in range(len(words) if room >= height**2 else 0):
            text = fit_text(words[first:], letters, image_width - 2 * padding)
            width = min(image_width, text_width(text, letters) + 2 * padding)
            spots = _spots(box, width, height, line, size)
            is_free = ~_common(spots, taken).any(axis=1)
            if is_free.any() and width * height <= room:
                hidden = (_common(spots, others) > hidden_from).sum(axis=1)
                best = int(np.where(is_free, hidden, len(others) + 1).argmin())
                label = Label(text, int(spots[best, 0]), int(spots[best, 1]), width, height)
                room -= width * height
                taken = np.vstack([taken, spots[best]])
                break
        labels.append(label)
    return labels


def stack_labels(wordings: Sequence[Sequence[str]], *, letters: int, size: tuple[int, int]) -> list[Label]:
    """Labels of a whole image, one below the other from its upper left corner, as many as a third of it has room for.

    Args:
        wordings: of each label, the longest first.
        letters: size of the letters, pixels.
        size: width and height of the image, pixels.
    """
    image_width, image_height = size
    height, padding = round(letters * 1.45), _padding(letters)
    room = int(image_height * _LARGEST_SHARE) // height
    texts = [fit_text(words, letters, image_width - 2 * padding) for words in wordings[:room]]
    widths = [min(image_width, text_width(text, letters) + 2 * padding) for text in texts]
    tops = range(0, len(texts) * height, height)
    return [Label(text, 0, top, width, height) for text, top, width in zip(texts, tops, widths, strict=True)]


def draw_label(canvas: NDArray[np.uint8], label: Label, colour: Colour, letters: int) -> None:
    """Draw a label in place, on a ground of its class's colour."""
    strip = canvas[label.top : label.top + label.height, label.left : label.left + label.width]
    strip[:] = colour
    write_line(strip, label.text, letters, text_colour(colour), _padding(letters))


def _padding(letters: int) -> int:
    return max(2, round(letters * 0.3))


def _spots(box: Sequence[float], width: int, height: int, line: int, size: tuple[int, int]) -> NDArray[np.float64]:
    """[24, 4] x1 y1 x2 y2: where a label may be, the best liked first; those outside share the line of their box."""
    x1, y1, x2, y2 = box
    half = line / 2
    left, right = x1 - half, x2 + half - width
    inside_top, inside_bottom = y1 + half, y2 - half - height
    columns = left + (right - left) * _ALONG
    corners = np.empty((4 * len(columns) + 4, 2))
    corners[:-4, 0] = np.repeat(columns, 4)
    corners[:-4, 1] = np.tile((y1 + half - height, inside_top, y2 - half, inside_bottom), len(columns))
    corners[-4:, 0] = np.tile((x2 - half, x1 + half - width), 2)
    corners[-4:, 1] = np.repeat((inside_top, inside_bottom), 2)
    # Halves are rounded up, not to even numbers: places above and below a line do not overlap then.
    corners = np.clip(np.floor(corners + 0.5), 0, np.maximum(0, np.array(size) - (width, height)))
    return np.hstack([corners, corners + np.array([width, height])])


def _common(spots: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, 4], [M, 4] -> [N, M]: pixels that each spot has in common with each of the others."""
    wide = np.minimum(spots[:, None, 2], others[:, 2]) - np.maximum(spots[:, None, 0], others[:, 0])
    high = np.minimum(spots[:, None, 3], others[:, 3]) - np.maximum(spots[:, None, 1], others[:, 1])
    common: NDArray[np.float64] = np.maximum(wide, 0) * np.maximum(high, 0)
    return common
