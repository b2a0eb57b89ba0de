"""Masks of detections in the pixels of their image, as run-length encodings; of large images only windows are drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visionkit.result import Rle

THRESHOLD = 0.5
"""A pixel belongs to the object from here on (He et al. 2017, Mask R-CNN, section 3.1, "Inference")."""

LEAST_SIDE = 1e-3
"""Pixels; no box is divided into cells of less."""


def pasted_masks(
    masks: NDArray[np.float32],
    boxes: NDArray[np.float32],
    height: int,
    width: int,
    *,
    threshold: float = THRESHOLD,
    windows: NDArray[np.float32] | None = None,
) -> list[Rle]:
    """Masks that are given on their boxes, in the pixels of an image of this size.

    A pixel belongs to the object where the mask, interpolated at the pixel's centre, says at least `threshold`. Around
    the box the mask is 0, which it falls to over a cell.

    Boxes are not rounded to whole pixels first, as the authors' code and torchvision do: true masks that were brought
    to 28 x 28 cells and back have an IoU of 0.97 with themselves, there 0.77 at 8 px, 0.93 at 32 px, 0.97 at 200 px.

    Args:
        masks: f32 [N, M, M] in [0, 1], on M x M cells that divide the box evenly.
        boxes: f32 [N, 4] x1 y1 x2 y2 in pixels; they may reach beyond the image.
        windows: [N, 4] x1 y1 x2 y2 in whole pixels: each mask ends there at the latest; the whole image where None.
    """
    if windows is None:
        windows = np.tile(np.array([0, 0, width, height], np.float32), (len(boxes), 1))
    return [
        _pasted(mask, box, window, height, width, threshold)
        for mask, box, window in zip(masks, boxes, windows, strict=True)
    ]


def _pasted(
    mask: NDArray[np.float32],
    box: NDArray[np.float32],
    window: NDArray[np.float32],
    height: int,
    width: int,
    threshold: float,
) -> Rle:
    left, across = _tents(box[0], box[2], mask.shape[1], window[0], window[2])
    top, down = _tents(box[1], box[3], mask.shape[0], window[1], window[3])
    return window_rle(down @ mask @ across.T >= threshold, left, top, height, width)


def _tents(low: float, high: float, cells: int, first: float, last: float) -> tuple[int, NDArray[np.float32]]:
    """On one axis, of the pixels from `first` to before `last`, the first that a mask may reach, and how much of each
    cell they get: [n, cells].

    A cell shows most at its centre and not at all beyond those of its neighbours.
    """
    cell = max(float(high) - float(low), LEAST_SIDE) / cells
    start, stop = (int(np.clip(end, first, last)) for end in (np.floor(low - cell), np.ceil(high + cell)))
    centres = (np.arange(start, stop) + 0.5 - low) / cell - 0.5
    return start, np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(cells))).astype(np.float32)


def window_rle(window: NDArray[np.bool_], left: int, top: int, height: int, width: int) -> Rle:
    """The RLE of an image that is background but for a window [h, w] at `left`, `top`; it takes the window's memory."""
    from pycocotools import mask as coco_mask  # noqa: PLC0415 - boxes alone do without it

    # Runs go down the columns. What they would join across two columns is joined by their sum: a gap of 0 pixels.
    down = np.pad(window.T, ((0, 0), (1, 1))).astype(np.int8)
    column, row = np.nonzero(np.diff(down, axis=1))
    places = (left + column.astype(np.int64)) * height + top + row
    counts = np.diff(np.concatenate(([0], places, [height * width])))
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": _joined(counts)}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def _joined(counts: NDArray[np.int64]) -> list[int]:
    """Runs of alternating value without empty ones between two of a value, of which the first may be empty."""
    joined: list[int] = counts[:1].tolist()
    for value in counts[1:].tolist():
        if joined[-1] == 0 and len(joined) > 1:
            joined.pop()
            joined[-1] += value
        else:
            joined.append(value)
    # COCO ends with the last pixels there are.
    return joined[:-1] if len(joined) > 1 and joined[-1] == 0 else joined


def decoded_mask(rle: Rle) -> NDArray[np.bool_]:
    """[H, W]."""
    from pycocotools import mask as coco_mask  # noqa: PLC0415

    mask: NDArray[np.bool_] = coco_mask.decode(dict(rle)).astype(np.bool_)
    return mask
