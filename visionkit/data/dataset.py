"""The dataset reader: annotation records -> samples in original pixels.

The one place where `x y w h` becomes `x1 y1 x2 y2` and a dataset category id becomes a label.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.data.cache import CacheName, ImageCache, cache_choice
from visionkit.errors import DataError, UsageError
from visionkit.formats.outlines import Outlines, segmentation_edges
from visionkit.formats.proposals import Proposals
from visionkit.formats.records import AnnotatedImages, ImageRecord
from visionkit.imaging.reader import read_image
from visionkit.types import Sample


class DetectionDataset:
    """The images of one split and their boxes, read one at a time.

    Everything is kept in a handful of arrays instead of a Python object per box: it is sent to spawned workers in one
    piece, and forked workers share its memory, because no reference count in it ever changes.

    Args:
        annotated: the split; the objects of image i lie in rows `offsets[i]:offsets[i + 1]` afterwards.
        cache: whether decoded images are kept in memory: `ram`, `off`, or `auto`, if there is plenty. Samples are the
            same either way. One cache serves this process and those forked from it; pickled, the dataset leaves it
            behind, so spawned workers read files.
        masks: whether samples have the outlines of their objects; an object without a segmentation, and what is
            ignored, has none.
        proposals: by image id, f64 [N, 4] x y w h in pixels, where samples are to have them; an image that is not among
            them has none.
        maps: whether someone keeps a map of each image where this keeps the image: it takes memory too.

    Attributes:
        cache_words: what was decided about the cache, for people.
        without_mask: objects that have none, where masks are asked for; ignored ones are not counted.
        proposal_counts: i64 [N], of each image; None where no one asked for them.

    Raises:
        DataError: there is no image, or one has no file; or no object has the mask that is asked for.
        UsageError: an unknown cache, or `ram` for more than the machine has.
    """

    def __init__(
        self,
        annotated: AnnotatedImages,
        cache: CacheName = "off",
        *,
        masks: bool = False,
        proposals: Proposals | None = None,
        maps: bool = False,
    ) -> None:
        images = annotated.images
        if not images:
            raise DataError(f"{annotated.source} lists no images, at least one is needed; check the annotation file")
        objects = [annotation for image in images for annotation in image.annotations]
        label = annotated.classes.label

        self.classes: ClassTable = annotated.classes
        self.image_ids: NDArray[np.int64] = np.array([image.id for image in images], np.int64)
        self.sizes: NDArray[np.int32] = np.array([(image.width, image.height) for image in images], np.int32)
        self._paths = np.array([_encoded_path(image, annotated.source) for image in images])
        self._offsets = np.cumsum([0, *(len(image.annotations) for image in images)], dtype=np.int64)
        corners = _corners(np.array([o.bbox for o in objects], np.float64).reshape(-1, 4))
        counts = [len(image.annotations) for image in images]
        self._boxes = _clipped(corners, np.repeat(self.sizes, counts, axis=0))
        self._labels = np.array([label(o.category_id) for o in objects], np.int64)
        self._ignore = np.array([o.iscrowd for o in objects], np.bool_)
        self._edges: NDArray[np.float32] | None = None
        self._edge_offsets: NDArray[np.int64] | None = None
        if masks:
            self._edges, self._edge_offsets = _outlines(annotated)
        known = np.diff(self._edge_offsets) > 0 if self._edge_offsets is not None else np.True_
        self.without_mask = int(np.count_nonzero(~self._ignore & ~known))
        self._regions: NDArray[np.float32] | None = None
        self.proposal_counts: NDArray[np.int64] | None = None
        if proposals is not None:
            by_image = [proposals.get(image.id, np.empty((0, 4))) for image in images]
            self.proposal_counts = np.array([len(regions) for regions in by_image], np.int64)
            limits = np.repeat(self.sizes, self.proposal_counts, axis=0)
            self._region_offsets = np.cumsum([0, *self.proposal_counts], dtype=np.int64)
            self._regions = _clipped(_corners(np.concatenate(by_image)), limits)
        self._cache, self.cache_words = _opened_cache(cache, self.sizes, maps)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def is_cached(self) -> bool:
        """Whether an image that was read is kept in memory."""
        return self._cache is not None

    def path(self, index: int) -> Path:
        """Where image `index` lies."""
        return Path(os.fsdecode(self._paths[index]))

    def objects(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
        """All G objects, image by image: the index of their image i64 [G], boxes [G, 4], labels [G] and ignore [G]."""
        image = np.repeat(np.arange(len(self)), np.diff(self._offsets))
        return image, self._boxes, self._labels, self._ignore

    def read(self, index: int) -> Sample:
        """Image `index` and its objects, in original upright pixels. The pixels may be the cache's: write-protected.

        Raises:
            DataError: the file cannot be read, or is not of the size that its annotations are written for.
        """
        if self._cache is None:
            image, halves = self._decoded(index), []
        else:
            image, *halves = self._cache.read(index, lambda: self._decoded(index))
        rows = slice(self._offsets[index], self._offsets[index + 1])
        return Sample(
            image,
            # Copies: a sample's truth is its owner's to change, the dataset's arrays are not.
            boxes=self._boxes[rows].copy(),
            labels=self._labels[rows].copy(),
            ignore=self._ignore[rows].copy(),
            image_id=int(self.image_ids[index]),
            halves=tuple(halves),
            outlines=self._outlines_of(rows),
            proposals=self._regions_of(index),
        )

    def _regions_of(self, index: int) -> NDArray[np.float32] | None:
        if self._regions is None:
            return None
        return self._regions[self._region_offsets[index] : self._region_offsets[index + 1]].copy()

    def _outlines_of(self, rows: slice) -> Outlines | None:
        """Of the objects in these rows; None without masks."""
        if self._edges is None or self._edge_offsets is None:
            return None
        offsets = self._edge_offsets[rows.start : rows.stop + 1]
        owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        return Outlines(self._edges[offsets[0] : offsets[-1]], owner, len(offsets) - 1)

    def _decoded(self, index: int) -> NDArray[np.uint8]:
        path = self.path(index)
        image = read_image(path)
        height, width = image.shape[:2]
        annotated_width, annotated_height = self.sizes[index]
        if (width, height) != (annotated_width, annotated_height):
            raise DataError(
                f"{path} is {width}x{height}, its annotations are written for {annotated_width}x{annotated_height}; "
                "put back the image, or correct width, height and boxes in the annotation file"
            )
        return image


def _outlines(annotated: AnnotatedImages) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The edges of all objects, and where those of each begin."""
    edges = [
        segmentation_edges(None if o.iscrowd else o.segmentation, image.width, image.height)
        for image in annotated.images
        for o in image.annotations
    ]
    if not any(len(own) for own in edges):
        raise DataError(
            f"{annotated.source} has no masks, learning them needs objects with a segmentation; add some, or use a "
            "model that learns boxes, such as faster-rcnn"
        )
    outlines = Outlines.of(edges)
    return outlines.edges, np.cumsum([0, *map(len, edges)], dtype=np.int64)


def _opened_cache(name: CacheName, sizes: NDArray[np.int32], maps: bool) -> tuple[ImageCache | None, str]:
    """The cache, or None; and words about it."""
    choice = cache_choice(name, sizes, maps=maps)
    if not choice.use:
        return None, choice.words
    try:
        return ImageCache(sizes), choice.words
    except (OSError, ValueError, OverflowError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        if name == "ram":
            raise UsageError(f"the system gives no memory for cache ram ({reason}); use --cache off") from None
        return None, f"images not cached: the system gives no memory for it ({reason})"


def _corners(xywh: NDArray[np.float64]) -> NDArray[np.float32]:
    """[N, 4] x y w h -> x1 y1 x2 y2."""
    return np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1).astype(np.float32)


def _clipped(boxes: NDArray[np.float32], sizes: NDArray[np.int32]) -> NDArray[np.float32]:
    """The part of each box [N, 4] that lies in its image; `sizes` [N, 2] are width and height. What lies outside cannot
    be learnt. Evaluation judges the boxes as the file has them."""
    return np.clip(boxes, 0, np.tile(sizes, 2)).astype(np.float32)


def _encoded_path(image: ImageRecord, source: Path) -> bytes:
    if image.path is None:
        raise DataError(
            f"image {image.file_name!r} of {source} has no file, a dataset needs one for each image; "
            "name the folder of the images"
        )
    return os.fsencode(image.path)
