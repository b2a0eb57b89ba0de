"""Results as a table: comma-separated values (RFC 4180), UTF-8."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visionkit.predict.writers import AddResult, GrowingFile, Pixels, shortest
from visionkit.result import Result

COLUMNS = ("image_id", "file_name", "width", "height", "category_id", "name", "score", "x1", "y1", "x2", "y2")
CONFIDENCE = "confidence"
"""One more column, of a calibrated model."""


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as lines, quoted where a value needs it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


@contextmanager
def csv_writer(folder: Path) -> Iterator[AddResult]:
    """`detections.csv`: a header, then a row a box; an image where nothing was found has none. Of a classification a
    row a class, without corners. Raises as GrowingFile.

    Columns: the image's place among the sources from 1, its path, width and height in pixels; the dataset's category
    id and name; the score; the corners in pixels of the image; and of a calibrated model the confidence.
    """
    with GrowingFile(folder / "detections.csv") as table:
        is_headed = False

        def head(*more: str) -> None:
            nonlocal is_headed
            table.add(csv_text([(*COLUMNS, *more)]))
            is_headed = True

        def add(result: Result, *, number: int, name: str, pixels: Pixels) -> None:
            if not is_headed:  # all images are of one model: what the first has, all have
                head(*([] if result.confidences is None else [CONFIDENCE]))
            image = (number, result.path, result.width, result.height)
            ids, names = result.classes.category_ids, result.classes.names
            boxes = [("",) * 4] * len(result) if result.task == "classify" else [map(shortest, b) for b in result.boxes]
            shares: list[tuple[float, ...]] = [()] * len(result)
            if result.confidences is not None:
                shares = [(shortest(share),) for share in result.confidences]
            found = zip(boxes, result.scores, result.labels, shares, strict=True)
            table.add(
                csv_text(
                    (*image, ids[label], names[label], shortest(score), *box, *share)
                    for box, score, label, share in found
                )
            )

        yield add
        if not is_headed:
            head()
