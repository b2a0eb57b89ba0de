"""Pascal VOC datasets (http://host.robots.ox.ac.uk/pascal/VOC/, development kit, "Annotations") -> records.

VOC counts pixels from 1 and a box contains its last pixel, so the box of the pixels `xmin..xmax` is, once and here,

    x = xmin - 1, y = ymin - 1, width = xmax - xmin + 1, height = ymax - ymin + 1.

Ids are made: images count from 1 in the order of their lists, objects from 1 in that order too, and categories from 1
in the order of their names, those of all splits together; for the 20 classes of the challenge that is VOC's own order.
Objects marked difficult become crowd regions: training and COCO evaluation ignore them, as VOC's evaluation does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.boxes import Box, check_box
from visionkit.formats.coco_segmentation import FARTHEST_PIXEL
from visionkit.formats.dataset_files import entries, is_one_line, read_bytes, read_lines
from visionkit.formats.dataset_layout import SPLITS, DatasetLayout
from visionkit.formats.findings import Findings, shown
from visionkit.formats.image_files import size_in_file
from visionkit.formats.object_fields import as_extra
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.formats.voc_fields import read_fields
from visionkit.formats.xml_file import read_xml, text_of
from visionkit.imaging.header import IMAGE_SUFFIXES

DIFFICULT_REMARK = "objects marked difficult, ignored as crowd regions"
FROM_ZERO_REMARK = "boxes begin at pixel 0, where VOC counts from 1 (they are read by VOC's rule)"

_LIST = "a list of image names"
_XML = "an annotation file"
_NAME_RULE = "a list has one image name a line, without folders; correct it"
_XML_RULE = "every listed image needs a sound file in Annotations; add or correct it, or remove the image from the list"
_IMAGE_RULE = "every annotated image must lie in JPEGImages; add the file or remove the image"
_SIZE_RULE = "width and height must be whole numbers of pixels; correct them"
_OBJECT_NAME_RULE = "every object needs a name on one line; add it or remove the object"
_BOX_RULE = (
    f"a bndbox must have finite numbers xmin, ymin, xmax, ymax within {FARTHEST_PIXEL:.0f} px; correct or remove it"
)
_DIFFICULT_RULE = "difficult must be 0 or 1; correct it"


class VocList(NamedTuple):
    """A folder with `Annotations/` and `JPEGImages/`, and the list of those of its images that are meant.

    `names` is None for all that have an annotation file.
    """

    folder: Path
    names: Path | None


class VocSplit(NamedTuple):
    """The lists of a split, one for each year, and those of all splits, whose objects make the class table."""

    root: Path
    lists: tuple[VocList, ...]
    all_lists: tuple[VocList, ...]

    @property
    def source(self) -> Path:
        """The list, where there is one."""
        return self.lists[0].names or self.root if len(self.lists) == 1 else self.root

    def read(self, *, skip_bad: bool = False) -> AnnotatedImages:
        """The split by the rules above; parts of objects, pose, truncation and occlusion go to `extra`.

        The class table has every name that a readable annotation file of the dataset has, so it is the same for all
        splits.
        """
        findings = Findings(self.source, skip_bad)
        classes = class_table(self)
        images: list[ImageRecord] = []
        objects: list[Annotation] = []
        object_ids = count(1)
        for image_id, (folder, name, image_file) in enumerate(_listed_images(self.lists, findings), 1):
            found = _read_image(image_id, folder, name, image_file, findings)
            if found is None:
                continue
            image, xml = found
            before = len(objects)
            for number, element in enumerate(xml.findall("object"), 1):
                item = f"{name}.xml object {number}"
                annotation = _read_object(next(object_ids), element, image, classes, item, findings)
                if annotation is not None:
                    objects.append(annotation)
            images.append(replace(image, annotations=tuple(objects[before:])))
        findings.refuse_errors()
        findings.refuse_emptied(images=images, objects=objects)
        if not images:
            raise DataError(f"{self.source} lists no images, at least one is needed; add them or name another dataset")
        return AnnotatedImages(classes, tuple(images), self.source, findings.remarks, tuple(findings.left_out))

    def content(self) -> Iterator[bytes]:
        yield "\n".join(class_table(self).names).encode()
        for folder, name, image_file in _listed_images(self.lists, Findings(self.source)):
            yield f"\n{name} {image_file.name if image_file else None}\n".encode("utf-8", "surrogateescape")
            file = folder / "Annotations" / f"{name}.xml"
            yield read_bytes(file, _XML) if os.path.isfile(file) else b""


def pascal_voc(root: Path) -> DatasetLayout | None:
    """`JPEGImages/`, `Annotations/*.xml`, `ImageSets/Main/{train,val,test}.txt`; or a folder of such folders, as
    VOCdevkit has one for each year, or the folder that holds VOCdevkit.

    A folder with neither a train nor a val list has its `trainval` as train. Where there are no lists at all, all
    annotated images are train.
    """
    folders = _voc_folders(root) or _voc_folders(root / "VOCdevkit")
    if not folders:
        return None
    by_split: dict[str, list[VocList]] = {split: [] for split in SPLITS}
    words = ""
    for folder in folders:
        lists = {name: folder / "ImageSets" / "Main" / f"{name}.txt" for name in (*SPLITS, "trainval")}
        there = {name: file for name, file in lists.items() if file.is_file()}
        if "trainval" in there and "train" not in there and "val" not in there:
            there["train"] = there["trainval"]
            words = ", train from trainval.txt"
        for split in SPLITS:
            by_split[split] += [VocList(folder, there[split])] if split in there else []
    if not any(by_split.values()):
        by_split["train"] = [VocList(folder, None) for folder in folders]
        words = ", without lists in ImageSets/Main: every annotated image is train"
    all_lists = tuple(listed for lists in by_split.values() for listed in lists)
    splits = {split: VocSplit(root, tuple(lists), all_lists) for split, lists in by_split.items() if lists}
    years = "" if folders == [root] else f" of {', '.join(folder.name for folder in folders)}"
    return DatasetLayout(root, root, f"Pascal VOC layout: {', '.join(splits)}{years}{words}", splits)


def _voc_folders(root: Path) -> list[Path]:
    """The folder itself, or else the folders `VOC...` in it, that have annotations and images."""
    inside = [path for path in entries(root) if path.name.startswith("VOC")] if root.is_dir() else []
    for folders in ([root], inside):
        found = [f for f in folders if (f / "Annotations").is_dir() and (f / "JPEGImages").is_dir()]
        if found:
            return found
    return []


# --- lists and class table -------------------------------------------------------------------------------------------


def _listed_images(lists: Iterable[VocList], findings: Findings) -> Iterator[tuple[Path, str, Path | None]]:
    """(folder, name, image file if there is one) of each listed image, in order, each once."""
    for folder, names_file in lists:
        image_files = pictures_of(folder)
        if names_file is None:
            names = annotated_names(folder)
            without = len(image_files.keys() - set(names))
            if without:
                findings.remark("images without an annotation file, not read", without)
        else:
            names = list(_names_in(names_file, findings))
        if len(set(names)) < len(names):
            findings.remark("lines that name an image again, read once", len(names) - len(set(names)))
        for name in dict.fromkeys(names):
            yield folder, name, image_files.get(name)


def annotated_names(folder: Path) -> list[str]:
    """The names of the annotation files of a folder of VOC's, sorted."""
    return [path.stem for path in entries(folder / "Annotations") if path.suffix == ".xml"]


def pictures_of(folder: Path) -> dict[str, Path]:
    """Name -> image file of a folder of VOC's."""
    files: dict[str, Path] = {}
    for path in entries(folder / "JPEGImages"):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            files.setdefault(path.stem, path)
    return files


def _names_in(file: Path, findings: Findings) -> Iterator[str]:
    for number, line in enumerate(read_lines(file, _LIST), 1):
        if not may_name(line):
            findings.error(f"line {number} of {file.name} is {shown(line)}", _NAME_RULE)
        elif line:
            yield name_in(line)


def may_name(line: str) -> bool:
    """Whether a line of a list names an image without folders."""
    return not any(sign in line for sign in "/\\:\0") and line != ".."


def name_in(line: str) -> str:
    """The name that a line of a list gives, without the suffix that some lists have."""
    return line.removesuffix(Path(line).suffix) if Path(line).suffix.lower() in IMAGE_SUFFIXES else line


def class_table(split: VocSplit) -> ClassTable:
    """The names of all objects of all splits, sorted, with ids from 1."""
    names: set[str] = set()
    unused = Findings(split.source)
    for folder, listed in split.all_lists:
        for name in annotated_names(folder) if listed is None else _names_in(listed, unused):
            try:
                xml = read_annotation(folder / "Annotations" / f"{name}.xml")
            except DataError:  # told by the split it belongs to
                continue
            names |= {name for element in xml.findall("object") if is_name(name := text_of(element, "name"))}
    if not names:
        raise DataError(
            f"{split.root} has no named object in any listed annotation file, at least one is needed; annotate one"
        )
    return ClassTable.of_categories(enumerate(sorted(names), 1))


# --- annotation files ------------------------------------------------------------------------------------------------


def read_annotation(file: Path) -> ElementTree.Element:
    """The `<annotation>` of a file. Raises DataError; external entities are never followed."""
    root = read_xml(file, _XML)
    if root.tag != "annotation":
        raise DataError(f"{file} holds <{root.tag}>, VOC's files hold <annotation>; export it again")
    return root


def _read_image(
    image_id: int, folder: Path, name: str, image_file: Path | None, findings: Findings
) -> tuple[ImageRecord, ElementTree.Element] | None:
    """The image without its objects, and its annotation file; None, and an error, if either cannot be used."""
    mark = findings.mark()
    item = f"image {shown(name)}"
    try:
        xml = read_annotation(folder / "Annotations" / f"{name}.xml")
    except DataError as error:
        findings.error(f"{item}: {error}", _XML_RULE)
        findings.is_bad(mark)
        return None
    if image_file is None:
        findings.error(f"{item} has no file", _IMAGE_RULE)
        findings.is_bad(mark)
        return None
    width, height = _declared_size(xml, item, findings)
    width, height = size_in_file(image_file, width, height, item, findings)
    if findings.is_bad(mark) or not width:
        return None
    return ImageRecord(image_id, image_file.name, image_file, width, height), xml


def _declared_size(xml: ElementTree.Element, item: str, findings: Findings) -> tuple[int, int]:
    """(width, height), or (0, 0) if the file does not say; some tools write 0 for that."""
    size = xml.find("size")
    said = text_of(size, "width"), text_of(size, "height")
    width, height = (_number(text or "0") for text in said)
    if width is None or height is None or width < 0 or height < 0 or width % 1 or height % 1:
        findings.error(f"{item} has width {shown(said[0])} and height {shown(said[1])}", _SIZE_RULE)
        return 0, 0
    return (int(width), int(height)) if width and height else (0, 0)


def _read_object(
    object_id: int, element: ElementTree.Element, image: ImageRecord, classes: ClassTable, item: str, findings: Findings
) -> Annotation | None:
    """An object; None, and an error, if it cannot be used."""
    mark = findings.mark()
    name = text_of(element, "name")
    if not is_name(name):
        findings.error(f"{item} has name {shown(name)}", _OBJECT_NAME_RULE)
    box = _read_box(element.find("bndbox"), image, item, findings)
    difficult = text_of(element, "difficult") or "0"
    if difficult not in ("0", "1"):
        findings.error(f"{item} has difficult {shown(difficult)}", _DIFFICULT_RULE)
    if findings.is_bad(mark) or not is_name(name) or box is None:
        return None
    if difficult == "1":
        findings.remark(DIFFICULT_REMARK)
    category_id = classes.category_ids[classes.names.index(name)]
    extra = as_extra("voc", read_fields(element))
    return Annotation(object_id, category_id, box, box[2] * box[3], iscrowd=difficult == "1", extra=extra)


def _read_box(element: ElementTree.Element | None, image: ImageRecord, item: str, findings: Findings) -> Box | None:
    texts = [text_of(element, tag) for tag in ("xmin", "ymin", "xmax", "ymax")]
    said = "no bndbox" if element is None else f"bndbox {shown(texts)}"
    left, top, right, bottom = (_number(text) for text in texts)
    if left is None or top is None or right is None or bottom is None:
        findings.error(f"{item} has {said}", _BOX_RULE)
        return None
    box = (left - 1, top - 1, right - left + 1, bottom - top + 1)
    if not check_box(box, image.width, image.height, item, said, findings):
        return None
    if left < 1 or top < 1:
        findings.remark(FROM_ZERO_REMARK)
    return box


def is_name(text: str) -> bool:
    """Whether a text can name a class."""
    return bool(text) and is_one_line(text)


def _number(text: str) -> float | None:
    """A finite number within FARTHEST_PIXEL, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) <= FARTHEST_PIXEL else None
