"""Results as YOLO text files: one an image, a line a box."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visionkit.predict.csv_writer import csv_text
from visionkit.predict.writers import AddResult, GrowingFile, Pixels, write_new
from visionkit.result import Result

CLASSES_STEM = "classes"
"""No image's file may be called this: `classes.txt` holds the names."""


def yolo_text(result: Result) -> str:
    """A line a box: label, centre x, centre y, width, height as shares of the image's sides, score.

    Six decimals place a corner within a hundredth of a pixel in images of up to 10,000 px.
    """
    lines = []
    for (x1, y1, x2, y2), score, label in zip(result.boxes.tolist(), result.scores, result.labels, strict=True):
        centre = ((x1 + x2) / 2 / result.width, (y1 + y2) / 2 / result.height)
        size = ((x2 - x1) / result.width, (y2 - y1) / result.height)
        shares = " ".join(f"{share:.6f}" for share in (*centre, *size))
        lines.append(f"{label} {shares} {score:.6f}\n")
    return "".join(lines)


@contextmanager
def yolo_writer(folder: Path) -> Iterator[AddResult]:
    """`NAME.txt` an image, named as its picture and empty where nothing was found; `classes.txt`, which names the
    classes in the order of their labels; and `sources.csv`, which says what image each file is of.

    Raises as `write_new` and GrowingFile.
    """
    with GrowingFile(folder / "sources.csv", start=csv_text([("labels", "image")])) as sources:
        named = False

        def add(result: Result, *, number: int, name: str, pixels: Pixels) -> None:
            nonlocal named
            if not named:
                names = "".join(" ".join(class_name.split()) + "\n" for class_name in result.classes.names)
                write_new(folder / f"{CLASSES_STEM}.txt", names.encode())
                named = True
            write_new(folder / f"{name}.txt", yolo_text(result).encode())
            sources.add(csv_text([(f"{name}.txt", result.path)]))

        yield add
