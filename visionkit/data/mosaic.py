"""Mosaic: four images in one, so that a batch shows more contexts and more scales.

Source: Bochkovskiy, Wang, Liao, "YOLOv4: Optimal Speed and Accuracy of Object Detection", 2020, section 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionkit.data.geometry import Span, draw_window, moved_boxes, visible_objects, visible_regions
from visionkit.data.semantic import blank_map, draw_map_window
from visionkit.formats.outlines import Outlines
from visionkit.imaging.letterbox import PADDING_GREY
from visionkit.types import Sample

CENTRE = (0.3, 0.7)
"""The point where the four tiles meet is drawn from this range of the side, on each axis."""


def mosaic(
    samples: Sequence[Sample],
    size: int,
    generator: np.random.Generator,
    scale: tuple[float, float] = (0.5, 1.25),
    min_visible: float = 0.2,
    mirrored: Sequence[tuple[bool, bool]] = ((False, False),) * 4,
    out: NDArray[np.uint8] | None = None,
) -> Sample:
    """Four images about a random centre. Each is scaled by its own random factor; of one larger than its quadrant a
    random window is shown, a smaller one lies against the centre with grey outside.

    Each tile is drawn from just the window that shows, straight on the canvas of the final size.

    Args:
        samples: four; top left, top right, bottom left, bottom right.
        size: side of the canvas in pixels.
        scale: smallest and largest factor; at 1 the whole image would fit the canvas.
        min_visible: objects of which a smaller share of the area shows are dropped, as are those under `MIN_SIDE`;
            ignored regions stay while any of them shows.
        mirrored: by tile, whether it is mirrored left-right and up-down.
        out: u8 [size, size, 3], the canvas; None makes one.

    Returns:
        Image u8 [size, size, 3], the objects of all four inside it, and the image id of the first.
    """
    assert len(samples) == len(mirrored) == 4
    centre_x, centre_y = (round(size * share) for share in generator.uniform(*CENTRE, size=2).tolist())
    factors = generator.uniform(*scale, size=4).tolist()
    canvas = np.empty((size, size, 3), np.uint8) if out is None else out
    canvas.fill(PADDING_GREY)
    labels = None if samples[0].semantic is None else blank_map(size)

    maps, bounds, outlines, regions = [], [], [], []
    for i, (sample, (left_right, up_down)) in enumerate(zip(samples, mirrored, strict=True)):
        height, width = sample.image.shape[:2]
        factor = size / max(height, width) * factors[i]
        across = _random_span(width, factor, centre_x, size, i % 2 == 1, left_right, generator)
        down = _random_span(height, factor, centre_y, size, i >= 2, up_down, generator)
        across, down = draw_window(sample, across, down, canvas)
        if labels is not None and sample.semantic is not None:
            draw_map_window(sample.semantic, across, down, labels)
        maps.append((across.map(), down.map()))
        if sample.outlines is not None:
            outlines.append(sample.outlines.moved(*np.array(maps[-1]).T))
        bounds.append((across.at, down.at, across.at + across.extent, down.at + down.extent))
        if sample.proposals is not None:
            moved = moved_boxes(sample.proposals, *np.array(maps[-1], np.float32).T)
            regions.append(visible_regions(moved, np.array(bounds[-1], np.float32)))

    # Cut to its tile, not only to the canvas: an object's hidden part would lie in the neighbouring tile.
    tile_of = np.repeat(np.arange(4), [len(s.labels) for s in samples])
    by_object = np.array(maps, np.float32)[tile_of]
    boxes = moved_boxes(np.concatenate([s.boxes for s in samples]), by_object[:, :, 0], by_object[:, :, 1])
    ignore = np.concatenate([s.ignore for s in samples])
    boxes, keep = visible_objects(boxes, np.array(bounds, np.float32)[tile_of], min_visible, ignore=ignore)
    return Sample(
        canvas,
        boxes=boxes[keep],
        labels=np.concatenate([s.labels for s in samples])[keep],
        ignore=ignore[keep],
        image_id=samples[0].image_id,
        semantic=labels,
        # What of an outline lies in another tile is not in the object's box, and so not in its mask.
        outlines=Outlines.joined(outlines).take(keep) if outlines else None,
        proposals=np.concatenate(regions) if regions else None,
    )


def _random_span(
    length: int,
    factor: float,
    centre: int,
    size: int,
    after_centre: bool,
    mirrored: bool,
    generator: np.random.Generator,
) -> Span:
    """Where an image of `length` pixels, scaled by `factor`, goes on one axis: before or after the centre."""
    room = size - centre if after_centre else centre
    if length * factor > room:
        window = min(length, max(1, round(room / factor)))
        start = int(generator.integers(length - window + 1))
        return Span(start, window, centre if after_centre else 0, room, mirrored)
    extent = max(1, round(length * factor))
    return Span(0, length, centre if after_centre else centre - extent, extent, mirrored)
