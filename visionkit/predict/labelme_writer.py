"""Results as LabelMe files, to be looked at and corrected there, and learnt from after that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visionkit.formats.labelme_writer import labelme_shapes, labelme_text
from visionkit.predict.class_names import one_line_names
from visionkit.predict.found_objects import found_objects
from visionkit.predict.source_pictures import source_pictures
from visionkit.predict.writers import AddResult, Pixels, write_new
from visionkit.result import Result

FOLDER = "labelme"


def result_shapes(result: Result) -> list[dict[str, Any]]:
    """The shapes of a result: rectangles; masks as polygons, of one group where an object has several parts, or, where
    it has holes, as masks.

    LabelMe has no place for scores, but keeps keys that it does not know: each shape of a detection has a `score`.
    """
    names = one_line_names(result.classes.names)
    shapes = []
    for number, found in enumerate(found_objects(result), 1):
        more = {} if found.score is None else {"score": found.score}
        label = names[found.label]
        _, drawn = labelme_shapes(label, found.corners, found.segmentation, number, Counter(), flags={}, more=more)
        shapes += drawn
    return shapes


@contextmanager
def labelme_writer(folder: Path) -> Iterator[AddResult]:
    """`labelme/`: each picture as it came, not drawn on, and a JSON file of its name, also where nothing was found;
    `sources.csv`, which says what image each is of.

    LabelMe opens the folder and `visionkit finetune` reads it; both know classes by their names alone. Each file is
    written once, after its picture. Raises as `source_pictures` and `write_new`.
    """
    with source_pictures(folder / FOLDER, folder / FOLDER / "sources.csv") as place:

        def add(result: Result, *, number: int, name: str, pixels: Pixels) -> None:
            picture = place(result, number=number, name=name, pixels=pixels)
            text = labelme_text(picture, result.width, result.height, result_shapes(result))
            write_new((folder / FOLDER / picture).with_suffix(".json"), text.encode())

        yield add
