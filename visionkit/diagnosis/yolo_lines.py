"""The lines of YOLO's label files read for what they may have been meant as, and written again.

A line is right as `class cx cy w h` or `class x1 y1 x2 y2 x3 y3 ...` in parts of the image. What else it may be, such
as pixels or corners, all lines of a split together tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visionkit.diagnosis.coco_annotations import FEWEST_BOXES, SHARE_INSIDE, SHARE_OUTSIDE
from visionkit.diagnosis.geometry import Box, clipped, corners_read, inside
from visionkit.diagnosis.notebook import Told
from visionkit.formats.boxes import SHORTEST_SIDE
from visionkit.formats.findings import shown
from visionkit.formats.object_shapes import polygon_box
from visionkit.formats.yolo_txt import ROUNDING

Size = tuple[int, int]
"""Width and height in pixels."""

DECIMALS = 8
"""Of the shares that a repair writes: a ten-thousandth of a pixel in images of 10,000 px."""


def _centre_read(box: Box) -> Box:
    return box[0] - box[2] / 2, box[1] - box[3] / 2, box[2], box[3]


PIXEL_READINGS: Mapping[str, Callable[[Box], Box]] = {
    "centre, width and height": _centre_read,
    "corners": corners_read,
    "left, top, width and height": lambda box: box,
}
"""What four pixel numbers may be, the likeliest first."""


@dataclass(frozen=True, slots=True)
class LineHabit:
    """How the lines of a split are written where it is not by the rule.

    Args:
        pixels: of `PIXEL_READINGS`, where some boxes are in pixels; None where none are, or none of them fits.
        corners: shares are those of x1 y1 x2 y2.
        scored: a score stands behind polygons, too, as in the labels that a model wrote.
    """

    pixels: str | None = None
    corners: bool = False
    scored: bool = False


def habit_of_lines(lines: Iterable[tuple[Sequence[str], Size]]) -> LineHabit:
    """What all lines of a split together say about how boxes are written.

    Args:
        lines: the words of each, and the size of its image.
    """
    lines = list(lines)
    boxes = [(box, size) for words, size in lines if len(words) in (5, 6) and (box := _four(words)) is not None]
    in_pixels = [(box, size) for box, size in boxes if _looks_like_pixels(box)]
    pixels = None
    if in_pixels:
        fits = {
            name: np.mean([inside(read(box), *size) for box, size in in_pixels])
            for name, read in PIXEL_READINGS.items()
        }
        pixels = next((name for name, share in fits.items() if share >= SHARE_INSIDE), None)
    shares = np.array([box for box, _ in boxes if all(0 <= value <= 1 for value in box)])
    corners = False
    if len(shares) >= FEWEST_BOXES:
        low, high = shares[:, :2] - shares[:, 2:] / 2, shares[:, :2] + shares[:, 2:] / 2
        outside = ((low < -ROUNDING) | (high > 1 + ROUNDING)).any(axis=1).mean()
        ordered = (shares[:, 2:] > shares[:, :2]).all(axis=1).mean()
        corners = bool(outside >= SHARE_OUTSIDE and ordered >= SHARE_INSIDE)
    # A polygon of which one value was lost looks the same; but not all will have lost one.
    of_polygons = [_score(words) is not None for words, _ in lines if len(words) > 6]
    scored = len(of_polygons) >= FEWEST_BOXES and float(np.mean(of_polygons)) >= SHARE_INSIDE
    return LineHabit(pixels, corners, scored)


@dataclass(slots=True)
class ReadLine:
    """A line as a row of annotations.

    Args:
        category_id: None where the row goes, or where `told` gives it.
        box: x y w h in pixels; None where it goes, or where `told` gives it.
        polygon: in pixels.
        unknown: a code and a fact, where nobody knows what was meant: the line stays and the error too.
    """

    category_id: int | None = None
    box: Box | None = None
    polygon: list[float] | None = None
    told: list[Told] = field(default_factory=list)
    unknown: tuple[str, str] | None = None


def read_line(words: Sequence[str], size: Size, names: Mapping[int, str], habit: LineHabit) -> ReadLine:
    """What a line says of an object in an image of this size.

    Args:
        names: class number -> name.
    """
    found = ReadLine()
    said = f"is {shown(' '.join(words))}"

    def gone(code: str, fact: str) -> ReadLine:
        return ReadLine(told=[Told(code, fact, remove=True)])

    count = len(words)
    if count != 5 and (count < 7 or count % 2 == 0):
        if _score(words) is None or (count > 6 and not habit.scored):
            return gone("VK218", f"has {count} values, {shown(' '.join(words))}")
        # No key of the row is wrong; that the line is written anew is what mends it.
        found.told.append(Told("VK218", f"has {count} values, {shown(' '.join(words))}", {"iscrowd": 0}))
        words = words[:-1]
    numbers = [_number(word) for word in words[1:]]
    if any(number is None for number in numbers):
        return gone("VK201" if len(words) == 5 else "VK303", f"{said}, not numbers")
    parts = [number for number in numbers if number is not None]
    if not all(map(math.isfinite, parts)):
        return gone("VK202" if len(words) == 5 else "VK303", said)
    number = _number(words[0])
    if number is not None and number in names:
        found.category_id = int(number)
    elif number is None and words[0] in names.values():
        meant = next(n for n, name in names.items() if name == words[0])
        found.told.append(Told("VK103", f"has class {shown(words[0])} in place of its number", {"category_id": meant}))
    else:
        return gone("VK105", f"has class {shown(words[0])}, which is not named")
    return _with_box(found, parts, said, size, habit) if len(parts) == 4 else _with_polygon(found, parts, said, size)


def _with_box(found: ReadLine, parts: Sequence[float], said: str, size: Size, habit: LineHabit) -> ReadLine:
    width, height = size
    box: Box = (parts[0], parts[1], parts[2], parts[3])
    words = f"{said} in an image of {width}x{height}"
    if _looks_like_pixels(box):
        meant = PIXEL_READINGS[habit.pixels](box) if habit.pixels else None
        if meant is None or not inside(meant, width, height):
            return ReadLine(unknown=("VK216", words))
        return _meant(found, "VK216", f"{words}, read as {habit.pixels}", meant)
    if habit.corners and all(0 <= part <= 1 for part in box) and box[2] > box[0] and box[3] > box[1]:
        return _meant(found, "VK208", said, _in_pixels(corners_read(box), size))
    if box[2] < 0 or box[3] < 0:
        box = (box[0], box[1], abs(box[2]), abs(box[3]))
        _meant(found, "VK203", said, _in_pixels(_centre_read(box), size))
    pixels = _in_pixels(_centre_read(box), size)
    if all(-ROUNDING <= part <= 1 + ROUNDING for part in box):
        if not found.told or "bbox" not in found.told[-1].becomes:
            found.box = pixels
        return found
    within = clipped(pixels, width, height)
    if min(within[2:]) < SHORTEST_SIDE:
        found.told.append(Told("VK205", words, remove=True))
        return found
    return _meant(found, "VK217", said, within)


def _with_polygon(found: ReadLine, parts: Sequence[float], said: str, size: Size) -> ReadLine:
    points = np.array(parts).reshape(-1, 2)
    limit = np.array(size, np.float64)
    if points.max() >= 2 and points.min() >= 0 and (points <= limit + 1).all():
        return _outlined(found, "VK216", said, points)
    if ((points >= -ROUNDING) & (points <= 1 + ROUNDING)).all():
        found.polygon = (points * limit).ravel().tolist()
        found.box = polygon_box([found.polygon])
        return found
    within = np.clip(points, 0, 1) * limit
    if np.ptp(within, axis=0).min() < SHORTEST_SIDE:
        found.told.append(Told("VK205", f"{said} in an image of {size[0]}x{size[1]}", remove=True))
        return found
    return _outlined(found, "VK217", said, within)


def _meant(found: ReadLine, code: str, fact: str, box: Box) -> ReadLine:
    found.told.append(Told(code, fact, {"bbox": list(box)}))
    return found


def _outlined(found: ReadLine, code: str, fact: str, points: Any) -> ReadLine:
    polygon = points.ravel().tolist()
    becomes = {"segmentation": [polygon], "bbox": list(polygon_box([polygon]))}
    found.told.append(Told(code, fact, becomes))
    return found


def written_line(words: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any], size: Size) -> str:
    """A line as a repair leaves it: of a row that changed, what did not change as it was written.

    Args:
        words: of the line before.
        before, after: the row.
    """
    values = list(words[1 : -1 if len(words) % 2 == 0 else None])
    polygons = after.get("segmentation")
    if after["bbox"] != before["bbox"] or polygons != before.get("segmentation"):
        if polygons:
            numbers = [number / size[i % 2] for i, number in enumerate(polygons[0])]
        else:
            x, y, width, height = after["bbox"]
            numbers = [(x + width / 2) / size[0], (y + height / 2) / size[1], width / size[0], height / size[1]]
        values = [f"{number:.{DECIMALS}f}".rstrip("0").rstrip(".") for number in numbers]
    number = words[0] if after["category_id"] == before["category_id"] else str(after["category_id"])
    return " ".join((number, *values))


def _looks_like_pixels(box: Box) -> bool:
    """Whether four numbers are too large for shares, sides and all, and not only out of place."""
    return min(box) >= 0 and max(box) >= 2 and min(box[2:]) >= 1


def _in_pixels(box: Box, size: Size) -> Box:
    return box[0] * size[0], box[1] * size[1], box[2] * size[0], box[3] * size[1]


def _four(words: Sequence[str]) -> Box | None:
    """The four finite numbers after the class."""
    numbers = [number for word in words[1:5] if (number := _finite(word)) is not None]
    return (numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == 4 else None


def _score(words: Sequence[str]) -> float | None:
    """The last of a line's finite numbers, where it is one too many for a box or a polygon and may be a score."""
    if len(words) < 6 or len(words) % 2 or any(_finite(word) is None for word in words[1:]):
        return None
    score = float(words[-1])
    return score if 0 <= score <= 1 else None


def _finite(word: str) -> float | None:
    number = _number(word)
    return number if number is not None and math.isfinite(number) else None


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
