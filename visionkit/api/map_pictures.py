"""Pictures of the maps that a segmenter is scored by, made while they pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionkit.formats.records import AnnotatedImages
from visionkit.formats.semantic_map import semantic_map
from visionkit.imaging.reader import read_image
from visionkit.predict.map_comparison import draw_map_comparison
from visionkit.predict.writers import OutputNames, save_picture


def drawn_maps(
    folder: Path, truth: AnnotatedImages, maps: Iterable[NDArray[np.uint8]], count: int
) -> Iterator[NDArray[np.uint8]]:
    """The same maps, one for each image of a split in its order; of the first ones pictures: truth, prediction, errors.

    Args:
        folder: gets `NAME.jpg` or `NAME.png` for each; a name that is taken gets a number.
        maps: u8 [H, W] of the split's labels.
        count: how many pictures there are at most.
    """
    names = OutputNames(folder)
    for number, (record, predicted) in enumerate(zip(truth.images, maps, strict=True)):
        if number < count:
            assert record.path is not None
            image, labels = read_image(record.path), semantic_map(record, truth.classes)
            save_picture(names.take(record.path), draw_map_comparison(image, labels, predicted, truth.classes.names))
        yield predicted
