"""What was found in overlapping views of one image, such as its tiles, put together: each object once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionkit.imaging.letterbox import Frame
from visionkit.predict.backend import RawDetections

Window = tuple[int, int, int, int]
"""What a view shows of an image: x1 y1 x2 y2 in whole pixels, half-open."""

EDGE = 0.02
"""Share of a view's side: a box that ends this near to it, where the image goes on, is taken for cut off there."""

SAME = 0.5
"""Two boxes of one class from two views are one object where they overlap by more. It is less than what suppression
within a view takes: there the two are boxes of one pass, here the same object was seen at another scale or place."""

CUT_WORTH = 0.5
"""What the score of a cut box counts beside that of a whole one."""

CANDIDATES = 10
"""Times as many boxes as are wanted enter the merging, the best of them; it bounds the time."""


@dataclass(frozen=True, slots=True)
class Found:
    """N detections in the pixels of their image.

    Args:
        boxes: f32 [N, 4] x1 y1 x2 y2, clipped to what their view shows.
        scores: f32 [N].
        labels: i64 [N].
        view: i64 [N], the view that each was found in.
        cut: bool [N], whether the box ends where its view ends and the image goes on.
        windows: f32 [N, 4], what the view shows.
        plane: f32 [N, 4], the boxes before they were clipped, which `masks` are on.
        masks: f32 [N, M, M], as `RawDetections` has them; None where there are none.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    view: NDArray[np.int64]
    cut: NDArray[np.bool_]
    windows: NDArray[np.float32]
    plane: NDArray[np.float32]
    masks: NDArray[np.float32] | None = None

    def take(self, keep: NDArray[np.int64] | NDArray[np.bool_]) -> Found:
        """Those that `keep` selects, a mask or indices."""
        masks = None if self.masks is None else self.masks[keep]
        return Found(
            self.boxes[keep],
            self.scores[keep],
            self.labels[keep],
            self.view[keep],
            self.cut[keep],
            self.windows[keep],
            self.plane[keep],
            masks,
        )

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Found:
        """Those of all parts, at least one, one after another."""
        masks = [part.masks for part in parts if part.masks is not None]
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.view for part in parts]),
            np.concatenate([part.cut for part in parts]),
            np.concatenate([part.windows for part in parts]),
            np.concatenate([part.plane for part in parts]),
            np.concatenate(masks) if masks else None,
        )


def found_in(raw: RawDetections, frame: Frame, window: Window, size: tuple[int, int], view: int = 0) -> Found:
    """The detections of one view, brought from network pixels to those of the image; without those that lie wholly in
    the padding, which are none of the image.

    Args:
        frame: of the view.
        window: what the view shows.
        size: width and height of the image.
        view: its number.
    """
    boxes = frame.to_original(raw.boxes)
    keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    left, top, right, bottom = window
    corner = np.array([left, top, left, top], np.float32)
    boxes = boxes[keep] + corner
    # Only at an inner border does the image go on.
    goes_on = np.array([left > 0, top > 0, right < size[0], bottom < size[1]])
    near = EDGE * np.array([right - left, bottom - top] * 2)
    cut = ((np.abs(boxes - np.array(window)) <= near) & goes_on).any(axis=1)
    count = len(boxes)
    return Found(
        boxes=boxes,
        scores=raw.scores[keep],
        labels=raw.labels[keep],
        view=np.full(count, view, np.int64),
        cut=cut,
        windows=np.tile(np.array(window, np.float32), (count, 1)),
        plane=frame.to_plane(raw.boxes[keep]) + corner,
        masks=None if raw.masks is None else raw.masks[keep],
    )


def merged(found: Found, max_det: int) -> Found:
    """Each object once, the best first, at most `max_det`.

    Within each class and from the best box to the worst, a box goes where one from another view that stays

    - overlaps it by more than `SAME` (IoU), or
    - if the box is cut, holds more than `SAME` of it: a part of an object goes where the object is seen.

    Best is the one of the highest score, but a cut box counts for `CUT_WORTH` of its own: it gives way to a whole one
    unless that is far less sure. Two boxes of one view both stay, as the model chose. An object that no view shows
    whole stays in its parts.

    Args:
        found: in several views of an image.
    """
    return found.take(merged_places(found, max_det))


def merged_places(found: Found, max_det: int) -> NDArray[np.int64]:
    """Which ones `merged` leaves, i64 [M], in its order."""
    rank = np.where(found.cut, CUT_WORTH * found.scores, found.scores)
    order = np.argsort(-rank, kind="stable")[: CANDIDATES * max_det]
    areas = _areas(found)
    kept: list[int] = []
    for label in np.unique(found.labels[order]).tolist():
        waiting = order[found.labels[order] == label]
        while len(waiting):
            best, others = waiting[0], waiting[1:]
            kept.append(int(best))
            shared, either = _shared_areas(found, areas, best, others)
            same = (shared > SAME * either) & (found.view[others] != found.view[best])
            waiting = others[~same]
    chosen = np.array(kept, np.int64)
    # Of equal scores the one that ranked higher.
    return chosen[np.lexsort((-rank[chosen], -found.scores[chosen]))][:max_det]


def came_before(found: Found, gone: int, places: NDArray[np.int64]) -> tuple[int, float] | None:
    """Which of those that are left a detection gave way to, and how much of the two is one: of those of its class in
    other views the one that overlaps it most. None where none does by enough: then there were enough better ones.

    Args:
        places: as `merged_places` gave them.
    """
    rivals = places[(found.labels[places] == found.labels[gone]) & (found.view[places] != found.view[gone])]
    areas = _areas(found)
    overlaps = [
        float(shared[0] / either[0])
        for shared, either in (_shared_areas(found, areas, rival, np.array([gone])) for rival in rivals)
    ]
    best = max(range(len(overlaps)), key=overlaps.__getitem__, default=None)
    return None if best is None or overlaps[best] <= SAME else (int(rivals[best]), overlaps[best])


def _areas(found: Found) -> NDArray[np.float32]:
    """[N]: pixels of the boxes."""
    areas: NDArray[np.float32] = (found.boxes[:, 2] - found.boxes[:, 0]) * (found.boxes[:, 3] - found.boxes[:, 1])
    return areas


def _shared_areas(
    found: Found, areas: NDArray[np.float32], best: int, others: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixels [N] that a box shares with each of the others, and [N] that it is to share more than `SAME` of for the two
    to be one: those of both together, or of the other alone where that is cut."""
    box, boxes = found.boxes[best], found.boxes[others]
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared: NDArray[np.float32] = np.clip(sides, 0, None).prod(axis=1)
    return shared, np.where(found.cut[others], areas[others], areas[best] + areas[others] - shared)
