"""How good proposals are: how well the best of them lies on each object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def best_overlaps(proposals: NDArray[np.floating], objects: NDArray[np.floating]) -> NDArray[np.float64]:
    """The IoU of each object with the proposal that overlaps it most, f64 [G]; 0 where there is no proposal.

    Its mean is the "average best overlap" of Uijlings et al. 2013, equation 7, and the share of objects that it is
    at least 0.5 of, the recall.

    Args:
        proposals: [N, 4] x1 y1 x2 y2.
        objects: [G, 4] likewise.

    >>> best_overlaps(np.array([[0.0, 0, 2, 2], [8, 8, 9, 9]]), np.array([[1.0, 0, 3, 2]])).tolist()  # 2 / (4 + 4 - 2)
    [0.3333333333333333]
    """
    a, b = np.asarray(objects, np.float64)[:, None], np.asarray(proposals, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    either = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - shared
    found: NDArray[np.float64] = (shared / np.maximum(either, 1e-12)).max(axis=1, initial=0.0)
    return found
