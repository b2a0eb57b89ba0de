"""Where the labels of boxes go, so that they can be read: inside the image, beside one another, the best ones first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionkit.predict.colours import Colour, text_colour
from visionkit.predict.lettering import fit_text, text_width, write_line

# A label that others cover more than this cannot be read and is left out.
_MOST_COVERED = 0.3
# Labels take no more of the image than this; in a crowd the best ones are named and colour tells the class of others.
_LARGEST_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class Label:
    """A line of text and the pixels it takes."""

    text: str
    left: int
    top: int
    width: int
    height: int


def place_labels(
    boxes: NDArray[np.float32], wordings: Sequence[Sequence[str]], *, letters: int, line: int, size: tuple[int, int]
) -> list[Label | None]:
    """A place for the label of each box, or None where there is none that can be read.

    A label likes to stand on its box's upper left corner, then inside that corner, below the box, inside its lower
    left corner, and the same at the right; each place moved into the image. It takes the first that is free, with the
    first of its wordings that has a free place; where no wording has one, the last takes the least covered place.

    Args:
        boxes: f32 [N, 4] x1 y1 x2 y2, pixels, the most important first.
        wordings: of each box, the longest first.
        letters, line: size of the letters and width of the boxes' lines, pixels.
        size: width and height of the image, pixels.
    """
    image_width, image_height = size
    height, padding = round(letters * 1.45), _padding(letters)
    labels: list[Label | None] = []
    taken = np.zeros((0, 4))
    room = image_width * image_height * _LARGEST_SHARE
    for box, words in zip(boxes.tolist(), wordings, strict=True):
        label, covered = None, 0.0
        for first in range(len(words)):
            text = fit_text(words[first:], letters, image_width - 2 * padding)
            width = min(image_width, text_width(text, letters) + 2 * padding)
            spots = _spots(box, width, height, line, size)
            overlaps = _covered(spots, taken)
            best = int(overlaps.argmin())
            label = Label(text, int(spots[best, 0]), int(spots[best, 1]), width, height)
            covered = float(overlaps[best]) / (width * height)
            if covered == 0:
                break
        if label is None or covered > _MOST_COVERED or height * 3 > image_height or label.width * height > room:
            labels.append(None)
            continue
        labels.append(label)
        room -= label.width * height
        taken = np.vstack([taken, [label.left, label.top, label.left + label.width, label.top + height]])
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
    """[8, 4] x1 y1 x2 y2: where a label may be, the best liked first; it shares the line of its box."""
    x1, y1, x2, y2 = box
    half = line / 2
    tops = (y1 + half - height, y1 - half, y2 - half, y2 + half - height)
    lefts = (x1 - half, x2 + half - width)
    corners = np.array([(left, top) for left in lefts for top in tops])
    corners = np.clip(np.rint(corners), 0, np.maximum(0, np.array(size) - (width, height)))
    return np.hstack([corners, corners + np.array([width, height])])


def _covered(spots: NDArray[np.float64], taken: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, 4], [M, 4] -> [N]: pixels of each spot that the taken ones cover, all together."""
    upper = np.minimum(spots[:, None, 2:], taken[None, :, 2:])
    lower = np.maximum(spots[:, None, :2], taken[None, :, :2])
    overlap: NDArray[np.float64] = np.clip(upper - lower, 0, None).prod(axis=2).sum(axis=1)
    return overlap
