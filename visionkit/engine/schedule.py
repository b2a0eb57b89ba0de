"""The learning rate as a function of progress, and of nothing else: a resumed run needs no scheduler state."""

from __future__ import annotations

import math


def cosine_with_warmup(step: int, *, total: int, warmup: int, final: float) -> float:
    """The share of the highest learning rate at a step: linear up over `warmup` steps, then a cosine down to `final`.

    Source: Loshchilov and Hutter 2017, SGDR, equation 5, without restarts; warm-up from Goyal et al. 2017, section 2.2.

    >>> [round(cosine_with_warmup(s, total=10, warmup=2, final=0.0), 3) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2
