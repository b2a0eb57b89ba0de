"""A dataset as LabelMe: `train/`, `val/`, `test/`, each with its images and a JSON file beside each."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.formats.boxes import Box
from visionkit.formats.labelme import CROWD_FLAG
from visionkit.formats.new_dataset import EMPTY_NOT_HELD, Contents, NewDataset, PictureNames, short
from visionkit.formats.object_shapes import cutout, polygon_box
from visionkit.formats.records import Annotation, ImageRecord

_VERSION = "5.4.1"
"""Of LabelMe, the first whose masks are written so."""


def write_labelme(contents: Contents, new: NewDataset) -> None:
    """Boxes as rectangles, polygons as polygons, of one group where an object has several, RLEs as masks."""
    for split, images in contents.splits.items():
        file_names = PictureNames()
        name_of = dict(zip(images.classes.category_ids, images.classes.names, strict=True))
        for image in images.images:
            assert image.path is not None
            name = file_names.take(image)
            new.place(image.path, f"{split}/{name}")
            shapes: list[dict[str, Any]] = []
            held: list[tuple[Annotation, Box]] = []
            for number, annotation in enumerate(image.annotations, 1):
                box, drawn = _drawn(annotation, new)
                shapes += [
                    {
                        "label": name_of[annotation.category_id],
                        "points": points,
                        "group_id": number if len(drawn) > 1 else None,
                        "description": "",
                        "shape_type": kind,
                        "flags": {CROWD_FLAG: True} if annotation.iscrowd else {},
                        "mask": mask,
                    }
                    for kind, points, mask in drawn
                ]
                held.append((annotation, box))
            text = json.dumps(_file(image, name, shapes), indent=1)
            new.write(f"{split}/{PurePosixPath(name).stem}.json", text + "\n")
            new.keep(split, image, name, held)
    new.write_kept(contents)


def _file(image: ImageRecord, name: str, shapes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": None,
        "imageHeight": image.height,
        "imageWidth": image.width,
    }


def _drawn(annotation: Annotation, new: NewDataset) -> tuple[Box, list[tuple[str, list[list[float]], str | None]]]:
    """The box that a reader makes of an object, and (type, points, mask) of its shapes."""
    if isinstance(annotation.segmentation, list):
        polygons = annotation.segmentation
        return polygon_box(polygons), [("polygon", list(_points(polygon)), None) for polygon in polygons]
    if annotation.segmentation is not None:
        found = cutout(annotation.segmentation)
        if found is not None:
            pixels, (left, top, width, height) = found
            # Its points are the first pixel and the last.
            points = list(_points([left, top, left + width - 1, top + height - 1]))
            return found[1], [("mask", points, _png(pixels))]
        new.not_held[EMPTY_NOT_HELD] += 1
    x, y, width, height = annotation.bbox
    return annotation.bbox, [("rectangle", list(_points([x, y, x + width, y + height])), None)]


def _points(flat: list[float]) -> Iterator[list[float]]:
    for x, y in zip(flat[0::2], flat[1::2], strict=True):
        yield [short(x), short(y)]


def _png(pixels: NDArray[np.bool_]) -> str:
    """A PNG of one bit a pixel, in base64."""
    _, file = cv2.imencode(".png", pixels.astype(np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1])
    return base64.b64encode(file.tobytes()).decode("ascii")
