"""Small images first: how large the network's square is in each epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STRIDE = 32
"""Sizes are multiples of this many pixels, the coarsest stride of the models."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Squares that grow evenly from a share of the full side to all of it.

    An epoch at half the side takes a quarter of the time and teaches most of what a young network can learn.
    Source: Tan and Le 2021, EfficientNetV2, section 4, progressive learning; here augmentation stays the same.

    Args:
        start: share of the full side in the first epoch, in (0, 1].
        epochs: from this one on, counted from 0, squares have the full side.

    >>> [Growth(start=0.5, epochs=10).size(320, epoch) for epoch in (0, 2, 5, 9, 10, 99)]
    [160, 192, 256, 320, 320, 320]
    """

    start: float = 1.0
    epochs: int = 0

    def size(self, full: int, epoch: int) -> int:
        """Side in pixels, a multiple of `STRIDE`, at most `full`."""
        return int(self.sizes(full, np.array([epoch]))[0])

    def sizes(self, full: int, epochs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sides in several epochs, [N] -> [N]."""
        share = self.start + (1 - self.start) * epochs / max(1, self.epochs)
        grown = STRIDE * np.floor(full * share / STRIDE + 0.5)
        return np.where(epochs < self.epochs, np.clip(grown, min(STRIDE, full), full), full).astype(np.int64)


NO_GROWTH = Growth()
"""The full side from the first epoch on."""
