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
    id and name; the score; the corners in pixels of the image.
    """
    with GrowingFile(folder / "detections.csv", start=csv_text([COLUMNS])) as table:

        def add(result: Result, *, number: int, name: str, pixels: Pixels) -> None:
            image = (number, result.path, result.width, result.height)
            ids, names = result.classes.category_ids, result.classes.names
            boxes = [("",) * 4] * len(result) if result.task == "classify" else [map(shortest, b) for b in result.boxes]
            found = zip(boxes, result.scores, result.labels, strict=True)
            table.add(
                csv_text((*image, ids[label], names[label], shortest(score), *box) for box, score, label in found)
            )

        yield add
