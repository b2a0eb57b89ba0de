"""A split of masks, looked through: every finding, and its masks as a repair would leave them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visionkit.diagnosis.coco_images import Look
from visionkit.diagnosis.file_repair import Edit, FileRepair, Line, RepairedCopy, left_out, lines_of
from visionkit.diagnosis.findings import Examination, Finding
from visionkit.diagnosis.mask_pixels import JudgedMask, judge_mask
from visionkit.errors import DataError
from visionkit.formats.dataset_files import read_bytes, read_lines
from visionkit.formats.findings import shown
from visionkit.formats.json_file import read_json
from visionkit.formats.mask_colours import Colour, is_colour
from visionkit.formats.mask_folders import CLASSES, MaskFolders, VocMasks
from visionkit.formats.mask_images import (
    BLACK_AND_WHITE_REMARK,
    IGNORED,
    MaskClasses,
    MaskedImage,
    is_black_and_white,
    read_mask_classes,
)
from visionkit.formats.records import AnnotatedImages, ImageRecord, MaskFile
from visionkit.formats.voc import may_name, name_in
from visionkit.imaging.header import read_header
from visionkit.imaging.reader import check_image

_LIST = "a list of image names"


@dataclass(frozen=True, slots=True)
class _Pair:
    """An image with its mask, and the line that lists it."""

    image: MaskedImage
    line: Line | None = None


class _Book:
    """The findings of a split, and what a repair makes of its files."""

    def __init__(self, source: Path, classes: MaskClasses, palette: Mapping[Colour, int]) -> None:
        self.source, self.classes, self.palette = source, classes, palette
        self.findings: list[Finding] = []
        self.records: list[ImageRecord] = []
        self.partly_judged = 0
        self.pictures: list[Path] = []
        self.others: list[Path] = []
        self.repairs: list[FileRepair] = []
        self.edits: list[Edit] = []

    def find(self, code: str, file: Path, fact: str, item: str = "", *, repaired: bool = False) -> None:
        self.findings.append(Finding(code, file, item, fact, repaired))

    def leave_out(self, pair: _Pair, *codes: str) -> None:
        """The copy goes without an image and its mask."""
        if pair.line is not None:
            self.edits.append(pair.line.removed(codes))
        self.repairs += left_out(pair.image.mask, codes)


def examine_mask_folders(files: MaskFolders, look: Look = None) -> Examination:
    """Everything that is wrong or odd in the masks and images of a split of the project's own folders.

    Args:
        look: as of `examine_coco`.
    """
    try:
        classes = read_mask_classes(files.classes)
    except DataError as error:
        return Examination(files.classes, [Finding("VK001", files.classes, "", str(error))])
    book = _Book(files.images, classes, _palette(files.classes, len(classes.table)))
    pairs, lonely = files.pairs_and_lonely()
    for path in lonely:
        book.find("VK007", path, "has no image", repaired=True)
        book.repairs += left_out(path, ("VK007",))
    book.others.append(files.classes)
    return _examined(
        book, [_Pair(pair) for pair in pairs], look, files.classes, lambda: _root(files.classes.parent, book)
    )  # fmt: skip


def examine_voc_masks(files: VocMasks, look: Look = None) -> Examination:
    """The same of a list of Pascal VOC's palette masks."""
    file = files.root / CLASSES
    try:
        classes = files.mask_classes()
        names = None if files.names is None else _list_bytes(files.names)
    except DataError as error:
        return Examination(files.source, [Finding("VK001", files.source, "", str(error))])
    palette = _palette(file, len(classes.table)) if file.is_file() else {}
    book = _Book(files.source, classes, palette or voc_colours(len(classes.table)))
    if file.is_file():
        book.others.append(file)
    pairs = list(_voc_pairs(files, names, book))

    def copy() -> RepairedCopy:
        if files.names is not None and names is not None:
            if book.edits:
                edits = tuple(sorted(book.edits, key=lambda edit: edit.start))
                book.repairs.append(FileRepair(files.names, names, edits))
            else:
                book.others.append(files.names)
        return _root(files.root, book)

    return _examined(book, pairs, look, file if file.is_file() else files.source, copy)


def _list_bytes(file: Path) -> bytes:
    """Raises DataError where it is no text."""
    read_lines(file, _LIST)
    return read_bytes(file, _LIST)


def _voc_pairs(files: VocMasks, listed: bytes | None, book: _Book) -> Iterator[_Pair]:
    images, masks = files.files()
    names: list[tuple[str, Line | None]] = [(name, None) for name in sorted(masks)] if listed is None else []
    for line in lines_of(listed or b""):
        if not may_name(line.text):
            book.find("VK403", files.source, f"is {shown(line.text)}", f"line {line.number}", repaired=True)
            book.edits.append(line.removed(("VK403",)))
        elif line.text:
            names.append((name_in(line.text), line))
    seen = set()
    for name, found in names:
        if name in seen:
            continue
        seen.add(name)
        if name in images:
            yield _Pair(MaskedImage(images[name].name, images[name], masks.get(name)), found)
        elif found is not None:
            fact = f"names {shown(name)}, which has no file in JPEGImages"
            book.find("VK402", files.source, fact, f"line {found.number}", repaired=True)
            book.edits.append(found.removed(("VK402",)))
        else:
            book.find("VK402", masks[name], "has no image in JPEGImages", repaired=True)
            book.repairs += left_out(masks[name], ("VK402",))


def _examined(
    book: _Book, pairs: Sequence[_Pair], look: Look, classes_file: Path, copy: Callable[[], RepairedCopy]
) -> Examination:
    if not pairs:
        book.find("VK002", book.source, "holds no images")
        return Examination(book.source, book.findings)
    totals = np.zeros(len(book.classes.table), np.int64)
    for pair in pairs:
        totals += _examine_pair(pair, book, look)
    if totals.any():
        why = f"; {BLACK_AND_WHITE_REMARK}" if book.partly_judged and is_black_and_white(totals, book.classes) else ""
        for label in np.flatnonzero(totals == 0).tolist():
            fact = f"({book.classes.table.names[label]}) has no pixel{why}"
            book.find("VK108", classes_file, fact, f"class {label}")
    truth = None
    if book.records:
        truth = AnnotatedImages(book.classes.table, tuple(book.records), book.source)
    try:
        return Examination(book.source, book.findings, truth=truth, copy=copy())
    except DataError as error:
        return Examination(book.source, book.findings, truth=truth, no_copy=str(error))


def _examine_pair(pair: _Pair, book: _Book, look: Look) -> Any:
    """i64 [K], pixels of each class."""
    nothing = np.zeros(len(book.classes.table), np.int64)
    path, mask = pair.image.image, pair.image.mask
    try:
        size = check_image(path)
        if look is not None:
            look(path)
        with path.open("rb") as stream:
            header = read_header(stream, str(path))
    except DataError as error:
        book.find("VK404", path, str(error), repaired=True)
        book.leave_out(pair, "VK404")
        return nothing
    if mask is None:
        book.find("VK005", path, "has no mask", repaired=True)
        book.leave_out(pair, "VK005")
        return nothing
    judged = judge_mask(mask, header, size, book.classes, book.palette)
    for code, fact, mended in judged.found:
        book.find(code, mask, fact, repaired=mended)
    codes = tuple(code for code, _, _ in judged.found)
    if judged.gone:
        book.leave_out(pair, *codes)
        return nothing
    book.pictures.append(path)
    if judged.repaired is None:
        book.others.append(mask)
    else:
        book.repairs.append(FileRepair(mask, mask.read_bytes(), whole=judged.repaired, codes=codes))
    return nothing + _recorded(pair.image, judged, book) if judged.labels is not None else nothing


def _recorded(pair: MaskedImage, judged: JudgedMask, book: _Book) -> Any:
    assert judged.labels is not None
    assert pair.mask is not None
    counts = np.bincount(judged.labels.ravel(), minlength=256)[: len(book.classes.table)].astype(np.int64)
    height, width = judged.labels.shape
    book.partly_judged += int(counts.sum() < judged.labels.size)
    mask = MaskFile(pair.mask, tuple(counts.tolist()), book.classes.ignored, book.classes.colours)
    book.records.append(ImageRecord(len(book.records) + 1, pair.file_name, pair.image, width, height, mask=mask))
    return counts


def _root(root: Path, book: _Book) -> RepairedCopy:
    """Raises DataError where a file lies outside of the dataset's folder."""
    return RepairedCopy(root, tuple(book.pictures), tuple(book.others), tuple(book.repairs)).checked()


def _palette(file: Path, count: int) -> dict[Colour, int]:
    """The numbers of the colours that a `classes.json` names for masks of numbers; none where it names none."""
    content = read_json(file)
    said = content.get("palette") if isinstance(content, dict) else None
    if not isinstance(said, list) or not all(map(is_colour, said)):
        return {}
    numbered = [(tuple(colour), number) for number, colour in enumerate(said)]
    return {colour: number for colour, number in reversed(numbered) if number < count or number == IGNORED}


def voc_colours(count: int) -> dict[Colour, int]:
    """The numbers of the colours of VOC's masks (development kit, `VOClabelcolormap`): the bits of a number, three at a
    time, are the highest bits of red, green and blue.

    >>> voc_colours(3)
    {(0, 0, 0): 0, (128, 0, 0): 1, (0, 128, 0): 2, (224, 224, 192): 255}
    """
    numbers = {}
    for number in (*range(count), IGNORED):
        channels = [sum((number >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
        numbers[channels[0], channels[1], channels[2]] = number
    return numbers
