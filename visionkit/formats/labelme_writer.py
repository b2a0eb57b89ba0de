"""A dataset as LabelMe: `train/`, `val/`, `test/`, each with its images and a JSON file beside each."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.formats.boxes import Box
from visionkit.formats.labelme import CROWD_FLAG, read_fields
from visionkit.formats.new_dataset import EMPTY_NOT_HELD, Contents, NewDataset, PictureNames, short
from visionkit.formats.object_fields import fields_to_write, without_fields
from visionkit.formats.object_shapes import Segmentation, cutout, polygon_box
from visionkit.formats.records import Annotation

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
                x, y, width, height = annotation.bbox
                fields = fields_to_write(annotation, "labelme", _holds)
                box, drawn = labelme_shapes(
                    name_of[annotation.category_id],
                    (x, y, x + width, y + height),
                    annotation.segmentation,
                    number,
                    new.not_held,
                    flags={**fields.get("flags", {}), **({CROWD_FLAG: True} if annotation.iscrowd else {})},
                    more={key: value for key, value in fields.items() if key != "flags"},
                )
                shapes += drawn
                held.append((without_fields(annotation, "labelme", fields), box or annotation.bbox))
            text = labelme_text(name, image.width, image.height, shapes)
            new.write(f"{split}/{PurePosixPath(name).stem}.json", text)
            new.keep(split, image, name, held)
    new.write_kept(contents)


def _holds(key: str, value: Any) -> bool:
    """Whether a shape can say that. Groups are of the shapes of one object here."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    kind = {"description": str, "flags": dict}.get(key, object)
    return key != "group_id" and isinstance(value, kind) and read_fields({key: value}) == {key: value}


def labelme_text(name: str, width: int, height: int, shapes: Sequence[Mapping[str, Any]]) -> str:
    """The file of an image, which lies beside it.

    Args:
        name: of the image's file.
        width, height: pixels.
    """
    content: dict[str, Any] = {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def labelme_shapes(
    label: str,
    corners: tuple[float, float, float, float],
    segmentation: Segmentation | None,
    number: int,
    not_held: Counter[str],
    *,
    flags: Mapping[str, bool],
    more: Mapping[str, Any] | None = None,
) -> tuple[Box | None, list[dict[str, Any]]]:
    """The shapes of an object.

    Args:
        corners: x1 y1 x2 y2 of its box.
        number: among the objects of its image, from 1; that of the group where it has several polygons.
        not_held: where a mask without a pixel, which is written as the box, is counted.
        more: further keys of each shape, or another `description`.

    Returns:
        The box that a reader makes of polygons or a mask, None where the box itself is written; and the shapes.
    """
    box, drawn = _drawn(corners, segmentation, not_held)
    return box, [
        {
            "label": label,
            "points": points,
            "group_id": number if len(drawn) > 1 else None,
            "description": "",
            "shape_type": kind,
            "flags": flags,
            "mask": mask,
            **(more or {}),
        }
        for kind, points, mask in drawn
    ]


def _drawn(
    corners: Sequence[float], segmentation: Segmentation | None, not_held: Counter[str]
) -> tuple[Box | None, list[tuple[str, list[list[float]], str | None]]]:
    """The box that a reader makes of a segmentation, and (type, points, mask) of the shapes."""
    if isinstance(segmentation, list):
        return polygon_box(segmentation), [("polygon", list(_points(polygon)), None) for polygon in segmentation]
    if segmentation is not None:
        found = cutout(segmentation)
        if found is not None:
            pixels, (left, top, width, height) = found
            # Its points are the first pixel and the last.
            points = list(_points([left, top, left + width - 1, top + height - 1]))
            return found[1], [("mask", points, _png(pixels))]
        not_held[EMPTY_NOT_HELD] += 1
    return None, [("rectangle", list(_points(corners)), None)]


def _points(flat: Sequence[float]) -> Iterator[list[float]]:
    for x, y in zip(flat[0::2], flat[1::2], strict=True):
        yield [short(x), short(y)]


def _png(pixels: NDArray[np.bool_]) -> str:
    """A PNG of one bit a pixel, in base64."""
    _, file = cv2.imencode(".png", pixels.astype(np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1])
    return base64.b64encode(file.tobytes()).decode("ascii")
