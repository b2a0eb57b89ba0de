"""Faults put into YOLO, VOC and masks on purpose, a kind each: what the doctor has to find."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from diagnosis_files import HEIGHT, NAMES, PALETTE, PLACES, WIDTH, Object, Picture, voc_object, write_text, yolo_line
from numpy.typing import NDArray
from pictures import encoded
from PIL import Image

from visionkit.diagnosis.findings import Finding


@dataclass(frozen=True)
class Fault:
    """What was put in: the code that finds it, the file and the item in it."""

    kind: str
    code: str
    file: str
    item: str = ""


@dataclass
class Line:
    """Files of one picture, for a fault to change.

    Args:
        number: of the object, from 1.
    """

    root: Path
    split: str
    picture: Picture
    number: int
    thing: Object = field(init=False)

    def __post_init__(self) -> None:
        self.thing = self.picture.objects[self.number - 1]

    @property
    def shares(self) -> list[float]:
        return [float(word) for word in yolo_line(self.thing).split()[1:]]

    def file(self, name: str) -> Path:
        return self.root / name.format(split=self.split, name=self.picture.name)


Way = Callable[[Line], None]


def _yolo(change: Callable[[Line], str]) -> Way:
    """A fault in a line of a label file; a text of two lines adds one."""

    def way(line: Line) -> None:
        file = line.file("labels/{split}/{name}.txt")
        lines = file.read_text().splitlines()
        lines[line.number - 1] = change(line)
        file.write_text("\n".join(lines) + "\n")

    return way


def _words(line: Line, **values: float | str) -> str:
    """The line with other values."""
    words = dict(zip(("number", "cx", "cy", "w", "h"), yolo_line(line.thing).split(), strict=True))
    return " ".join(str(value) for value in {**words, **values}.values())


def _in_pixels(line: Line) -> str:
    x, y, w, h = line.thing.box
    return f"{line.thing.label} {x + w / 2} {y + h / 2} {w} {h}"


# kind -> (code, what is done to a line)
YOLO_LINES: dict[str, tuple[str, Way]] = {
    "in pixels": ("VK216", _yolo(_in_pixels)),
    "not a number": ("VK202", _yolo(lambda line: _words(line, cy="nan"))),
    "a word": ("VK201", _yolo(lambda line: _words(line, w="wide"))),
    "negative width": ("VK203", _yolo(lambda line: _words(line, w=-line.shares[2]))),
    "no width": ("VK204", _yolo(lambda line: _words(line, w=0))),
    "far outside": ("VK205", _yolo(lambda line: _words(line, cx=1.6))),
    "over the edge": ("VK206", _yolo(lambda line: _words(line, cx=0.97))),
    "above 1": ("VK217", _yolo(lambda line: _words(line, cx=1.02))),
    "unknown class": ("VK105", _yolo(lambda line: _words(line, number=7))),
    "class by name": ("VK103", _yolo(lambda line: _words(line, number=NAMES[line.thing.label]))),
    "a score behind": ("VK218", _yolo(lambda line: f"{_words(line)} 0.87")),
    "a value lost": ("VK218", _yolo(lambda line: _words(line).rsplit(" ", 1)[0])),
}


def _twice(line: Line) -> None:
    file = line.file("labels/{split}/{name}.txt")
    file.write_text(file.read_text() + yolo_line(line.thing) + "\n")


def _spoil(name: str) -> Way:
    return lambda line: line.file(name).write_bytes(b"\xff\xfe\0 nothing \x80")  # type: ignore[return-value]


def _lose(name: str) -> Way:
    return lambda line: line.file(name).unlink()


def _write(name: str, text: str) -> Way:
    return lambda line: write_text(line.file(name), text)  # type: ignore[return-value]


# kind -> (code, the file that findings name, the item, what is done)
YOLO_FILES: dict[str, tuple[str, str, str, Way]] = {
    "annotated twice": ("VK213", "{name}.txt", f"line {PLACES + 1}", _twice),
    "labels unreadable": ("VK001", "{name}.txt", "", _spoil("labels/{split}/{name}.txt")),
    "labels lost": ("VK006", "{name}.png", "", _lose("labels/{split}/{name}.txt")),
    "image broken": ("VK404", "{name}.png", "", _spoil("images/{split}/{name}.png")),
    "labels of nothing": ("VK007", "x{name}.txt", "", _write("labels/{split}/x{name}.txt", "0 0.5 0.5 0.1 0.1\n")),
}


def _voc(change: Callable[[Line, str], str]) -> Way:
    """A fault in an object of an annotation file."""

    def way(line: Line) -> None:
        file = line.file("Annotations/{name}.xml")
        before = voc_object(line.thing)
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, change(line, before)))

    return way


def _sides(**values: float | str) -> Callable[[Line, str], str]:
    def change(_line: Line, text: str) -> str:
        for tag, value in values.items():
            text = re.sub(f"<{tag}>.*</{tag}>", f"<{tag}>{value}</{tag}>", text)
        return text

    return change


def _inverted(line: Line, text: str) -> str:
    x, y, w, h = line.thing.box
    return _sides(xmin=x + w, ymin=y + h, xmax=x + 1, ymax=y + 1)(line, text)


def _as_shares(line: Line, text: str) -> str:
    x, y, w, h = line.thing.box
    sides = {"xmin": x / WIDTH, "ymin": y / HEIGHT, "xmax": (x + w) / WIDTH, "ymax": (y + h) / HEIGHT}
    return _sides(**sides)(line, text)


VOC_OBJECTS: dict[str, tuple[str, Way]] = {
    "no bndbox": ("VK201", _voc(lambda line, text: text.replace("bndbox", "box"))),
    "not a number": ("VK202", _voc(_sides(ymax="nan"))),
    "a word": ("VK201", _voc(_sides(ymax="low"))),
    "inverted": ("VK203", _voc(_inverted)),
    "empty": ("VK204", _voc(lambda line, text: _sides(xmax=line.thing.box[0])(line, text))),
    "far outside": ("VK205", _voc(_sides(xmin=400, xmax=420))),
    "over the edge": ("VK206", _voc(_sides(xmax=WIDTH + 9))),
    "in shares": ("VK207", _voc(_as_shares)),
    "no name": ("VK105", _voc(lambda line, text: re.sub("<name>.*</name>", "<name/>", text))),
    "difficult 7": ("VK215", _voc(_sides(difficult=7))),
    "one pixel": ("VK220", _voc(lambda line, text: _sides(xmax=line.thing.box[0] + 1)(line, text))),
}


def _voc_list(change: Callable[[str], str]) -> Way:
    def way(line: Line) -> None:
        file = line.file("ImageSets/Main/{split}.txt")
        file.write_text(file.read_text().replace(f"{line.picture.name}\n", change(line.picture.name) + "\n"))

    return way


def _voc_size(line: Line) -> None:
    file = line.file("Annotations/{name}.xml")
    file.write_text(file.read_text().replace(f"<width>{WIDTH}</width>", f"<width>{2 * WIDTH}</width>"))


def _voc_twice(line: Line) -> None:
    file = line.file("Annotations/{name}.xml")
    file.write_text(file.read_text().replace("\n</annotation>", f"{voc_object(line.thing)}\n</annotation>"))


_ROW = "line {number}"
VOC_FILES: dict[str, tuple[str, str, str, Way]] = {
    "annotated twice": ("VK213", "{name}.xml", f"object {PLACES + 1}", _voc_twice),
    "annotations unreadable": ("VK001", "{name}.xml", "", _write("Annotations/{name}.xml", "<annotation>")),
    "annotations lost": ("VK005", "{split}.txt", _ROW, _lose("Annotations/{name}.xml")),
    "image lost": ("VK402", "{split}.txt", _ROW, _lose("JPEGImages/{name}.png")),
    "image broken": ("VK404", "{name}.xml", "", _spoil("JPEGImages/{name}.png")),
    "wrong size": ("VK405", "{name}.xml", "", _voc_size),
    "name leads out": ("VK403", "{split}.txt", _ROW, _voc_list(lambda name: f"../{name}")),
    "annotations of nothing": ("VK007", "x{name}.xml", "", _write("Annotations/x{name}.xml", "<annotation/>")),
}


def _mask(change: Callable[[NDArray[np.uint8]], Image.Image | bytes]) -> Way:
    def way(line: Line) -> None:
        file = line.file("masks/{split}/{name}.png")
        made = change(line.picture.labels())
        if isinstance(made, bytes):
            file.write_bytes(made)
        else:
            made.save(file, "PNG")

    return way


def _stray(labels: NDArray[np.uint8]) -> Image.Image:
    labels[2:12, 2:12] = 9
    return Image.fromarray(labels)


def _coloured(labels: NDArray[np.uint8]) -> Image.Image:
    colours = np.array(PALETTE, np.uint8)[np.where(labels == 255, 0, labels)]
    return Image.fromarray(colours)


def _smooth(labels: NDArray[np.uint8]) -> Image.Image:
    """As if the labels were grey levels, scaled down and up again."""
    small = cv2.resize(labels, (WIDTH // 2 - 3, HEIGHT // 2 - 3), interpolation=cv2.INTER_LINEAR)
    return Image.fromarray(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR))


MASK = "{name}.png"
MASK_FILES: dict[str, tuple[str, str, str, Way]] = {
    "another size": ("VK305", MASK, "", _mask(lambda labels: Image.fromarray(labels[:-7]))),
    "unknown value": ("VK309", MASK, "", _mask(_stray)),
    "smooth edges": ("VK310", MASK, "", _mask(_smooth)),
    "JPEG": ("VK311", MASK, "", _mask(lambda labels: encoded(labels, "JPEG"))),
    "all ignored": ("VK312", MASK, "", _mask(lambda labels: Image.fromarray(np.full_like(labels, 255)))),
    "colours": ("VK313", MASK, "", _mask(_coloured)),
    "unreadable": ("VK306", MASK, "", _mask(lambda labels: b"\x89PNG nothing")),
    "mask lost": ("VK005", MASK, "", _lose("masks/{split}/{name}.png")),
    "image broken": ("VK404", MASK, "", _spoil("images/{split}/{name}.png")),
    "mask of nothing": (
        "VK007",
        "x{name}.png",
        "",
        lambda line: Image.fromarray(line.picture.labels()).save(line.file("masks/{split}/x{name}.png")),
    ),
}


def damage(
    root: Path,
    pictures: Sequence[Picture],
    rows: dict[str, tuple[str, Way]],
    files: dict[str, tuple[str, str, str, Way]],
    *,
    each: int,
    item: str = "line",
    suffix: str = ".txt",
) -> list[Fault]:
    """`each` faults of every kind put into the train split: those of rows two to a picture, those of files one.

    Args:
        item: what findings call a row, `suffix` of the file it is in.
    """
    faults: list[Fault] = []
    left: Iterator[tuple[int, Picture]] = iter(enumerate(pictures, 1))
    of_rows = [kind for kind in rows for _ in range(each)]
    for pair in zip(of_rows[::2], of_rows[1::2], strict=True):
        _, picture = next(left)
        for kind, number in zip(pair, (1, 3), strict=True):
            code, way = rows[kind]
            way(Line(root, "train", picture, number))
            faults.append(Fault(kind, code, f"{picture.name}{suffix}", f"{item} {number}"))
    for kind, (code, file, place, way) in files.items():
        for _ in range(each):
            number, picture = next(left)
            way(Line(root, "train", picture, 1))
            names = {"name": picture.name, "split": "train", "number": number}
            faults.append(Fault(kind, code, file.format(**names), place.format(**names)))
    return faults


def score(faults: Sequence[Fault], found: Sequence[Finding]) -> tuple[dict[str, tuple[int, int]], float, float]:
    """By kind the faults and how many of them are found; recall and precision over all.

    A finding on what was damaged is right, whatever else the fault makes of it; a fault is found where its code is.
    """
    told = {(finding.code, finding.file.name, finding.item) for finding in found}
    kinds: dict[str, tuple[int, int]] = {}
    for fault in faults:
        count, hits = kinds.get(fault.kind, (0, 0))
        kinds[fault.kind] = count + 1, hits + ((fault.code, fault.file, fault.item) in told)
    places = {(fault.file, fault.item) for fault in faults}
    right = sum((finding.file.name, finding.item) in places for finding in found)
    return kinds, sum(hits for _, hits in kinds.values()) / len(faults), right / max(1, len(found))
