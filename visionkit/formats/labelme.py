"""LabelMe datasets -> records: beside each image a JSON file of its name, with a list of shapes in pixels.

A rectangle is an object with a box, a polygon one with a mask, and polygons of one `group_id` and label are one object
of several parts; a shape of type `mask` has its pixels as a PNG. Boxes of polygons and masks are the smallest around
them. A shape whose flag `iscrowd` is set is a crowd region. Ids are made: images count from 1 in the order of their
names, objects from 1 in that order too, and categories from 1 in the order of their names, those of all splits
together.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from itertools import count
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.boxes import Box, check_box
from visionkit.formats.coco import is_number
from visionkit.formats.coco_segmentation import FARTHEST_PIXEL, MOST_PIXELS, checked_segmentation, segmentation_area
from visionkit.formats.dataset_files import entries, is_one_line, read_bytes
from visionkit.formats.dataset_layout import DatasetLayout, Split, split_folders
from visionkit.formats.findings import Findings, shown
from visionkit.formats.image_files import size_in_file
from visionkit.formats.json_file import read_json
from visionkit.formats.object_fields import as_extra, fields_of_shapes
from visionkit.formats.object_shapes import encoded, mask_window, polygon_box
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.imaging.header import IMAGE_SUFFIXES, read_header

CROWD_FLAG = "iscrowd"
OTHER_SHAPES_REMARK = "shapes that are neither rectangle, polygon nor mask, not read"
UNLABELLED_REMARK = "images without a LabelMe file, not read"
CROWD_REMARK = f"shapes with the flag {CROWD_FLAG}, crowd regions"

_READ = ("label", "shape_type", "points", "mask")

FILE_RULE = "a LabelMe file is a JSON object with a list of shapes; export it again or remove it"
IMAGE_RULE = "the image of a LabelMe file must lie beside it; add the image or remove the file"
SIZE_RULE = "imageWidth and imageHeight must be whole numbers of pixels; correct them"
LABEL_RULE = "every shape needs a label on one line; add it or remove the shape"
POINTS_RULE = (
    f"points must be finite x, y pairs within {FARTHEST_PIXEL:.0f} px, two of a rectangle or mask and three or more of "
    "a polygon; correct or remove the shape"
)
MASK_RULE = "a mask must be a grey PNG in base64 that begins at its first point; draw it again or remove the shape"


class LabelMeSplit(NamedTuple):
    """The folder of one split, and those of all splits, whose shapes make the class table."""

    folder: Path
    all_folders: tuple[Path, ...]

    def read(self, *, skip_bad: bool = False) -> AnnotatedImages:
        """The split by the rules above. The class table has every label of the dataset, so it is the same for all
        splits."""
        findings = Findings(self.folder, skip_bad)
        classes = _class_table(self.all_folders)
        images: list[ImageRecord] = []
        objects: list[Annotation] = []
        object_ids, image_ids = count(1), count(1)
        pictures, files = _pictures(self.folder), _label_files(self.folder)
        for file in files:
            mark = findings.mark()
            found = _read_image(next(image_ids), file, pictures, findings)
            if findings.is_bad(mark) or found is None:
                continue
            image, shapes = found
            before = len(objects)
            for item, same in _objects(shapes, file.name, findings):
                mark = findings.mark()
                annotation = _read_object(next(object_ids), same, image, classes, item, findings)
                if not findings.is_bad(mark) and annotation is not None:
                    objects.append(annotation)
            images.append(replace(image, annotations=tuple(objects[before:])))
        findings.refuse_errors()
        findings.refuse_emptied(images=images, objects=objects)
        if not images:
            raise DataError(f"{self.folder} has no LabelMe file, at least one is needed; add them or remove the folder")
        unlabelled = len(pictures.keys() - {file.stem for file in files} - {Path(i.file_name).stem for i in images})
        if unlabelled:
            findings.remark(UNLABELLED_REMARK, unlabelled)
        return AnnotatedImages(classes, tuple(images), self.folder, findings.remarks, tuple(findings.left_out))

    def content(self) -> Iterator[bytes]:
        yield repr(_class_table(self.all_folders).names).encode("utf-8", "surrogateescape")
        for file in _label_files(self.folder):
            yield f"\n{file.name}\n".encode("utf-8", "surrogateescape")
            yield read_bytes(file, "a LabelMe file")


def labelme_folders(root: Path) -> DatasetLayout | None:
    """`train/`, `val/` or `valid/`, and `test/`, each with images and a JSON file beside them; or else a folder with
    both, which is train."""
    found = split_folders(root, _is_labelled)
    words = "LabelMe layout: " + ", ".join(f"{folder.name}/" for folder in found.values())
    if not found and _is_labelled(root):
        found, words = {"train": root}, "LabelMe layout: files beside their images, all train"
    if not found:
        return None
    splits: dict[str, Split] = {split: LabelMeSplit(folder, tuple(found.values())) for split, folder in found.items()}
    return DatasetLayout(root, root, words, splits)


def _is_labelled(folder: Path) -> bool:
    """Whether some image has a JSON file of its name beside it."""
    if not folder.is_dir():
        return False
    paths = entries(folder)
    files = {path.stem for path in paths if path.suffix == ".json"}
    return bool(files) and any(path.stem in files for path in paths if path.suffix.lower() in IMAGE_SUFFIXES)


def _label_files(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if path.suffix == ".json" and not path.name.startswith((".", "_"))]


def _pictures(folder: Path) -> dict[str, Path]:
    """Stem -> image file, hidden files such as macOS writes passed over."""
    paths = [p for p in entries(folder) if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    return {path.stem: path for path in reversed(paths)}


def _class_table(folders: tuple[Path, ...]) -> ClassTable:
    """The labels of all splits, sorted, with ids from 1."""
    names: set[str] = set()
    broken: list[DataError] = []
    for folder in folders:
        for file in _label_files(folder):
            try:
                content = read_json(file)
            except DataError as error:  # told by the split it belongs to
                broken.append(error)
                continue
            shapes = content.get("shapes") if isinstance(content, dict) else None
            for shape in shapes if isinstance(shapes, list) else ():
                if isinstance(shape, dict) and _is_label(shape.get("label")) and _is_object(shape):
                    names.add(str(shape["label"]))
    if not names:
        if broken:
            raise broken[0]
        named = ", ".join(map(str, folders))
        raise DataError(f"{named} has no labelled rectangle, polygon or mask, at least one is needed; annotate one")
    return ClassTable.of_categories(enumerate(sorted(names), 1))


# --- files -----------------------------------------------------------------------------------------------------------


def _read_image(
    image_id: int, file: Path, pictures: dict[str, Path], findings: Findings
) -> tuple[ImageRecord, list[Any]] | None:
    """The image without its objects, and its shapes; None, and an error, if either cannot be used."""
    item = f"file {shown(file.name)}"
    try:
        content = read_json(file)
    except DataError as error:
        findings.error(f"{item}: {error}", FILE_RULE)
        return None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        findings.error(f"{item} has no list of shapes", FILE_RULE)
        return None
    picture = pictures.get(file.stem) or _picture_named(content.get("imagePath"), pictures)
    if picture is None:
        findings.error(f"{item} has imagePath {shown(content.get('imagePath'))}", IMAGE_RULE)
        return None
    width, height = content.get("imageWidth"), content.get("imageHeight")
    if not (width or height):
        width = height = 0
    elif not all(is_number(side) and 1 <= side <= FARTHEST_PIXEL and side == int(side) for side in (width, height)):
        findings.error(f"{item} has imageWidth {shown(width)} and imageHeight {shown(height)}", SIZE_RULE)
        return None
    width, height = size_in_file(picture, int(width), int(height), f"image {shown(picture.name)}", findings)  # type: ignore[arg-type]
    return (ImageRecord(image_id, picture.name, picture, width, height), content["shapes"]) if width else None


def _picture_named(said: Any, pictures: dict[str, Path]) -> Path | None:
    """The image of a name; folders before it, of either kind of slash, are those of another machine."""
    name = PureWindowsPath(said).name if isinstance(said, str) else ""
    picture = pictures.get(Path(name).stem)
    return picture if picture is not None and picture.name == name else None


def _objects(shapes: list[Any], name: str, findings: Findings) -> Iterator[tuple[str, list[Any]]]:
    """(what messages call it, its shapes) of each object, in the order of their first shapes."""
    objects: dict[Any, tuple[str, list[Any]]] = {}
    for number, shape in enumerate(shapes, 1):
        item = f"{name} shape {number}"
        if isinstance(shape, dict) and not _is_object(shape):
            findings.remark(OTHER_SHAPES_REMARK)
            continue
        key: Any = number
        if isinstance(shape, dict) and shape.get("shape_type") == "polygon" and type(shape.get("group_id")) is int:
            key = (shape["group_id"], repr(shape.get("label")))
        objects.setdefault(key, (item, []))[1].append(shape)
    yield from objects.values()


def _is_object(shape: dict[str, Any]) -> bool:
    # Files of the first versions have polygons alone, and no type.
    return shape.setdefault("shape_type", "polygon") in ("rectangle", "polygon", "mask")


def _is_label(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and is_one_line(value)


def _read_object(
    object_id: int, shapes: list[Any], image: ImageRecord, classes: ClassTable, item: str, findings: Findings
) -> Annotation | None:
    """An object; None, and an error, if it cannot be used."""
    if not all(isinstance(shape, dict) and _is_label(shape.get("label")) for shape in shapes):
        label = shapes[0].get("label") if isinstance(shapes[0], dict) else shapes[0]
        findings.error(f"{item} has label {shown(label)}", LABEL_RULE)
        return None
    said = f"points {shown(shapes[0].get('points'))}"
    kind = shapes[0]["shape_type"]
    points = [_points(shape.get("points"), 3 if kind == "polygon" else 2) for shape in shapes]
    if any(part is None for part in points) or (kind != "polygon" and len(points[0] or ()) != 4):
        findings.error(f"{item} has {said}", POINTS_RULE)
        return None
    polygons = [part for part in points if part is not None]
    segmentation: list[list[float]] | dict[str, Any] | None = None
    box: Box | None = polygon_box(polygons)
    if kind == "mask":
        segmentation, box = _read_mask(shapes[0].get("mask"), polygons[0], image) or (None, None)
        if box is None:
            findings.error(f"{item} has mask {shown(shapes[0].get('mask'))}", MASK_RULE)
            return None
    elif kind == "polygon":
        try:
            segmentation, _ = checked_segmentation(polygons, image.width, image.height)
        except DataError as rule:
            findings.error(f"{item} has {said}", str(rule))
            return None
    if box is None or not check_box(box, image.width, image.height, item, said, findings):
        return None
    category_id = classes.category_ids[classes.names.index(shapes[0]["label"])]
    flags = shapes[0].get("flags")
    crowd = isinstance(flags, dict) and flags.get(CROWD_FLAG) is True
    if crowd:
        findings.remark(CROWD_REMARK)
    area = segmentation_area(segmentation) if segmentation else box[2] * box[3]
    extra = as_extra("labelme", fields_of_shapes([read_fields(shape) for shape in shapes], findings))
    return Annotation(object_id, category_id, box, area, crowd, segmentation, extra)


def read_fields(shape: dict[str, Any]) -> dict[str, Any]:
    """What a shape says beside label and geometry: `description`, `flags` and whatever else is not empty."""
    flags = shape.get("flags")
    if isinstance(flags, dict):
        shape = {**shape, "flags": {key: value for key, value in flags.items() if key != CROWD_FLAG}}
    return {key: value for key, value in shape.items() if key not in _READ and value not in (None, "", [], {})}


def _points(value: Any, least: int) -> list[float] | None:
    """x0, y0, x1, y1, ... of at least so many points; None if they are not that."""
    if not isinstance(value, list) or len(value) < least:
        return None
    flat = [number for point in value if isinstance(point, list) and len(point) == 2 for number in point]
    sound = len(flat) == 2 * len(value) and all(is_number(v) and abs(v) <= FARTHEST_PIXEL for v in flat)
    return [float(number) for number in flat] if sound else None


def _read_mask(value: Any, points: list[float], image: ImageRecord) -> tuple[dict[str, Any], Box] | None:
    """The RLE and the box of a PNG that begins at the first point; None if it is none, or shows nothing."""
    if not isinstance(value, str) or image.width * image.height > MOST_PIXELS:
        return None
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    window = _grey_png(data)
    left, top = round(points[0]), round(points[1])
    if window is None or left < 0 or top < 0:
        return None
    if left + window.shape[1] > image.width or top + window.shape[0] > image.height:
        return None
    inside = mask_window(window)
    if inside is None:
        return None
    rle = encoded(window, left, top, image.width, image.height)
    return rle, (float(left + inside[0]), float(top + inside[1]), float(inside[2]), float(inside[3]))


def _grey_png(data: bytes) -> NDArray[np.bool_] | None:
    try:
        header = read_header(BytesIO(data), "the mask")  # also sees to it that it is not of billions of pixels
        if header.format != "PNG":
            return None
        # Unlike OpenCV, Pillow refuses a file that ends early or whose checksums are wrong.
        return np.asarray(header.parser(BytesIO(data)).convert("L")) > 0
    except Exception:  # damaged files make Pillow raise almost anything
        return None
