"""Semantic maps as index masks, which `visionkit finetune` reads as data, and a table of the areas."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from visionkit.classes import ClassTable
from visionkit.predict.colours import class_colour
from visionkit.predict.csv_writer import csv_text
from visionkit.predict.maps import NO_CLASS, class_pixels
from visionkit.predict.writers import AddResult, GrowingFile, Pixels, write_new
from visionkit.result import Result

COLUMNS = ("image_id", "file_name", "width", "height", "category_id", "name", "pixels", "share")


def mask_png(result: Result) -> bytes:
    """A palette PNG of a semantic map: values are labels, colours those of pictures, 255 is black."""
    assert result.semantic is not None
    image = Image.fromarray(result.semantic, mode="P")
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(result.classes)] = [class_colour(label) for label in range(len(result.classes))]
    image.putpalette(palette.tobytes())
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def classes_json(table: ClassTable) -> str:
    """What the values of the masks mean, as `formats.mask_images.read_mask_classes` reads it."""
    return json.dumps({"names": list(table.names), "ignore_index": NO_CLASS}, ensure_ascii=False, indent=1) + "\n"


@contextmanager
def mask_writer(folder: Path) -> Iterator[AddResult]:
    """`masks/NAME.png` an image, named as its picture; `masks/classes.json`; and `areas.csv`, a row an image and class.

    Columns: the image's place among the sources from 1, its path, width and height in pixels; the dataset's category
    id and name; the class's pixels and their share of the image. Raises as `write_new` and GrowingFile.
    """
    with GrowingFile(folder / "areas.csv", start=csv_text([COLUMNS])) as table:
        named = False

        def add(result: Result, *, number: int, name: str, pixels: Pixels) -> None:
            nonlocal named
            if not named:
                write_new(folder / "masks" / "classes.json", classes_json(result.classes).encode())
                named = True
            write_new(folder / "masks" / f"{name}.png", mask_png(result))
            image = (number, result.path, result.width, result.height)
            ids, names = result.classes.category_ids, result.classes.names
            assert result.semantic is not None
            counts = class_pixels(result.semantic)
            table.add(
                csv_text(
                    (*image, ids[label], names[label], int(counts[label]), f"{share:.6f}")
                    for label, share in zip(result.labels.tolist(), result.scores.tolist(), strict=True)
                )
            )

        yield add
