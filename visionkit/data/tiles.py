"""Large images in overlapping tiles, as training sees them where prediction will."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from visionkit.classes import ClassTable
from visionkit.counted import counted
from visionkit.data.dataset import DetectionDataset
from visionkit.data.framing import Window
from visionkit.data.geometry import with_visible_objects
from visionkit.data.semantic import SemanticDataset
from visionkit.types import Sample

_WHOLE = (0, 0, 0, 0)


class TiledDataset:
    """A dataset whose large images come in tiles, each tile a sample of its own.

    A detector that looks at tiles looks at the whole image too, for what is larger than a tile; so each image is there
    whole as well, behind its tiles. A segmenter never sees a large image whole.

    Args:
        images: the dataset that is cut.
        windows: of each image its tiles; none where the image is no larger than one.
        min_visible: objects of which a smaller share of the area shows in a tile are not in it.
    """

    def __init__(
        self,
        images: DetectionDataset | SemanticDataset,
        windows: Sequence[Sequence[tuple[int, int, int, int]]],
        min_visible: float,
    ) -> None:
        assert len(images) == len(windows)
        whole = isinstance(images, DetectionDataset)
        views = [(*of, _WHOLE) if whole or not of else tuple(of) for of in windows]
        self.images = images
        self.min_visible = min_visible
        self._windows = np.array([view for of in views for view in of], np.int32)
        self._image = np.repeat(np.arange(len(views)), [len(of) for of in views])

    def __len__(self) -> int:
        return len(self._image)

    @property
    def classes(self) -> ClassTable:
        return self.images.classes

    @property
    def is_cached(self) -> bool:
        return self.images.is_cached

    @property
    def cache_words(self) -> str:
        tiles = self._windows.any(1)
        large = len(np.unique(self._image[tiles]))
        return f"{self.images.cache_words}; {counted(int(tiles.sum()), 'tile')} of {counted(large, 'large image')}"

    def path(self, index: int) -> Path:
        """Where the image lies that sample `index` is of."""
        return self.images.path(int(self._image[index]))

    def whole(self, image: int) -> int:
        """The sample that is all of an image, the last of those that are of it."""
        return int(np.searchsorted(self._image, image, side="right")) - 1

    def read(self, index: int) -> Sample:
        """Tile or image `index` and its objects, in its own pixels. Raises as the dataset that is cut."""
        sample = self.images.read(int(self._image[index]))
        window = Window(*self._windows[index].tolist())
        return sample if window == _WHOLE else cut_out(sample, window, self.min_visible)


def cut_out(sample: Sample, window: Window, min_visible: float) -> Sample:
    """A window of a sample as a sample; pixels and map are views.

    Args:
        min_visible: objects of which a smaller share of the area shows are left out; ignored regions stay while any
            of them shows.
    """
    left, top, right, bottom = window
    part = slice(top, bottom), slice(left, right)
    corner = np.array([left, top], np.float32)
    cut = replace(
        sample.redrawn(sample.image[part], sample.boxes - np.tile(corner, 2)),
        semantic=None if sample.semantic is None else sample.semantic[part],
        outlines=None if sample.outlines is None else sample.outlines.moved(np.ones(2, np.float32), -corner),
        proposals=None if sample.proposals is None else sample.proposals - np.tile(corner, 2),
    )
    return with_visible_objects(cut, min_visible, min_side=0)
