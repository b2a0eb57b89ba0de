"""What a segmenter says of its square, in the pixels of the image: scores enlarged first, decided afterwards.

Decided first and enlarged afterwards, contours would be stairs with steps as large as the network's pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.imaging.letterbox import Frame

Scores = NDArray[np.float32]
Labels = NDArray[np.uint8]

NO_CLASS = 255
"""The label of a pixel whose class was not asked for."""

STRIP = 1 << 20
"""Pixels of a map that are decided at a time: however large the image, what is worked on is not."""


def scores_in_pixels(scores: Scores, frame: Frame) -> Scores:
    """f32 [K, S, S] -> f32 [K, height, width] of the original image, bilinear between the centres of network pixels; a
    copy, which the caller may change."""
    inside = frame.inside(scores)
    if inside.shape[1:] == (frame.height, frame.width):
        return inside.copy()
    enlarged = np.empty((len(scores), frame.height, frame.width), np.float32)
    for plane, out in zip(inside, enlarged, strict=True):
        cv2.resize(plane, (frame.width, frame.height), dst=out, interpolation=cv2.INTER_LINEAR)
    return enlarged


def labels_in_pixels(scores: Scores, frame: Frame) -> Labels:
    """f32 [K, S, S] -> u8 [height, width], the class with the highest of the scores that `scores_in_pixels` gives each
    original pixel; of equal ones the lowest label. Made in strips."""
    inside = frame.inside(scores)
    if inside.shape[1:] == (frame.height, frame.width):
        return best_labels(inside)
    labels = np.zeros((frame.height, frame.width), np.uint8)
    for first, stop in strips(labels):
        # A row lies between two of the network's: `lower` and the next, `share` of the way.
        place = (np.arange(first, stop, dtype=np.float32) + 0.5) * inside.shape[1] / frame.height - 0.5
        place = np.clip(place, 0, inside.shape[1] - 1)
        lower = place.astype(np.int64)
        upper, share = np.minimum(lower + 1, inside.shape[1] - 1), (place - lower)[:, None].astype(np.float32)
        best = np.full((stop - first, frame.width), -np.inf, np.float32)
        for label, plane in enumerate(inside):
            rows = plane[lower] * (1 - share) + plane[upper] * share
            wide = cv2.resize(rows, (frame.width, stop - first), interpolation=cv2.INTER_LINEAR)
            _take_better(labels[first:stop], best, wide, label)
    return labels


def best_labels(scores: Scores) -> Labels:
    """f32 [K, H, W] -> u8 [H, W], the class with the highest score; of equal ones the lowest label.

    One class after another: NumPy's argmax over the first axis takes several times as long.
    """
    labels = np.zeros(scores.shape[1:], np.uint8)
    best = np.full(scores.shape[1:], -np.inf, np.float32)
    for label, plane in enumerate(scores):
        _take_better(labels, best, plane, label)
    return labels


def _take_better(labels: Labels, best: Scores, plane: NDArray[np.float32], label: int) -> None:
    np.copyto(labels, np.uint8(label), where=plane > best)
    np.maximum(best, plane, out=best)


def class_pixels(labels: Labels) -> NDArray[np.int64]:
    """i64 [256]: how many pixels of a map u8 [H, W] have each label. Counted in strips: `bincount` makes 8 bytes of
    each pixel."""
    counts = np.zeros(256, np.int64)
    for first, stop in strips(labels):
        counts += np.bincount(labels[first:stop].ravel(), minlength=256)
    return counts


def strips(labels: Labels) -> Iterator[tuple[int, int]]:
    """First row, and the row behind the last, of strips of a map [H, W] of about `STRIP` pixels."""
    height, width = labels.shape
    rows = max(1, STRIP // max(1, width))
    for first in range(0, height, rows):
        yield first, min(first + rows, height)
