"""The objects of VOC's annotation files read for what they may have been meant as, and written again."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from visionkit.diagnosis.coco_annotations import FEWEST_BOXES, SHARE_INSIDE, SHARE_OUTSIDE
from visionkit.diagnosis.file_repair import Edit
from visionkit.diagnosis.geometry import Box, inside
from visionkit.diagnosis.notebook import Row, Told
from visionkit.errors import DataError
from visionkit.formats.findings import shown
from visionkit.formats.new_dataset import short
from visionkit.formats.xml_file import text_of

SIDES = ("xmin", "ymin", "xmax", "ymax")

Size = tuple[int, int]
"""Width and height in pixels; 0 where nobody knows."""

DECIMALS = 2
"""Of the pixels that a repair writes."""


@dataclass(slots=True)
class ReadObject:
    """A bndbox as the box of a row.

    Args:
        box: x y w h in pixels; None where the row goes, or where `told` gives it.
        said: what findings say that the file has.
    """

    box: Box | None
    said: str
    told: list[Told] = field(default_factory=list)


def sides_of(element: ElementTree.Element) -> list[float] | None:
    """The four finite numbers of an object's bndbox; None where it has none."""
    numbers = [_number(text) for text in _texts(element)]
    sound = [number for number in numbers if number is not None and math.isfinite(number)]
    return sound if len(sound) == 4 else None


def write_sides_for_corners(boxes: Iterable[tuple[Sequence[float], Size]]) -> bool:
    """Whether all boxes of a split together say that xmax and ymax are width and height."""
    known = [(sides, size) for sides, size in boxes if all(size) and max(sides) > 1]
    if len(known) < FEWEST_BOXES:
        return False
    inverted = np.mean([sides[2] < sides[0] or sides[3] < sides[1] for sides, _ in known])
    fits = np.mean([inside((sides[0] - 1, sides[1] - 1, sides[2], sides[3]), *size) for sides, size in known])
    return bool(inverted >= SHARE_OUTSIDE and fits >= SHARE_INSIDE)


def read_object(element: ElementTree.Element, size: Size, sides_for_corners: bool) -> ReadObject:
    """What an object says of its box, in an image of this size.

    Args:
        sides_for_corners: as `write_sides_for_corners` says.
    """
    texts = _texts(element)
    said = "has no bndbox" if element.find("bndbox") is None else f"has bndbox {shown(texts)}"
    numbers = [number for text in texts if (number := _number(text)) is not None]
    if len(numbers) < 4:
        return ReadObject(None, said, [Told("VK201", said, remove=True)])
    if not all(map(math.isfinite, numbers)):
        return ReadObject(None, said, [Told("VK202", said, remove=True)])
    left, top, right, bottom = numbers
    words = f"{said} in an image of {size[0]}x{size[1]}"
    fractions = any(number % 1 for number in numbers)
    if all(size) and fractions and min(numbers) >= 0 and max(numbers) <= 1 and left < right and top < bottom:
        meant = (left * size[0], top * size[1], (right - left) * size[0], (bottom - top) * size[1])
        return ReadObject(None, said, [Told("VK207", words, {"bbox": list(meant)})])
    if sides_for_corners:
        return ReadObject(None, said, [Told("VK221", words, {"bbox": [left - 1, top - 1, right, bottom]})])
    if right < left - 1 or bottom < top - 1:
        left, right = sorted((left, right))
        top, bottom = sorted((top, bottom))
        return ReadObject(None, said, [Told("VK203", said, {"bbox": list(_box(left, top, right, bottom))})])
    # The pixels xmin .. xmax, counted from 1.
    found = ReadObject(_box(left, top, right, bottom), said)
    if (right == left or bottom == top) and right >= left and bottom >= top:
        found.told.append(Told("VK220", said))
    return found


def _box(left: float, top: float, right: float, bottom: float) -> Box:
    return left - 1, top - 1, right - left + 1, bottom - top + 1


def _texts(element: ElementTree.Element) -> list[str]:
    box = element.find("bndbox")
    return [text_of(box, side) for side in SIDES]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# --- the repaired file -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Span:
    """An element of a file: where its bytes begin and end, and those between its tags."""

    tag: str
    start: int
    inner: int
    inner_end: int = 0
    end: int = 0
    children: list[_Span] = field(default_factory=list)

    def find(self, tag: str) -> _Span | None:
        return next((child for child in self.children if child.tag == tag), None)


_TAG = re.compile(rb"""<[^"'>]*(?:"[^"]*"[^"'>]*|'[^']*'[^"'>]*)*>""")


def repaired_pieces(data: bytes, name: str, image: Row, objects: Mapping[int, Row]) -> tuple[Edit, ...]:
    """The pieces of an annotation file that a repair replaces.

    Args:
        name: what messages call the file.
        image: the row of the image.
        objects: number of the object, counted from 1 -> its row.

    Raises:
        DataError: the file is in an encoding in which tags cannot be found.
    """
    if not image.codes and not any(row.codes for row in objects.values()):
        return ()
    root = _spans(data, name)
    edits = []
    if image.codes:
        edits.append(_size_edit(data, root, image))
    found = [child for child in root.children if child.tag == "object"]
    for number, row in objects.items():
        if not row.codes:
            continue
        span, codes = found[number - 1], tuple(dict.fromkeys(row.codes))
        if row.removed:
            before = data[: span.start]
            edits.append(Edit(len(before.rstrip(b" \t\r\n")), span.end, b"", codes))
        else:
            edits.append(Edit(span.start, span.end, _with_texts(data, span, _object_texts(span, row)), codes))
    return tuple(sorted(edits, key=lambda edit: edit.start))


def _object_texts(span: _Span, row: Row) -> dict[tuple[int, int], str]:
    """Bytes of an object -> the text that takes their place."""
    texts = {}
    box, difficult = span.find("bndbox"), span.find("difficult")
    if row.content["bbox"] != row.before["bbox"] and box is not None:
        x, y, width, height = row.content["bbox"]
        for side, number in zip(SIDES, (x + 1, y + 1, x + width, y + height), strict=True):
            leaf = box.find(side)
            if leaf is not None:
                texts[leaf.inner, leaf.inner_end] = str(short(round(number, DECIMALS)))
    if "VK215" in row.codes and difficult is not None:
        texts[difficult.inner, difficult.inner_end] = str(row.content["iscrowd"])
    return texts


def _size_edit(data: bytes, root: _Span, image: Row) -> Edit:
    said = {side: str(image.content[side]) for side in ("width", "height")}
    size = root.find("size")
    leaves = {side: size.find(side) if size is not None else None for side in said}
    codes = tuple(dict.fromkeys(image.codes))
    if size is None or None in leaves.values():
        whole = f"<size><width>{said['width']}</width><height>{said['height']}</height><depth>3</depth></size>"
        place = (root.inner, root.inner) if size is None else (size.start, size.end)
        return Edit(*place, whole.encode(), codes)
    texts = {(leaf.inner, leaf.inner_end): said[side] for side, leaf in leaves.items() if leaf is not None}
    return Edit(size.start, size.end, _with_texts(data, size, texts), codes)


def _with_texts(data: bytes, span: _Span, texts: Mapping[tuple[int, int], str]) -> bytes:
    pieces, place = [], span.start
    for (start, end), text in sorted(texts.items()):
        pieces += [data[place:start], text.encode()]
        place = end
    return b"".join((*pieces, data[place : span.end]))


def _spans(data: bytes, name: str) -> _Span:
    """The root of a file that was read before."""
    parser = expat.ParserCreate()
    opened: list[_Span] = []
    roots: list[_Span] = []

    def start(tag: str, _attributes: Any) -> None:
        found = _TAG.match(data, parser.CurrentByteIndex)
        if found is None:
            raise DataError(f"{name} is in an encoding that is not repaired; save it as UTF-8")
        span = _Span(tag, found.start(), found.end())
        (opened[-1].children if opened else roots).append(span)
        opened.append(span)

    def end(_tag: str) -> None:
        span, place = opened.pop(), parser.CurrentByteIndex
        if data[span.inner - 2 : span.inner] == b"/>":  # nothing lies between
            span.inner_end = span.end = span.inner
        else:
            span.inner_end, span.end = place, data.index(b">", place) + 1

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(data, True)
    return roots[0]
