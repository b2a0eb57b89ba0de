"""A model and its graph as backends that look at the same letterboxed images one after the other, and are compared."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.exporting.parity import Parity
from visionkit.predict.backend import Backend, Raw, RawMap

MOST_MAPS = 16
"""Maps of a model that are kept until its graph has looked: one takes megabytes, and a large image has many tiles."""


class _Passing:
    """A backend that passes on what another says of images, and nothing of what its scores are worth.

    Args:
        frame_multiple: as `Snug` has it; of both that are compared the same.
    """

    def __init__(self, backend: Backend, frame_multiple: int | None = None) -> None:
        self.backend = backend
        self.frame_multiple = frame_multiple

    @property
    def name(self) -> str:
        return self.backend.name

    @property
    def sha256(self) -> str:
        return self.backend.sha256

    @property
    def classes(self) -> ClassTable:
        return self.backend.classes

    @property
    def image_size(self) -> int:
        return self.backend.image_size


class Heard(_Passing):
    """A model whose answers are kept, look by look, until they are compared."""

    def __init__(self, backend: Backend, frame_multiple: int | None = None) -> None:
        super().__init__(backend, frame_multiple)
        self._said: deque[Sequence[Raw] | None] = deque()
        self._maps = 0

    def run(self, images: NDArray[np.uint8], *, score: float, iou: float | None, max_det: int) -> Sequence[Raw]:
        """As the model's own."""
        said = self.backend.run(images, score=score, iou=iou, max_det=max_det)
        maps = sum(isinstance(raw, RawMap) for raw in said)
        kept = self._maps + maps <= MOST_MAPS
        self._maps += maps * kept
        self._said.append(said if kept else None)
        return said

    def again(self, images: NDArray[np.uint8], *, score: float, iou: float | None, max_det: int) -> Sequence[Raw]:
        """What it said at the first look that was not yet asked for again; where that was not kept, or it has not
        looked, it looks now."""
        said = self._said.popleft() if self._said else None
        if said is None:
            return self.backend.run(images, score=score, iou=iou, max_det=max_det)
        self._maps -= sum(isinstance(raw, RawMap) for raw in said)
        return said


class Compared(_Passing):
    """A graph whose answers are compared with those of its model, which looked at the same images in the same order, or
    not yet."""

    def __init__(self, backend: Backend, model: Heard, parity: Parity) -> None:
        super().__init__(backend, model.frame_multiple)
        self.model = model
        self.parity = parity

    def run(self, images: NDArray[np.uint8], *, score: float, iou: float | None, max_det: int) -> Sequence[Raw]:
        """As the graph's own."""
        said = self.backend.run(images, score=score, iou=iou, max_det=max_det)
        self.parity.add(self.model.again(images, score=score, iou=iou, max_det=max_det), said)
        return said
