"""Pictures of the boxes and masks that a detector is scored by, truth beside detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.formats.object_shapes import as_rle
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.imaging.reader import read_image
from visionkit.predict.drawing import draw_comparison
from visionkit.predict.writers import OutputNames, save_picture
from visionkit.result import Result, Rle

PICTURE_SCORE = 0.25


def draw_comparisons(folder: Path, truth: AnnotatedImages, rows: Sequence[Mapping[str, Any]], count: int) -> None:
    """Pictures of the first images of a split, truth beside detections of at least `PICTURE_SCORE`.

    Args:
        folder: gets `NAME.jpg` or `NAME.png` for each; a name that is taken gets a number.
        rows: COCO results on the split; where they have masks, those of the truth are shown too.
        count: how many pictures there are at most.
    """
    names = OutputNames(folder)
    table = truth.classes
    says_masks = any("segmentation" in row for row in rows)
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
            masks=tuple(row["segmentation"] for row in shown) if says_masks else None,
        )
        objects = [annotation for annotation in record.annotations if not annotation.iscrowd]
        truth_names = [table.names[table.label(annotation.category_id)] for annotation in objects]
        masks = [_mask(annotation, record) for annotation in objects] if says_masks else ()
        picture = draw_comparison(image, _corners([o.bbox for o in objects]), truth_names, result, masks)
        save_picture(names.take(record.path), picture)


def _mask(annotation: Annotation, record: ImageRecord) -> Rle | None:
    segmentation = annotation.segmentation
    return None if segmentation is None else as_rle(segmentation, record.width, record.height)


def _corners(boxes: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """[N, 4] x y w h -> x1 y1 x2 y2."""
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return corners
