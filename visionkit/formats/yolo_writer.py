"""A dataset as YOLO: `data.yaml`, `images/{train,val,test}/` and `labels/{train,val,test}/`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePosixPath

from visionkit.formats.boxes import SHORTEST_SIDE, Box
from visionkit.formats.new_dataset import Contents, NewDataset, PictureNames
from visionkit.formats.object_shapes import polygon_box, single_polygon
from visionkit.formats.records import Annotation, ImageRecord

CROWDS_NOT_HELD = "crowd regions: YOLO has none, and as objects they would teach the wrong"
PARTS_NOT_HELD = "masks of several parts or with holes: a line of YOLO has one polygon; written as boxes"
CLIPPED = "boxes or polygons that reach over the edge of their image, cut there"
PIXEL_OUTLINES = "RLE masks written as polygons along their pixels"
EDGE_NOT_HELD = "objects that are nothing once cut at the edge of their image"


def write_yolo(contents: Contents, new: NewDataset) -> None:
    """Class numbers are labels, 0 to K-1. An object with a mask of one part is a polygon, any other a box."""
    names: tuple[str, ...] = ()
    for split, images in contents.splits.items():
        file_names = PictureNames()
        names = images.classes.names
        for image in images.images:
            assert image.path is not None
            name = file_names.take(image)
            new.place(image.path, f"images/{split}/{name}")
            lines: list[str] = []
            held: list[tuple[Annotation, Box]] = []
            for annotation in image.annotations:
                shape = _shape(annotation, image, new)
                if shape is not None:
                    shares, box = shape
                    row = (str(images.classes.label(annotation.category_id)), *map(str, shares))
                    lines.append(" ".join(row) + "\n")
                    held.append((annotation, box))
            new.write(f"labels/{split}/{PurePosixPath(name).stem}.txt", "".join(lines))
            new.keep(split, image, f"images/{split}/{name}", held)
    folders = "".join(f"{split}: images/{split}\n" for split in contents.splits)
    # A list in JSON is one in YAML, and its texts are in quotes.
    new.write("data.yaml", f"{folders}names: {json.dumps(list(names))}\n")
    new.write_kept(contents)


def _shape(annotation: Annotation, image: ImageRecord, new: NewDataset) -> tuple[list[float], Box] | None:
    """The numbers of a line after the class, in parts of the image, and the box in pixels that a reader makes of them;
    None for what cannot be written."""
    if annotation.iscrowd:
        new.not_held[CROWDS_NOT_HELD] += 1
        return None
    sides = (image.width, image.height)
    polygon = single_polygon(annotation.segmentation) if annotation.segmentation else None
    new.not_held[PARTS_NOT_HELD] += annotation.segmentation is not None and polygon is None
    x, y, width, height = annotation.bbox
    points = polygon or [x, y, x + width, y + height]
    inside = [min(max(number, 0.0), float(sides[i % 2])) for i, number in enumerate(points)]
    box = polygon_box([inside])
    if min(box[2:]) < SHORTEST_SIDE:
        new.not_held[EDGE_NOT_HELD] += 1
        return None
    new.remarks[CLIPPED] += inside != points
    if polygon is not None:
        new.remarks[PIXEL_OUTLINES] += isinstance(annotation.segmentation, dict)
        return _shares(inside, sides), box
    centre = [box[0] + box[2] / 2, box[1] + box[3] / 2]
    return _shares([*centre, box[2], box[3]], sides), box


def _shares(pixels: Sequence[float], sides: tuple[int, int]) -> list[float]:
    return [number / sides[i % 2] for i, number in enumerate(pixels)]
