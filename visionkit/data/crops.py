"""What a classifier sees of a dataset: each object cut out of its image, or images that are of a class as a whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.data.cache import CacheName
from visionkit.data.dataset import DetectionDataset
from visionkit.errors import DataError
from visionkit.formats.records import AnnotatedImages
from visionkit.types import Sample


class CropDataset:
    """The objects of one split, each a picture of its own: its box with a margin, as far as the image goes.

    Crowd regions are left out. Where images are of a class as a whole (a folder per class), so are their pictures. A
    sample has one object, which fills it: the label of the picture.

    Args:
        annotated: the split.
        cache: as for `DetectionDataset`; it holds whole images.
        margin: on each side, as a share of the box's longer side; some surroundings tell what a box alone does not.

    Attributes:
        labels: i64 [N], of the pictures in order.
        windows: i64 [N, 4], the x1 y1 x2 y2 that each picture shows of its image.

    Raises:
        DataError: there is no object.
        others: as `DetectionDataset`.
    """

    def __init__(self, annotated: AnnotatedImages, cache: CacheName = "off", margin: float = 0.0) -> None:
        self.images = DetectionDataset(annotated, cache)
        image, boxes, labels, ignore = self.images.objects()
        if ignore.all():
            raise DataError(f"{annotated.source} has no objects to cut out, at least one is needed; add annotations")
        self._image, self.labels = image[~ignore], labels[~ignore]
        self.windows = crop_windows(boxes[~ignore], self.images.sizes[self._image], margin)
        # The objects of an image follow one another: whoever reads in order decodes it once.
        self._latest: tuple[int, Sample] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_latest": None}

    def __len__(self) -> int:
        return len(self.labels)

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
        """Where the image of picture `index` lies."""
        return self.images.path(int(self._image[index]))

    def read(self, index: int) -> Sample:
        """Picture `index`, with one object that fills it. The pixels may be the cache's: write-protected.

        Raises:
            DataError: as `DetectionDataset.read`.
        """
        number = int(self._image[index])
        if self._latest is None or self._latest[0] != number:
            self._latest = number, self.images.read(number)
        whole = self._latest[1]
        left, top, right, bottom = self.windows[index].tolist()
        image = whole.image[top:bottom, left:right]
        return replace(
            labelled(image, int(self.labels[index]), whole.image_id),
            # They show the whole image.
            halves=whole.halves if image.shape == whole.image.shape else (),
        )


def labelled(image: NDArray[np.uint8], label: int, image_id: int) -> Sample:
    """A picture u8 [H, W, 3] of one class: its one object fills it."""
    height, width = image.shape[:2]
    return Sample(
        image,
        boxes=np.array([[0, 0, width, height]], np.float32),
        labels=np.array([label], np.int64),
        ignore=np.array([False]),
        image_id=image_id,
    )


def crop_windows(boxes: NDArray[np.float32], sizes: NDArray[np.int32], margin: float) -> NDArray[np.int64]:
    """The windows i64 [N, 4] of whole pixels around boxes [N, 4] x1 y1 x2 y2, cut to their images; at least a pixel.

    Args:
        sizes: [N, 2], width and height of each box's image.
        margin: on each side, as a share of the longer side.

    >>> crop_windows(np.array([[10, 10, 30, 20.5]], np.float32), np.array([[100, 22]]), margin=0.1).tolist()
    [[8, 8, 32, 22]]
    """
    boxes = boxes.astype(np.float64)
    room = margin * (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0, keepdims=True)
    start = np.clip(np.floor(boxes[:, :2] - room), 0, sizes - 1)
    stop = np.clip(np.ceil(boxes[:, 2:] + room), start + 1, sizes)
    return np.concatenate((start, stop), axis=1).astype(np.int64)
