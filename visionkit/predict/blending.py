"""The scores of overlapping tiles, put together to one map without seams, while the tiles come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from visionkit.predict.maps import Labels, Scores, best_labels

Cut = tuple[int, int]
"""What a tile covers of an axis: its first pixel and the one behind its last."""


def blend_weights(cuts: Sequence[Cut]) -> list[NDArray[np.float32]]:
    """How much each tile along an axis counts at each of its pixels; what all tiles count at a pixel is 1.

    A tile counts in proportion to the square of a sine, which is 0 at its two ends and 1 in its middle. So what it says
    comes in and goes out without a step, and where it knows least of the surroundings, at its ends, others are heard;
    but where it is the only one, as at the image's border, it counts 1 however near its end is.

    >>> [weights.astype(float).round(2).tolist() for weights in blend_weights([(0, 4), (2, 6)])]
    [[1.0, 1.0, 0.85, 0.15], [0.15, 0.85, 1.0, 1.0]]
    """
    total = np.zeros(cuts[-1][1])
    waves = []
    for start, stop in cuts:
        wave = np.sin(np.pi * (np.arange(stop - start) + 0.5) / (stop - start)) ** 2
        total[start:stop] += wave
        waves.append(wave)
    return [(wave / total[start:stop]).astype(np.float32) for wave, (start, stop) in zip(waves, cuts, strict=True)]


def blended_labels(tiles: Iterable[Scores], rows: Sequence[Cut], columns: Sequence[Cut]) -> Labels:
    """A map u8 [H, W] of the scores of tiles: of each pixel the class whose scores, weighted over the tiles that show
    it, are the highest.

    A tile's pixels are decided as soon as no later tile shows them. Until then their sums wait: beside the tile, what
    the next one of its row shows too, and below it, over the whole width, what the next row shows too.

    Args:
        tiles: f32 [K, h, w] of each, before the softmax, row by row; what they hold is overwritten.
        rows, columns: what the tiles of a column, and of a row, cover; each tile begins behind the one before it, and
            all have one size.
    """
    height, width = rows[-1][1], columns[-1][1]
    labels = np.empty((height, width), np.uint8)
    down, across = blend_weights(rows), blend_weights(columns)
    # Where the next tile begins; behind the last one the image ends.
    tops, lefts = [*(start for start, _ in rows[1:]), height], [*(start for start, _ in columns[1:]), width]
    deepest = max(stop - following for (_, stop), following in zip(rows, tops, strict=True))
    below: Scores | None = None
    coming = iter(tiles)
    for (top, bottom), next_top, high in zip(rows, tops, down, strict=True):
        decided = next_top - top
        beside: Scores | None = None
        for (left, right), next_left, wide in zip(columns, lefts, across, strict=True):
            tile = next(coming)
            assert tile.shape[1:] == (bottom - top, right - left)
            tile *= high[:, None] * wide
            if beside is not None:
                tile[:, :, : beside.shape[2]] += beside
            done, beside = tile[:, :, : next_left - left], tile[:, :, next_left - left :]
            if below is None:
                below = np.zeros((len(tile), deepest, width), np.float32)
            waiting = below[:, :, left:next_left]
            done[:, :deepest] += waiting
            labels[top:next_top, left:next_left] = best_labels(done[:, :decided])
            waiting[:, : bottom - next_top] = done[:, decided:]
            waiting[:, bottom - next_top :] = 0
    return labels
