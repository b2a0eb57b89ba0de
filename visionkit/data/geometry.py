"""Where pixels and boxes go: from an image's own pixels straight to the network's square, in one step.

A map that turns nothing is a resize of one window into another, mirrored in place: at 640 px a quarter of the time that
`cv2.warpAffine` takes for the same map. Only what is turned or sheared is warped.

Coordinates are continuous: pixel i covers [i, i + 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.imaging.halving import halve, whole_factor
from visionkit.imaging.letterbox import PADDING_GREY
from visionkit.types import Sample

MIN_SIDE = 2.0
"""Network pixels: an object that augmentation leaves narrower or lower is dropped; nothing can be learnt from it."""

_GREY = (PADDING_GREY, PADDING_GREY, PADDING_GREY)


@dataclass(frozen=True, slots=True)
class Span:
    """One axis of a window: source pixels [start, start + length) are shown on canvas pixels [at, at + extent), in
    reverse where `mirrored`."""

    start: int
    length: int
    at: int
    extent: int
    mirrored: bool = False

    def map(self) -> tuple[float, float]:
        """Factor, negative where mirrored, and offset: source -> canvas coordinates."""
        factor = self.extent / self.length
        if self.mirrored:
            return -factor, self.at + self.extent + self.start * factor
        return factor, self.at - self.start * factor

    def of_blocks(self, size: int) -> Span:
        """With both ends moved down to multiples of `size`, which is no more than the length."""
        start, stop = (end - end % size for end in (self.start, self.start + self.length))
        return replace(self, start=start, length=stop - start)


def visible_span(start: int, length: int, factor: float, offset: float, size: int, mirrored: bool) -> Span:
    """What shows of the source pixels [start, start + length) on a canvas of `size` pixels, if what lies at a distance
    d from their beginning (mirrored: from their end) comes to lie at `factor * d + offset`.

    Ends are whole pixels: of the source where the canvas cuts it off, of the canvas elsewhere.
    """
    first = min(max(round(-offset / factor), 0), length - 1)
    last = max(min(round((size - offset) / factor), length), first + 1)
    at = 0 if first > 0 else min(max(round(offset), 0), size - 1)
    end = size if last < length else max(min(round(factor * length + offset), size), at + 1)
    return Span(start + (length - last if mirrored else first), last - first, at, end - at, mirrored)


def draw_window(sample: Sample, across: Span, down: Span, canvas: NDArray[np.uint8]) -> tuple[Span, Span]:
    """Draw a window of the sample's image on a window of `canvas`, resampled and mirrored as the spans say.

    Returns:
        The spans as drawn. Where the image is brought down in blocks first (see `halve`) a window begins and ends
        between blocks, up to a network pixel earlier: the blocks are those of the whole image, which may be at hand.
    """
    scale = max(across.extent / across.length, down.extent / down.length)
    factor = whole_factor(scale, across.length, down.length)
    if factor > 1:
        across, down = across.of_blocks(factor), down.of_blocks(factor)
    tile = canvas[down.at : down.at + down.extent, across.at : across.at + across.extent]
    reduced = _reduced_window(sample, across, down, factor)
    if reduced.shape == tile.shape:
        tile[:] = reduced
    else:
        cv2.resize(reduced, (across.extent, down.extent), dst=tile, interpolation=cv2.INTER_LINEAR)
    if across.mirrored or down.mirrored:
        cv2.flip(tile, -1 if across.mirrored and down.mirrored else int(across.mirrored), dst=tile)
    return across, down


def _reduced_window(sample: Sample, across: Span, down: Span, factor: int) -> NDArray[np.uint8]:
    """The window, whose ends are multiples of `factor`, brought down by it: from the nearest half at hand."""
    image, step = sample.image, 1
    for half in sample.halves:
        if step < factor:
            image, step = half, 2 * step
    rows = slice(down.start // step, (down.start + down.length) // step)
    columns = slice(across.start // step, (across.start + across.length) // step)
    return halve(image[rows, columns], factor // step)


def draw_warped(image: NDArray[np.uint8], matrix: NDArray[np.float64], canvas: NDArray[np.uint8]) -> None:
    """Draw `image` on all of `canvas`, mapped by `matrix` [2, 3] from its coordinates to the canvas'; grey outside."""
    height, width = image.shape[:2]
    # The first singular value: how much the map stretches where it stretches most.
    factor = whole_factor(float(np.linalg.svd(matrix[:, :2], compute_uv=False)[0]), width, height)
    linear, offset = matrix[:, :2] * factor, matrix[:, 2]
    # OpenCV counts from pixel centres: its coordinate is ours minus a half, on both sides of the map.
    centres = np.column_stack((linear, offset + linear @ (0.5, 0.5) - 0.5))
    size = (canvas.shape[1], canvas.shape[0])
    cv2.warpAffine(halve(image, factor), centres, size, dst=canvas, borderValue=_GREY)


def turned_boxes(boxes: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """[N, 4] -> [N, 4]: the upright boxes around the corners that `matrix` [2, 3] maps."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).astype(np.float64)
    corners = corners @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1).astype(np.float32)


def moved_boxes(
    boxes: NDArray[np.float32], factors: NDArray[np.float32], offsets: NDArray[np.float32]
) -> NDArray[np.float32]:
    """[N, 4] -> [N, 4] under a map of each axis by itself: `factors` and `offsets` [2] or, one an object, [N, 2]."""
    corners = boxes.reshape(-1, 2, 2) * factors[..., None, :] + offsets[..., None, :]
    # A mirrored axis has its corners the wrong way round.
    first, second = corners[:, 0], corners[:, 1]
    return np.concatenate((np.minimum(first, second), np.maximum(first, second)), axis=1)


def visible_objects(
    boxes: NDArray[np.float32],
    bounds: NDArray[np.float32],
    min_visible: float,
    min_side: float = MIN_SIDE,
    ignore: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes [N, 4] cut to `bounds` ([4], or one an object [N, 4]), and which of them are to be kept, bool [N].

    Dropped are objects of which less than a share `min_visible` of the area is left, those narrower or lower than
    `min_side` pixels, and empty ones. Of `ignore` [N] regions only the empty ones are: what still shows in the others
    is as unlabelled as before, and would be background.
    """
    low, high = bounds[..., None, :2], bounds[..., None, 2:]
    clipped = np.minimum(np.maximum(boxes.reshape(-1, 2, 2), low), high).reshape(-1, 4)
    width, height = clipped[:, 2] - clipped[:, 0], clipped[:, 3] - clipped[:, 1]
    full = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    smallest = np.minimum(width, height)
    enough = (smallest >= min_side) & (width * height >= min_visible * full)
    return clipped, (smallest > 0) & (enough if ignore is None else enough | ignore)


def with_visible_objects(sample: Sample, min_visible: float, min_side: float = MIN_SIDE) -> Sample:
    """The sample with its boxes cut to the image, without the objects that `visible_objects` drops; of its proposals
    what is left in the image."""
    height, width = sample.image.shape[:2]
    bounds = np.array([0, 0, width, height], np.float32)
    boxes, keep = visible_objects(sample.boxes, bounds, min_visible, min_side, sample.ignore)
    proposals = None if sample.proposals is None else visible_regions(sample.proposals, bounds)
    return replace(sample, boxes=boxes, proposals=proposals).with_objects(keep)


def visible_regions(proposals: NDArray[np.float32], bounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Proposals [N, 4] cut to `bounds` [4], without those of which less than `MIN_SIDE` is left."""
    cut, keep = visible_objects(proposals, bounds, 0.0)
    return cut[keep]
