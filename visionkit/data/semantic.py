"""Images with a label for every pixel: read, moved in step with their pictures, and cropped so that rare classes show.

Labels are never mixed: each pixel of a moved map takes the label that lies nearest.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.data.cache import CacheName, ImageCache
from visionkit.data.dataset import DetectionDataset
from visionkit.data.geometry import Span
from visionkit.formats.mask_images import IGNORED
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.semantic_map import semantic_map
from visionkit.imaging.letterbox import Frame
from visionkit.types import Sample

SMALLEST_CROP = 0.5
"""Of an image's shorter side: a crop shows no less, because a class is told by its surroundings too."""

Labels = NDArray[np.uint8]


class SemanticDataset:
    """The images of one split and their semantic maps, read one at a time. Samples have no boxes.

    Args:
        annotated: the split, as `formats.semantic_map.with_background` gives it.
        cache: as for `DetectionDataset`. Where it holds images it holds their maps too, in a quarter of the room more:
            masks are decoded, and polygons drawn, once.

    Raises:
        DataError, UsageError: as `DetectionDataset`.
    """

    def __init__(self, annotated: AnnotatedImages, cache: CacheName = "off") -> None:
        self.images = DetectionDataset(annotated, cache, maps=True)
        self._records = annotated.images
        self._maps = _opened_map_cache(self.images.sizes) if self.images.is_cached else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None}

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> ClassTable:
        return self.images.classes

    @property
    def cache_words(self) -> str:
        return self.images.cache_words

    @property
    def is_cached(self) -> bool:
        return self.images.is_cached

    def path(self, index: int) -> Path:
        """Where image `index` lies."""
        return self.images.path(index)

    def read(self, index: int) -> Sample:
        """Image `index` and its map, in original upright pixels. Both may be the cache's: write-protected.

        Raises:
            DataError: as `DetectionDataset.read`, or the mask cannot be read.
        """
        sample = self.images.read(index).with_objects(np.zeros(0, np.int64))
        if self._maps is None:
            return replace(sample, semantic=self._map(index))
        (labels,) = self._maps.read(index, lambda: self._map(index)[:, :, None])
        return replace(sample, semantic=labels[:, :, 0])

    def _map(self, index: int) -> Labels:
        return semantic_map(self._records[index], self.classes)


def _opened_map_cache(sizes: NDArray[np.int32]) -> ImageCache | None:
    """Room for a map of each image; None where the system gives none."""
    try:
        return ImageCache(sizes, channels=1, levels=1)
    except (OSError, ValueError, OverflowError):
        return None


# Crops ----------------------------------------------------------------------------------------------------------------


def balanced_window(labels: Labels, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """A random window, x1 y1 x2 y2 in whole pixels, that shows a pixel of a class drawn evenly among those in the
    image: each is as likely to be in it, however few pixels it has.

    It is square, its side from `SMALLEST_CROP` of the shorter side to the longer side, cut to the image.

    Args:
        labels: [H, W].
        generator: the sample's own, from `keyed_generator`.
    """
    height, width = labels.shape
    counts = np.bincount(labels.ravel(), minlength=IGNORED + 1)
    counts[IGNORED] = 0
    present = np.flatnonzero(counts)
    if len(present):
        label = present[generator.integers(len(present))]
        place = int(np.flatnonzero(labels.ravel() == label)[generator.integers(counts[label])])
    else:
        place = int(generator.integers(labels.size))
    y, x = divmod(place, width)
    side = generator.uniform(SMALLEST_CROP * min(height, width), max(height, width))
    left, right = _around(x, width, side, generator)
    top, bottom = _around(y, height, side, generator)
    return left, top, right, bottom


def _around(place: int, length: int, side: float, generator: np.random.Generator) -> tuple[int, int]:
    """Start and stop of a random span of `side` pixels, at most `length`, that holds a place."""
    wide = min(length, max(1, round(side)))
    start = int(generator.integers(max(0, place - wide + 1), min(place, length - wide) + 1))
    return start, start + wide


def median_frequency_weights(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """What a pixel of each class counts, f64 [K]: the median of the classes' frequencies by its own, a frequency being
    the class's share of the judged pixels of the images that have it; 1 for a class without a pixel.

    Source: Eigen and Fergus 2015, Predicting Depth, Surface Normals and Semantic Labels, section 6.3.2 (its weights).

    Args:
        counts: i64 [N, K], as `formats.semantic_map.label_counts` gives them.

    >>> median_frequency_weights(np.array([[90, 10, 0], [50, 0, 50]])).round(3).tolist()  # 0.7, 0.1, 0.5
    [0.714, 5.0, 1.0]
    """
    total = ((counts > 0) * counts.sum(axis=1, keepdims=True)).sum(axis=0)
    present = total > 0
    frequency = counts.sum(axis=0)[present] / total[present]
    weights = np.ones(counts.shape[1])
    weights[present] = np.median(frequency) / frequency if len(frequency) else 1
    return weights


# Maps in step with their pictures -------------------------------------------------------------------------------------


def blank_map(size: int) -> Labels:
    """u8 [size, size] with nothing to judge."""
    return np.full((size, size), IGNORED, np.uint8)


def letterboxed_map(labels: Labels, frame: Frame, size: int) -> Labels:
    """A map in the network's square, where `frame` says that its picture lies; ignored outside."""
    width, height = round(frame.scale_x * frame.width), round(frame.scale_y * frame.height)
    canvas = blank_map(size)
    canvas[frame.top : frame.top + height, frame.left : frame.left + width] = _resized(labels, width, height)
    return canvas


def draw_map_window(labels: Labels, across: Span, down: Span, canvas: Labels) -> None:
    """Draw a window of a map on a window of `canvas`, as `geometry.draw_window` says that it drew the picture's."""
    window = labels[down.start : down.start + down.length, across.start : across.start + across.length]
    tile = _resized(window, across.extent, down.extent)
    canvas[down.at : down.at + down.extent, across.at : across.at + across.extent] = tile[
        :: -1 if down.mirrored else 1, :: -1 if across.mirrored else 1
    ]


def warped_map(labels: Labels, matrix: NDArray[np.float64], size: int) -> Labels:
    """A map on a square, mapped by `matrix` [2, 3] as `geometry.draw_warped` maps its picture; ignored outside."""
    linear = matrix[:, :2]
    # OpenCV counts from pixel centres: its coordinate is ours minus a half, on both sides of the map.
    centres = np.column_stack((linear, matrix[:, 2] + linear @ (0.5, 0.5) - 0.5))
    warped = cv2.warpAffine(labels, centres, (size, size), flags=cv2.INTER_NEAREST, borderValue=(IGNORED,))
    return np.asarray(warped, np.uint8)


def _resized(labels: Labels, width: int, height: int) -> Labels:
    if labels.shape == (height, width):
        return labels
    # EXACT takes the pixel under the centre; OpenCV's older nearest is off by up to half a pixel of the source.
    return np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
