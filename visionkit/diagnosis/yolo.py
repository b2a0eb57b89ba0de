"""A split of a YOLO dataset, looked through: every finding, and its label files as a repair would leave them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from visionkit.diagnosis.coco_images import Look
from visionkit.diagnosis.file_repair import Edit, FileRepair, Line, RepairedCopy, left_out, lines_of
from visionkit.diagnosis.findings import Examination, Finding
from visionkit.diagnosis.made_rows import Examined, MadeRows
from visionkit.diagnosis.notebook import Origin, Row, Told
from visionkit.diagnosis.yolo_lines import Size, habit_of_lines, read_line, written_line
from visionkit.errors import DataError
from visionkit.formats.dataset_files import read_bytes, read_lines
from visionkit.formats.dataset_layout import SPLITS
from visionkit.formats.findings import shown
from visionkit.formats.yaml_file import read_yaml
from visionkit.formats.yolo_txt import YoloSplit, images_below, label_file
from visionkit.formats.yolo_yaml import source_place
from visionkit.imaging.reader import check_image

_LABELS = "a label file"
_LIST = "a list of image files"


@dataclass(slots=True)
class _Labelled:
    """An image and its label file as they were read.

    Args:
        size: None where the picture cannot be read.
        data: of the label file; None where it has none.
    """

    path: Path
    labels: Path
    size: Size | None = None
    data: bytes | None = None
    lines: list[Line] = field(default_factory=list)
    unread: str = ""


@dataclass(slots=True)
class _Listed:
    """The list of a split, where it has one, and the line of each image."""

    file: Path
    data: bytes
    lines: list[tuple[Line, Path | None, str]] = field(default_factory=list)


def examine_yolo(files: YoloSplit, look: Look = None) -> Examination:
    """Everything that is wrong or odd in the label files, lists and images of a split.

    Args:
        look: as of `examine_coco`.
    """
    made = MadeRows(files.file, files.names)
    try:
        paths, lists = _pictures(files, made)
    except DataError as error:
        return Examination(files.file, [Finding("VK001", files.file, "", str(error))])
    if not paths:
        named = ", ".join(map(str, files.sources))
        return Examination(files.file, [*made.findings, Finding("VK002", files.file, "", f"{named} holds no images")])
    images = [_read(path) for path in paths]
    unused = files.unused_labels([image.labels for image in images])
    if not any(os.path.exists(image.labels) for image in images):
        fact = f"none of {len(images)} images has a label file, looked for {images[0].labels} and so on"
        made.find("VK005", files.file, "", fact)
    else:
        for image in images:
            if not os.path.exists(image.labels):
                made.find("VK006", image.path, "", f"has no {image.labels.name}, it is taken as without objects")
    for path in unused:
        made.find("VK007", path, "", "has no image", repaired=True)
    words = _add_rows(files, images, made)
    examined = made.examine(look)
    return examined.examination(files.file, lambda: _copy(files, images, lists, unused, words, examined))


def _pictures(files: YoloSplit, made: MadeRows) -> tuple[list[Path], list[_Listed]]:
    """The image files of all sources, each once, and the lists that name them. Raises DataError for a source that
    cannot be read."""
    found: list[Path] = []
    lists: list[_Listed] = []
    for source in files.sources:
        if os.path.isdir(source):
            found += images_below(source)
            continue
        if not os.path.isfile(source):
            raise DataError(f"names {source}, which does not exist")
        read_lines(source, _LIST)  # refuses what is no text
        listed = _Listed(source, read_bytes(source, _LIST))
        for line in lines_of(listed.data):
            path, code = None, ""
            if not files.may_name(line.text):
                code = "VK403"
            elif line.text:
                path = files.listed_image(source, line.text)
                code = "" if path else "VK402"
            if code:
                made.find(code, source, f"line {line.number}", f"names {shown(line.text)}", repaired=True)
            if path is not None:
                found.append(path)
            listed.lines.append((line, path, code))
        lists.append(listed)
    return list(dict.fromkeys(found)), lists


def _read(path: Path) -> _Labelled:
    image = _Labelled(path, label_file(path))
    try:
        image.size = check_image(path)
    except DataError:  # told when the row of the image is looked at
        return image
    if os.path.exists(image.labels):
        try:
            read_lines(image.labels, _LABELS)  # refuses what is no text
            image.data = read_bytes(image.labels, _LABELS)
            image.lines = [line for line in lines_of(image.data) if line.text]
        except DataError as error:
            image.unread = str(error)
    return image


def _add_rows(files: YoloSplit, images: Sequence[_Labelled], made: MadeRows) -> dict[int, tuple[Line, list[str]]]:
    """The rows of all images and lines; the line of each row of annotations, by its id."""
    habit = habit_of_lines((line.text.split(), image.size) for image in images if image.size for line in image.lines)
    words_of: dict[int, tuple[Line, list[str]]] = {}
    for image in images:
        told = (Told("VK001", f"cannot be read ({image.unread})", remove=True),) if image.unread else ()
        width, height = image.size or (None, None)
        file = image.labels if image.unread else image.path
        origin = Origin(file, picture=image.path, told=told)
        image_id = made.add_image(files.name(image.path), width, height, origin)
        if image.size is None or image.unread:
            continue
        for line in image.lines:
            words, item = line.text.split(), f"line {line.number}"
            found = read_line(words, image.size, files.names, habit)
            if found.unknown is not None:
                made.find(found.unknown[0], image.labels, item, found.unknown[1])
                continue
            said = f"is {shown(line.text)}"
            made.add_object(
                image_id,
                found.category_id,
                found.box,
                Origin(image.labels, item, said, told=tuple(found.told)),
                None if found.polygon is None else [found.polygon],
            )
            words_of[len(made.objects)] = line, words
    return words_of


# --- the repaired copy -----------------------------------------------------------------------------------------------


def _copy(
    files: YoloSplit,
    images: Sequence[_Labelled],
    lists: Sequence[_Listed],
    unused: Sequence[Path],
    words: dict[int, tuple[Line, list[str]]],
    examined: Examined,
) -> RepairedCopy:
    """Raises DataError where a file lies outside of the dataset's folder."""
    pictures: list[Path] = []
    others: list[Path] = []
    repairs = [repair for path in unused for repair in left_out(path, ("VK007",))]
    gone: dict[Path, tuple[str, ...]] = {}
    for image, (row, objects) in zip(images, examined.objects_by_image(), strict=True):
        if row.removed:
            gone[image.path] = tuple(row.codes)
            repairs += left_out(image.labels, tuple(row.codes))
            continue
        pictures.append(image.path)
        edits = [edit for each in objects if (edit := _edit(each, words, image)) is not None]
        if edits and image.data is not None:
            repairs.append(FileRepair(image.labels, image.data, tuple(edits)))
        elif image.data is not None:
            others.append(image.labels)
    root = RepairedCopy(files.root)
    for listed in lists:
        edits = list(_list_edits(listed, gone, root))
        if edits:
            repairs.append(FileRepair(listed.file, listed.data, tuple(edits)))
        else:
            others.append(listed.file)
    described = _described(files, root)
    if described is None:
        others.append(files.file)
    else:
        repairs.append(described)
    renamed = {files.file: files.file.name}
    return RepairedCopy(files.root, tuple(pictures), tuple(others), tuple(repairs), renamed).checked()


def _edit(row: Row, words: dict[int, tuple[Line, list[str]]], image: _Labelled) -> Edit | None:
    if not row.codes or image.data is None or image.size is None:
        return None
    line, own = words[row.before["id"]]
    if row.removed:
        return line.removed(row.codes)
    return line.replaced(written_line(own, row.before, row.content, image.size), row.codes, image.data)


def _list_edits(listed: _Listed, gone: dict[Path, tuple[str, ...]], copy: RepairedCopy) -> list[Edit]:
    edits = []
    for line, path, code in listed.lines:
        if code:
            edits.append(line.removed((code,)))
        elif path is not None and path in gone:
            edits.append(line.removed(gone[path]))
        elif path is not None and os.path.isabs(line.text):
            edits.append(line.replaced(copy.name(path), (), listed.data))  # or it would name the old picture
    return edits


def _described(files: YoloSplit, copy: RepairedCopy) -> FileRepair | None:
    """The `data.yaml` of the copy where it says in which folder the dataset lies; None where it can stay as it is."""
    content = read_yaml(files.file)
    said = {name: content[name] for name in SPLITS if content.get(name)}
    sources = {name: value if isinstance(value, list) else [value] for name, value in said.items()}
    plain = all(not os.path.isabs(s) and ".." not in Path(s).parts for each in sources.values() for s in each)
    if plain and content.get("path") in (None, "", "."):
        return None
    for name, each in sources.items():
        found = [copy.name(source_place(copy.root, source)) for source in each]
        content[name] = found if isinstance(said[name], list) else found[0]
    content.pop("path", None)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return FileRepair(files.file, files.file.read_bytes(), whole=text.encode())
