"""Mosaic: four images in one, so that a batch shows more contexts and more scales.

Source: Bochkovskiy, Wang, Liao, "YOLOv4: Optimal Speed and Accuracy of Object Detection", 2020, section 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.data.augment import shrink, with_visible_objects
from visionkit.imaging.letterbox import PADDING_GREY
from visionkit.types import Sample

CENTRE = (0.3, 0.7)
"""The point where the four tiles meet is drawn from this range of the side, on each axis."""


@dataclass(frozen=True, slots=True)
class _Span:
    """One axis of a tile: source pixels [start, start + length) shown on canvas pixels [at, at + extent)."""

    start: int
    length: int
    at: int
    extent: int


def mosaic(
    samples: Sequence[Sample],
    size: int,
    generator: np.random.Generator,
    scale: tuple[float, float] = (0.5, 1.25),
    min_visible: float = 0.2,
) -> Sample:
    """Four images about a random centre. Each is scaled by its own random factor; of one larger than its quadrant a
    random window is shown, a smaller one lies against the centre with grey outside.

    Each tile is resized from just the window that shows, straight into the canvas of the final size.

    Args:
        samples: four; top left, top right, bottom left, bottom right.
        size: side of the canvas in pixels.
        scale: smallest and largest factor; at 1 the whole image would fit the canvas.
        min_visible: objects of which a smaller share of the area shows are dropped, as are those under `MIN_SIDE`.

    Returns:
        Image u8 [size, size, 3], the objects of all four inside it, and the image id of the first.
    """
    assert len(samples) == 4
    centre_x, centre_y = (round(size * share) for share in generator.uniform(*CENTRE, size=2))
    canvas = np.full((size, size, 3), PADDING_GREY, np.uint8)
    tiles = []
    for position, sample in enumerate(samples):
        height, width = sample.image.shape[:2]
        factor = size / max(height, width) * generator.uniform(*scale)
        across = _span(width, factor, centre_x, size, position % 2 == 1, generator)
        down = _span(height, factor, centre_y, size, position >= 2, generator)
        tiles.append(_draw(sample, across, down, factor, canvas, min_visible))
    return Sample(
        canvas,
        boxes=np.concatenate([t.boxes for t in tiles]),
        labels=np.concatenate([t.labels for t in tiles]),
        ignore=np.concatenate([t.ignore for t in tiles]),
        image_id=samples[0].image_id,
    )


def _span(
    length: int, factor: float, centre: int, size: int, after_centre: bool, generator: np.random.Generator
) -> _Span:
    """Where an image of `length` pixels, scaled by `factor`, goes on one axis: before or after the centre."""
    room = size - centre if after_centre else centre
    if length * factor > room:
        window = min(length, max(1, round(room / factor)))
        start = int(generator.integers(length - window + 1))
        return _Span(start, window, centre if after_centre else 0, room)
    extent = max(1, round(length * factor))
    return _Span(0, length, centre if after_centre else centre - extent, extent)


def _draw(
    sample: Sample, across: _Span, down: _Span, factor: float, canvas: NDArray[np.uint8], min_visible: float
) -> Sample:
    """Draw the sample's window on the canvas; return the sample with its visible objects in canvas pixels."""
    window = sample.image[down.start : down.start + down.length, across.start : across.start + across.length]
    reduced, blocks = shrink(window, factor)
    tile = canvas[down.at : down.at + down.extent, across.at : across.at + across.extent]
    tile[:] = cv2.resize(reduced, (across.extent, down.extent), interpolation=cv2.INTER_LINEAR)

    shown_height, shown_width = (side * blocks for side in reduced.shape[:2])
    scale = np.array([across.extent / shown_width, down.extent / shown_height] * 2, np.float32)
    origin = np.array([across.start, down.start] * 2, np.float32)
    # Clipped to the tile before it goes on the canvas, where its hidden part would lie in the neighbouring tile.
    shown = with_visible_objects(replace(sample, image=tile, boxes=(sample.boxes - origin) * scale), min_visible)
    return replace(shown, boxes=shown.boxes + np.array([across.at, down.at] * 2, np.float32))
