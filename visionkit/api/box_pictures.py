"""Pictures of the boxes that a detector is scored by, truth beside detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.formats.records import AnnotatedImages
from visionkit.imaging.reader import read_image
from visionkit.predict.drawing import draw_comparison
from visionkit.predict.writers import OutputNames, save_picture
from visionkit.result import Result

PICTURE_SCORE = 0.25


def draw_comparisons(folder: Path, truth: AnnotatedImages, rows: Sequence[Mapping[str, Any]], count: int) -> None:
    """Pictures of the first images of a split, truth beside detections of at least `PICTURE_SCORE`.

    Args:
        folder: gets `NAME.jpg` or `NAME.png` for each; a name that is taken gets a number.
        rows: COCO results on the split.
        count: how many pictures there are at most.
    """
    names = OutputNames(folder)
    table = truth.classes
    for record in truth.images[:count]:
        assert record.path is not None
        image = read_image(record.path)
        shown = [row for row in rows if row["image_id"] == record.id and row["score"] >= PICTURE_SCORE]
        result = Result(
            path=str(record.path),
            width=record.width,
            height=record.height,
            classes=table,
            boxes=_corners([row["bbox"] for row in shown]),
            scores=np.array([row["score"] for row in shown], np.float32),
            labels=np.array([table.label(row["category_id"]) for row in shown], np.int64),
        )
        objects = [annotation for annotation in record.annotations if not annotation.iscrowd]
        truth_names = [table.names[table.label(annotation.category_id)] for annotation in objects]
        picture = draw_comparison(image, _corners([o.bbox for o in objects]), truth_names, result)
        save_picture(names.take(record.path), picture)


def _corners(boxes: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """[N, 4] x y w h -> x1 y1 x2 y2."""
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return corners
