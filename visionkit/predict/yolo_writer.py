"""Results as YOLO text files: one an image, a line an object."""

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
    """A line an object: label, shares of the image's sides, score. The shares are centre x, centre y, width and height
    of its box; of an object whose mask has one part without a hole, x and y of the points of a polygon around it, at
    least three.

    Six decimals place a corner within a hundredth of a pixel in images of up to 10,000 px.
    """
    lines = []
    outlines = _outlines(result)
    for (x1, y1, x2, y2), score, label, outline in zip(
        result.boxes.tolist(), result.scores, result.labels, outlines, strict=True
    ):
        pixels = outline or [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        sides = (result.width, result.height)
        shares = " ".join(f"{number / sides[i % 2]:.6f}" for i, number in enumerate(pixels))
        lines.append(f"{label} {shares} {score:.6f}\n")
    return "".join(lines)


def _outlines(result: Result) -> list[list[float] | None]:
    """Of each detection the polygon `[x0, y0, x1, y1, ...]` around its mask; None where one does not say it."""
    if result.masks is None:
        return [None] * len(result)
    from visionkit.predict.found_objects import found_objects  # noqa: PLC0415 - dataset formats take time to import

    parts = [found.segmentation for found in found_objects(result)]
    return [part[0] if isinstance(part, list) and len(part) == 1 else None for part in parts]


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
