"""YOLO datasets -> records: a `data.yaml`, and beside each image a text file with a line an object.

A line is `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...` for a polygon, all in parts of the image's width and
height; the box of a polygon is the smallest around it. Here, once, they become pixels. Category ids are the file's own
class numbers, 0 included. Images count from 1 in the order of their folders, sorted, or lists; objects from 1 too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.boxes import Box, check_box
from visionkit.formats.coco_segmentation import segmentation_area
from visionkit.formats.dataset_files import files_below, read_bytes, read_lines
from visionkit.formats.findings import Findings, shown
from visionkit.formats.image_files import upright_size
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.imaging.header import IMAGE_SUFFIXES

ROUNDING = 0.01
"""How far outside 0..1 a coordinate may lie, in parts of the image; tools differ in what they round."""

BACKGROUND_REMARK = "images without a label file, taken as without objects"
UNUSED_REMARK = "label files without an image, not read"

_LIST = "a list of image files"
_LABELS = "a label file"
_INSIDE_RULE = "a list must name images inside the dataset's folder; correct it"
_THERE_RULE = "every listed image must be there; add the file or remove the line"
_LABELS_RULE = "label files must be readable text; correct or remove it"
_ROW_RULE = "a line has a class and either cx cy w h or the x y of at least three points; correct or remove it"
_CLASS_RULE = "a class must be a whole number that data.yaml names; name the class or remove the line"
_RANGE_RULE = "coordinates must be parts of the image, 0 to 1; divide pixels by width and height"


class YoloSplit(NamedTuple):
    """One split as a `data.yaml` names it.

    Args:
        file: the YAML file.
        root: what its paths are relative to.
        sources: folders of images, subfolders included, or lists of image files.
        names: class number -> name.
    """

    file: Path
    root: Path
    sources: tuple[Path, ...]
    names: dict[int, str]

    def read(self, *, skip_bad: bool = False) -> AnnotatedImages:
        """The split by the rules above. An image without a label file has no objects, but not all may be without."""
        findings = Findings(self.file, skip_bad)
        images: list[ImageRecord] = []
        objects: list[Annotation] = []
        object_ids = count(1)
        paths = self._images(findings)
        label_files = [label_file(path) for path in paths]
        if paths and not any(map(os.path.exists, label_files)):
            raise DataError(
                f"{self.file}: none of {len(paths)} images has a label file, looked for {label_files[0]} and so on; "
                "labels/ must mirror images/, or labels lie beside their images"
            )
        for image_id, (path, labels) in enumerate(zip(paths, label_files, strict=True), 1):
            mark = findings.mark()
            size = upright_size(path, f"image {shown(self.name(path))}", findings)
            rows = self._rows(labels, findings)
            if findings.is_bad(mark) or size is None or rows is None:
                continue
            image = ImageRecord(image_id, self.name(path), path, *size)
            before = len(objects)
            for number, row in rows:
                item = f"line {number} of {self.name(labels)}"
                annotation = read_row(row, next(object_ids), image, self.names, item, findings)
                if annotation is not None:
                    objects.append(annotation)
            images.append(replace(image, annotations=tuple(objects[before:])))
        self._remark_unused(label_files, findings)
        findings.refuse_errors()
        findings.refuse_emptied(images=images, objects=objects)
        if not images:
            named = ", ".join(map(str, self.sources))
            raise DataError(f"{self.file}: {named} holds no images, at least one is needed; correct the path")
        classes = ClassTable.of_categories(self.names.items())
        return AnnotatedImages(classes, tuple(images), self.file, findings.remarks, tuple(findings.left_out))

    def content(self) -> Iterator[bytes]:
        yield repr(sorted(self.names.items())).encode()
        for path in self._images(Findings(self.file)):
            yield f"\n{self.name(path)}\n".encode("utf-8", "surrogateescape")
            labels = label_file(path)
            yield read_bytes(labels, _LABELS) if os.path.isfile(labels) else b""

    def name(self, path: Path) -> str:
        """A path as messages and records show it: relative to the dataset where it lies in it."""
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()

    def _images(self, findings: Findings) -> list[Path]:
        """The image files of all sources, each once."""
        found: list[Path] = []
        for source in self.sources:
            if os.path.isdir(source):
                found += images_below(source)
            elif os.path.isfile(source):
                found += self._images_listed(source, findings)
            else:
                raise DataError(f"{self.file} names {source}, which does not exist; correct the path")
        paths = list(dict.fromkeys(found))
        if len(paths) < len(found):
            findings.remark("images that are named again, read once", len(found) - len(paths))
        return paths

    def _images_listed(self, file: Path, findings: Findings) -> Iterator[Path]:
        """The files a list names, relative to the list or to the dataset's folder."""
        for number, line in enumerate(read_lines(file, _LIST), 1):
            item = f"line {number} of {self.name(file)}"
            if not self.may_name(line):
                findings.error(f"{item} is {shown(line)}", _INSIDE_RULE)
            elif line:
                path = self.listed_image(file, line)
                if path is None:
                    findings.error(f"{item} names {shown(line)}, which does not exist", _THERE_RULE)
                else:
                    yield path

    def may_name(self, line: str) -> bool:
        """Whether a line of a list stays inside the dataset's folder."""
        # The Windows flavour knows both kinds of slashes, and drives.
        inside = not PureWindowsPath(line).anchor or _is_inside(line, self.root)
        return inside and ".." not in PureWindowsPath(line).parts and "\0" not in line

    def listed_image(self, file: Path, line: str) -> Path | None:
        """The file that a line of the list `file` names, relative to the list or to the dataset's folder."""
        return next((path for path in (file.parent / line, self.root / line) if os.path.exists(path)), None)

    def _rows(self, labels: Path, findings: Findings) -> list[tuple[int, list[str]]] | None:
        """(line number, words) of each line that is not empty; None, and an error, if the file cannot be read."""
        if not os.path.exists(labels):
            findings.remark(BACKGROUND_REMARK)
            return []
        try:
            lines = read_lines(labels, _LABELS)
        except DataError as error:
            findings.error(f"{self.name(labels)} cannot be read ({error})", _LABELS_RULE)
            return None
        return [(number, words) for number, line in enumerate(lines, 1) if (words := line.split())]

    def _remark_unused(self, label_files: list[Path], findings: Findings) -> None:
        """Count the label files beside those read."""
        unused = len(self.unused_labels(label_files))
        if unused:
            findings.remark(UNUSED_REMARK, unused)

    def unused_labels(self, label_files: list[Path]) -> list[Path]:
        """The label files beside those of the images, sorted; where images are listed, others may belong to another
        list, and none is."""
        if not all(map(os.path.isdir, self.sources)):
            return []
        used = set(label_files)
        there = (path for folder in {path.parent for path in used} for path in folder.glob("*.txt"))
        return sorted(path for path in there if path not in used and path.name != "classes.txt")


def label_file(image: Path) -> Path:
    """Where the labels of an image lie: the last folder `images` of its path is `labels`; or else beside the image."""
    beside = image.with_suffix(".txt")
    parts = list(beside.parts)
    if "images" not in parts[:-1]:
        return beside
    last = max(i for i, part in enumerate(parts[:-1]) if part == "images")
    mirrored = Path(*parts[:last], "labels", *parts[last + 1 :])
    return beside if beside.exists() and not mirrored.exists() else mirrored


def images_below(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, sorted; not the hidden ones, such as macOS writes."""
    return [
        path for path in files_below(folder) if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]


def _is_inside(name: str, root: Path) -> bool:
    return Path(name).is_relative_to(os.path.abspath(root))


def read_row(
    row: list[str], object_id: int, image: ImageRecord, names: dict[int, str], item: str, findings: Findings
) -> Annotation | None:
    """An object; None, and an error, if the line cannot be used."""
    said = shown(" ".join(row))
    if len(row) != 5 and (len(row) < 7 or len(row) % 2 == 0):
        findings.error(f"{item} has {len(row)} values, {said}", _ROW_RULE)
        return None
    try:
        number, *parts = map(float, row)
    except ValueError:
        findings.error(f"{item} is {said}, not numbers", _ROW_RULE)
        return None
    if number not in names:
        findings.error(f"{item} has class {shown(row[0])}", _CLASS_RULE)
        return None
    if not all(-ROUNDING <= part <= 1 + ROUNDING for part in parts):  # nor is NaN
        findings.error(f"{item} is {said}", _RANGE_RULE)
        return None
    polygon: list[list[float]] | None = None
    if len(parts) == 4:
        box = _box_of_centre(parts, image)
    else:
        xs, ys = ([part * side for part in parts[i::2]] for i, side in enumerate((image.width, image.height)))
        box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
        polygon = [[value for point in zip(xs, ys, strict=True) for value in point]]
    if not check_box(box, image.width, image.height, item, said, findings):
        return None
    area = segmentation_area(polygon) if polygon else box[2] * box[3]
    return Annotation(object_id, int(number), box, area, segmentation=polygon)


def _box_of_centre(parts: list[float], image: ImageRecord) -> Box:
    """cx cy w h in parts of the image -> x y w h in pixels."""
    cx, cy, width, height = parts
    return (cx - width / 2) * image.width, (cy - height / 2) * image.height, width * image.width, height * image.height
