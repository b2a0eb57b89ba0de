"""Results as a COCO results file (https://cocodataset.org/#format-results)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from visionkit.predict.writers import AddResult, GrowingFile, Pixels, shortest
from visionkit.result import Result


def coco_rows(result: Result, image_id: int) -> list[dict[str, Any]]:
    """The rows of a COCO results file, with the dataset's category ids and boxes as x, y, width, height in pixels.

    Numbers give back the same 32-bit floats. A mask is the row's `segmentation`. Each row also names its file
    (`file_name`, which COCO's tools pass over). Of a semantic map each of its `regions` is a row; it has an `area`,
    and a score of 1, as a map does not say how sure it is.
    """
    if result.semantic is not None:
        from visionkit.predict.regions import regions  # noqa: PLC0415 - only maps need it, and it pycocotools

        return [
            {
                "image_id": image_id,
                "category_id": result.classes.category_ids[label],
                "bbox": list(region.bbox),
                "score": 1.0,
                "file_name": result.path,
                "segmentation": region.segmentation,
                "area": region.area,
            }
            for label in result.labels.tolist()
            for region in regions(result.semantic == label)
        ]
    masks = [{}] * len(result) if result.masks is None else [{"segmentation": mask} for mask in result.masks]
    widths_heights = result.boxes[:, 2:] - result.boxes[:, :2]
    return [
        {
            "image_id": image_id,
            "category_id": result.classes.category_ids[label],
            "bbox": [shortest(v) for v in box],
            "score": shortest(score),
            "file_name": result.path,
            **mask,
        }
        for box, score, label, mask in zip(
            np.hstack([result.boxes[:, :2], widths_heights]), result.scores, result.labels, masks, strict=True
        )
    ]


@contextmanager
def coco_writer(folder: Path) -> Iterator[AddResult]:
    """`results.json`: a COCO results file of images that belong to no dataset. Raises as GrowingFile.

    It is a whole JSON array after every image. An image's id is its place among the sources, counted from 1: one that
    cannot be read takes no id from those behind it.
    """
    with GrowingFile(folder / "results.json", start="[", end="\n]\n") as array:
        comma = ""

        def add(result: Result, *, number: int, name: str, pixels: Pixels) -> None:
            nonlocal comma
            rows = ["\n" + json.dumps(row, allow_nan=False) for row in coco_rows(result, number)]
            if rows:
                array.add(comma + ",".join(rows))
                comma = ","

        yield add
