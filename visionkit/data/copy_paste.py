"""Copy-paste: objects of one image put into another, and what they cover there taken out of the truth.

What is pasted is the window of a box: an object with the surroundings that its box holds. Masks and maps would lose
what a window covers, and what is pasted has no proposals, so samples that have any of these are not for this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.data.geometry import MIN_SIDE
from visionkit.types import Sample

MOST = 4
"""At most so many windows are pasted into one image."""

ZOOM = (0.75, 4 / 3)
"""A window is scaled by a factor from this range: the object stays in a size that the data could have."""

LARGEST = 0.5
"""Share of the image's sides: objects wider or higher are not pasted; one alone would hide most of the picture."""

FEATHER = 0.1
"""Width of the soft border around a window, as a share of the window's shorter side; at least a pixel."""


@dataclass(frozen=True, slots=True)
class _Paste:
    """A window of the donor and where it goes: `to = factor * from + offset`, on each axis.

    Args:
        source: f64 [4], the box in the donor.
        factor: f64 [2], x and y; x is negative where the window is mirrored.
        offset: f64 [2].
    """

    source: NDArray[np.float64]
    factor: NDArray[np.float64]
    offset: NDArray[np.float64]

    def mapped(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes [N, 4] of the donor in pixels of the image that is pasted into."""
        corners: NDArray[np.float64] = boxes.reshape(-1, 2, 2) * self.factor + self.offset
        return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)


def copy_paste(sample: Sample, donor: Sample, generator: np.random.Generator, *, min_visible: float) -> Sample:
    """Paste some of the donor's objects into the sample, each mirrored or not, rescaled a little, at a random place
    (Dwibedi et al. 2017, Cut, Paste and Learn, sec. 4; Ghiasi et al. 2021, Simple Copy-Paste, sec. 3).

    A window ends in a soft border outside its box: a hard edge is an artefact that a detector learns to look for
    (Dwibedi, sec. 4.3). The border, half see-through, hides nothing in the reckoning below. Other objects of the donor
    that lie in a window come along with it, cut to it.

    What is pasted last lies on top. The box of an object that is partly covered, in the sample or in an earlier window,
    becomes the box around what is left of it, which is smaller only where a whole side is covered (Ghiasi: boxes follow
    the masks). An object is dropped when less than a share `min_visible` of its box's area is left, or less than
    `MIN_SIDE` pixels of a side.

    Ignored regions are never pasted for their own sake, but pasted over like anything else: what is put there is
    labelled, so the truth stays whole. They stay while any of them shows, for what still shows in them is as unlabelled
    as before.

    Args:
        sample: image u8 [H, W, 3]; neither sample is changed.
        donor: boxes inside its image, whose pixels have the scale of the sample's.
        generator: the sample's own, from `keyed_generator`.
        min_visible: share in [0, 1].

    Returns:
        The sample with the pasted objects behind its own; the sample itself where the donor has nothing to paste.
    """
    assert sample.outlines is None
    assert sample.proposals is None
    assert sample.semantic is None
    pastes = _draw_pastes(sample, donor, generator)
    if not pastes:
        return sample
    image = sample.image.copy()
    for paste in pastes:
        _blend(image, donor.image, paste)
    windows = np.concatenate([paste.mapped(paste.source[None]) for paste in pastes])
    layers = [_uncovered(sample, sample.boxes.astype(np.float64), windows, min_visible)]
    for i, paste in enumerate(pastes):
        boxes = paste.mapped(donor.boxes.astype(np.float64))
        layers.append(_uncovered(donor, boxes, windows[i + 1 :], min_visible, windows[i]))
    return replace(
        sample,
        image=image,
        boxes=np.concatenate([layer.boxes for layer in layers]),
        labels=np.concatenate([layer.labels for layer in layers]),
        ignore=np.concatenate([layer.ignore for layer in layers]),
    )


def _draw_pastes(sample: Sample, donor: Sample, generator: np.random.Generator) -> list[_Paste]:
    """One to `MOST` of the donor's objects that may be pasted, and their places, inside the image."""
    room = np.array(sample.image.shape[1::-1], np.float64)
    sides = (donor.boxes[:, 2:] - donor.boxes[:, :2]).astype(np.float64)
    fit = ~donor.ignore & (sides >= MIN_SIDE / ZOOM[0]).all(axis=1) & (sides <= LARGEST * room).all(axis=1)
    candidates = np.flatnonzero(fit)
    if not len(candidates):
        return []
    count = int(generator.integers(1, min(MOST, len(candidates)) + 1))
    pastes = []
    for index in generator.choice(candidates, count, replace=False):
        zoom = np.exp(generator.uniform(*np.log(ZOOM)))
        corner = generator.uniform(0, room - zoom * sides[index])
        factor, anchor = np.array([zoom, zoom]), donor.boxes[index, :2].astype(np.float64)
        if generator.random() < 0.5:  # mirrored: the box's right side becomes its left one
            factor[0], anchor[0] = -zoom, donor.boxes[index, 2]
        pastes.append(_Paste(donor.boxes[index].astype(np.float64), factor, corner - factor * anchor))
    return pastes


def _blend(image: NDArray[np.uint8], donor: NDArray[np.uint8], paste: _Paste) -> None:
    """Draw the window into `image` in place, and around it, ever fainter, what lies around it in the donor."""
    box = paste.mapped(paste.source[None])[0]
    feather = max(1.0, FEATHER * float((box[2:] - box[:2]).min()))
    height, width = image.shape[:2]
    left, top = np.maximum(np.floor(box[:2] - feather), 0).astype(int)
    right, bottom = np.minimum(np.ceil(box[2:] + feather), (width, height)).astype(int)
    # From patch to donor, both counted from pixel centres as OpenCV does: to = factor * from + offset, turned round.
    start = (np.array([left, top]) + 0.5 - paste.offset) / paste.factor - 0.5
    matrix = np.array([[1 / paste.factor[0], 0, start[0]], [0, 1 / paste.factor[1], start[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (right - left, bottom - top)
    # Beyond the donor's border its outermost pixels go on, so that the window is soft on that side too.
    window = cv2.warpAffine(donor, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    opacity = np.outer(
        _opacity(top, bottom, box[1], box[3], feather), _opacity(left, right, box[0], box[2], feather)
    ).astype(np.float32)
    patch = image[top:bottom, left:right]
    patch[:] = cv2.blendLinear(window, patch, opacity, 1 - opacity)


def _opacity(start: int, stop: int, low: float, high: float, feather: float) -> NDArray[np.float64]:
    """[stop - start] of pixels on one axis: 1 where a pixel's centre lies in [low, high], falling to 0 over `feather`
    pixels on either side."""
    centres = np.arange(start, stop) + 0.5
    outside: NDArray[np.float64] = np.maximum(low - centres, centres - high)
    return np.clip(1 - outside / feather, 0, 1)


def _uncovered(
    sample: Sample,
    boxes: NDArray[np.float64],
    covers: NDArray[np.float64],
    min_visible: float,
    window: NDArray[np.float64] | None = None,
) -> Sample:
    """The sample's objects, lying at `boxes` [G, 4], as far as they still count where `covers` [M, 4] lie upon them
    and, if given, only a `window` [4] of their image shows."""
    shown = boxes
    if window is not None:
        shown = np.concatenate((np.maximum(boxes[:, :2], window[:2]), np.minimum(boxes[:, 2:], window[2:])), axis=1)
    visible, area = visible_part(shown, covers)
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    full = width * height
    # The tolerance is for areas that were summed in parts.
    whole = (visible == boxes).all(axis=1) & (area >= full * (1 - 1e-9))
    enough = (area >= min_visible * full) & (visible[:, 2:] - visible[:, :2] >= MIN_SIDE).all(axis=1)
    keep = whole | ((area > 0) & (enough | sample.ignore))
    return replace(sample, boxes=visible.astype(np.float32)).with_objects(keep)


def visible_part(
    boxes: NDArray[np.float64], covers: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What is left of boxes [N, 4] under covers [M, 4], which may overlap one another; exact.

    The sides of all covers cut the plane into at most (2M + 1)^2 cells, each wholly covered or not at all.

    Returns:
        The boxes [N, 4] around what is left, and its areas [N]. Of a box that is wholly covered, or has no area,
        nothing is left: area 0, and the box as it was.
    """
    if not len(covers):
        return boxes, np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    xs, ys = (np.concatenate(([-np.inf], np.unique(covers[:, [i, i + 2]]), [np.inf])) for i in (0, 1))
    covered = (
        (covers[:, None, None, 0] <= xs[:-1, None])
        & (xs[1:, None] <= covers[:, None, None, 2])
        & (covers[:, None, None, 1] <= ys[:-1])
        & (ys[1:] <= covers[:, None, None, 3])
    ).any(axis=0)
    # [N, cells]: where each box begins and ends within each column and each row of cells.
    left, right = np.maximum(boxes[:, :1], xs[:-1]), np.minimum(boxes[:, 2:3], xs[1:])
    top, bottom = np.maximum(boxes[:, 1:2], ys[:-1]), np.minimum(boxes[:, 3:], ys[1:])
    widths, heights = np.maximum(right - left, 0), np.maximum(bottom - top, 0)
    shows = (widths[:, :, None] * heights[:, None, :] > 0) & ~covered
    area = np.einsum("nx,xy,ny->n", widths, (~covered).astype(np.float64), heights)
    columns, rows = shows.any(axis=2), shows.any(axis=1)
    around = np.stack(
        (
            np.where(columns, left, np.inf).min(axis=1),
            np.where(rows, top, np.inf).min(axis=1),
            np.where(columns, right, -np.inf).max(axis=1),
            np.where(rows, bottom, -np.inf).max(axis=1),
        ),
        axis=1,
    )
    return np.where((area > 0)[:, None], around, boxes), area
