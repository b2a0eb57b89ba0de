"""Results for CVAT, as "CVAT for images 1.1" (https://docs.cvat.ai/docs/other/xml_format), to be corrected there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree.ElementTree import Element

from visionkit.formats.cvat import FILE
from visionkit.formats.cvat_writer import END, START, cvat_image, cvat_labels, cvat_shapes
from visionkit.predict.class_names import one_line_names
from visionkit.predict.found_objects import found_objects
from visionkit.predict.source_pictures import source_pictures
from visionkit.predict.writers import AddResult, GrowingFile, Pixels
from visionkit.result import Result

FOLDER = "cvat"
SCORE_ATTRIBUTE = "score"

_SCORE_SPEC = {
    "name": SCORE_ATTRIBUTE,
    "mutable": "False",
    "input_type": "text",  # CVAT's numbers are whole
    "default_value": "",
    "values": "",
}


def result_elements(result: Result) -> list[Element]:
    """The shapes of a result: boxes; masks as polygons, of one group where an object has several parts, or, where it
    has holes, as masks. The score is an attribute of each shape of a detection."""
    names = one_line_names(result.classes.names)
    elements = []
    for number, found in enumerate(found_objects(result), 1):
        said = {} if found.score is None else {SCORE_ATTRIBUTE: str(found.score)}
        label = names[found.label]
        _, shapes = cvat_shapes(
            label, found.corners, found.segmentation, number, Counter(), attributes=said, source="auto"
        )
        elements += shapes
    return elements


@contextmanager
def cvat_writer(folder: Path) -> Iterator[AddResult]:
    """`cvat/annotations.xml`, with an image element for each, also where nothing was found, and `cvat/images/`, with
    each picture as it came, not drawn on; `cvat/sources.csv` says what image each is of.

    CVAT takes the XML into a task of these pictures and `visionkit finetune` reads the folder. A task whose labels
    have no attribute `score` takes the shapes without it. The file is whole XML after every image, because each
    addition takes back the end of the root, adds the image and sets the end again, in one write. Ids of images are
    their places among the sources, counted from 1. Raises as GrowingFile and `source_pictures`.
    """
    inside = folder / FOLDER
    with (
        source_pictures(inside / "images", inside / "sources.csv") as place,
        GrowingFile(inside / FILE, start=START, end=END) as file,
    ):
        is_first = True

        def add(result: Result, *, number: int, name: str, pixels: Pixels) -> None:
            nonlocal is_first
            picture = place(result, number=number, name=name, pixels=pixels)
            image = cvat_image(number, picture, result.width, result.height, result_elements(result))
            if is_first:
                labels = cvat_labels(one_line_names(result.classes.names), _SCORE_SPEC, {"name": "detections"})
                image = labels + image
                is_first = False
            file.add(image)

        yield add
