"""A split of a Pascal VOC dataset, looked through: every finding, and its files as a repair would leave them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from visionkit.diagnosis.coco_images import Look
from visionkit.diagnosis.file_repair import Edit, FileRepair, Line, RepairedCopy, left_out, lines_of
from visionkit.diagnosis.findings import Examination, Finding
from visionkit.diagnosis.made_rows import Examined, MadeRows
from visionkit.diagnosis.notebook import Origin, Row, Told
from visionkit.diagnosis.voc_objects import (
    Size,
    read_object,
    repaired_pieces,
    sides_of,
    write_sides_for_corners,
)
from visionkit.errors import DataError
from visionkit.formats.dataset_files import read_bytes, read_lines
from visionkit.formats.findings import shown
from visionkit.formats.voc import (
    VocList,
    VocSplit,
    annotated_names,
    class_table,
    is_name,
    may_name,
    name_in,
    pictures_of,
    read_annotation,
)
from visionkit.formats.xml_file import text_of
from visionkit.imaging.reader import check_image

_LIST = "a list of image names"
_XML = "an annotation file"


@dataclass(slots=True)
class _Annotated:
    """An image and its annotation file as they were read.

    Args:
        line: of the list that names it; None where none does.
        size: of the picture; what the file says where it cannot be read; 0 where nobody knows.
        row: of the image, from 0; None where it has none.
        objects: number of an object -> the row of annotations, from 0.
    """

    picture: Path | None
    file: Path
    line: Line | None
    xml: ElementTree.Element | None = None
    size: Size = (0, 0)
    row: int | None = None
    objects: dict[int, int] = field(default_factory=dict)
    codes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Listed:
    """A list of images, and the lines of it that name none."""

    file: Path | None
    data: bytes
    images: list[_Annotated] = field(default_factory=list)
    wrong: list[tuple[Line, str]] = field(default_factory=list)


def examine_voc(files: VocSplit, look: Look = None) -> Examination:
    """Everything that is wrong or odd in the annotation files, lists and images of a split.

    Args:
        look: as of `examine_coco`.
    """
    try:
        classes = class_table(files)
        names = dict(zip(classes.category_ids, classes.names, strict=True))
        made = MadeRows(files.source, names)
        lists = [_read_list(listed, made) for listed in files.lists]
    except DataError as error:
        return Examination(files.source, [Finding("VK002", files.source, "", str(error))])
    images = [image for listed in lists for image in listed.images]
    if not images:
        return Examination(
            files.source, [*made.findings, Finding("VK002", files.source, "", "lists no images")]
        )  # fmt: skip
    orphans = list(_orphans(files, made)) if files.lists[0] == files.all_lists[0] else []
    _add_rows(images, made)
    # The classes are those that objects have: one that a split lacks is told with the splits.
    examined = made.examine(look, listed=False)
    return examined.examination(files.source, lambda: _copy(files, lists, orphans, examined))


def _read_list(listed: VocList, made: MadeRows) -> _Listed:
    """Raises DataError where the list cannot be read."""
    pictures = pictures_of(listed.folder)
    if listed.names is None:
        names: list[tuple[str, Line | None]] = [(name, None) for name in annotated_names(listed.folder)]
        found = _Listed(None, b"")
    else:
        read_lines(listed.names, _LIST)  # refuses what is no text
        found = _Listed(listed.names, read_bytes(listed.names, _LIST))
        names = []
        for line in lines_of(found.data):
            if not may_name(line.text):
                made.find("VK403", listed.names, f"line {line.number}", f"is {shown(line.text)}", repaired=True)
                found.wrong.append((line, "VK403"))
            elif line.text:
                names.append((name_in(line.text), line))
    seen = set()
    for name, place in names:
        if name not in seen:
            seen.add(name)
            found.images.append(_read(listed.folder, name, pictures.get(name), place, listed.names, made))
    return found


def _read(
    folder: Path, name: str, picture: Path | None, line: Line | None, listed: Path | None, made: MadeRows
) -> _Annotated:
    image = _Annotated(picture, folder / "Annotations" / f"{name}.xml", line)
    where = (listed, f"line {line.number}") if listed is not None and line is not None else (image.file, "")
    if not os.path.exists(image.file):
        made.find("VK005", *where, f"image {shown(name)} has no {image.file.name}", repaired=True)
        image.codes = ("VK005",)
        return image
    if picture is None:
        made.find("VK402", *where, f"image {shown(name)} has no file in JPEGImages", repaired=True)
        image.codes = ("VK402",)
        return image
    try:
        image.xml = read_annotation(image.file)
    except DataError as error:
        made.find("VK001", image.file, "", str(error).removeprefix(f"{image.file} "), repaired=True)
        image.codes = ("VK001",)
        return image
    try:
        image.size = check_image(picture)
    except DataError:  # told when the row of the image is looked at
        image.size = (0, 0)
    return image


def _orphans(files: VocSplit, made: MadeRows) -> Iterator[Path]:
    """Annotation files of no image; and images that are neither annotated nor listed are told. Of all splits."""
    for folder in dict.fromkeys(folder for folder, _ in files.all_lists):
        pictures, annotated = pictures_of(folder), set(annotated_names(folder))
        lists = [names for own, names in files.all_lists if own == folder]
        listed = {name for names in lists for name in (annotated if names is None else _names_in(names))}
        for name in sorted(annotated - pictures.keys() - listed):
            file = folder / "Annotations" / f"{name}.xml"
            made.find("VK007", file, "", "has no image", repaired=True)
            yield file
        for name in sorted(pictures.keys() - annotated - listed):
            made.find("VK006", pictures[name], "", "has no annotation file, it is not read")


def _names_in(names: Path) -> set[str]:
    try:
        return {name_in(line) for line in read_lines(names, _LIST) if line}
    except DataError:  # told by the split it belongs to
        return set()


def _add_rows(images: Sequence[_Annotated], made: MadeRows) -> None:
    id_of = {name: category_id for category_id, name in made.names.items()}
    of_boxes = (
        (sides, image.size)
        for image in images
        if image.xml is not None
        for element in image.xml.findall("object")
        if (sides := sides_of(element)) is not None
    )
    sides_for_corners = write_sides_for_corners(of_boxes)
    from_zero = 0
    for image in images:
        if image.xml is None or image.picture is None:
            continue
        image.row = len(made.images)
        width, height = _stated_size(image.xml)
        image_id = made.add_image(image.picture.name, width, height, Origin(image.file, picture=image.picture))
        for number, element in enumerate(image.xml.findall("object"), 1):
            found = read_object(element, image.size, sides_for_corners)
            name, difficult = text_of(element, "name"), text_of(element, "difficult") or "0"
            if not is_name(name):
                found.told.append(Told("VK105", f"has name {shown(name)}", remove=True))
            if difficult not in ("0", "1"):
                found.told.append(Told("VK215", f"has difficult {shown(difficult)}", {"iscrowd": 0}))
            from_zero += found.box is not None and -1 in found.box[:2]
            image.objects[number] = len(made.objects)
            made.add_object(
                image_id,
                id_of.get(name),
                found.box,
                Origin(image.file, f"object {number}", found.said, told=tuple(found.told)),
                iscrowd=int(difficult == "1"),
            )
    if from_zero:
        made.find("VK219", made.source, "", f"has {from_zero} of {len(made.objects)} boxes with xmin or ymin 0")


def _stated_size(xml: ElementTree.Element) -> tuple[int | str | None, int | str | None]:
    """Width and height in pixels, or what the file says instead; None where it does not say, for which some tools
    write 0."""
    size = xml.find("size")
    width, height = (_side(text_of(size, side)) for side in ("width", "height"))
    if isinstance(width, int) and isinstance(height, int) and not (width and height):
        return None, None
    return width, height


def _side(text: str) -> int | str:
    try:
        number = float(text or "0")
    except ValueError:
        return text
    return int(number) if number >= 0 and number % 1 == 0 else text


# --- the repaired copy -----------------------------------------------------------------------------------------------


def _copy(files: VocSplit, lists: Sequence[_Listed], orphans: Sequence[Path], examined: Examined) -> RepairedCopy:
    """Raises DataError where a file cannot be repaired."""
    pictures: list[Path] = []
    others: list[Path] = []
    repairs = [repair for path in orphans for repair in left_out(path, ("VK007",))]
    for listed in lists:
        edits = [line.removed((code,)) for line, code in listed.wrong]
        for image in listed.images:
            row = None if image.row is None else examined.rows.images[image.row]
            codes = image.codes if row is None else tuple(row.codes)
            if row is None or row.removed or image.picture is None:
                edits += [] if image.line is None else [image.line.removed(codes)]
                repairs += left_out(image.file, codes)
                continue
            pictures.append(image.picture)
            pieces = _pieces(image, row, examined)
            if pieces:
                repairs.append(FileRepair(image.file, image.file.read_bytes(), pieces))
            else:
                others.append(image.file)
        if listed.file is not None and edits:
            repairs.append(FileRepair(listed.file, listed.data, tuple(sorted(edits, key=lambda edit: edit.start))))
        elif listed.file is not None:
            others.append(listed.file)
    return RepairedCopy(files.root, tuple(pictures), tuple(others), tuple(repairs)).checked()


def _pieces(image: _Annotated, row: Row, examined: Examined) -> tuple[Edit, ...]:
    objects = {number: examined.rows.annotations[index] for number, index in image.objects.items()}
    return repaired_pieces(image.file.read_bytes(), str(image.file), row, objects)
