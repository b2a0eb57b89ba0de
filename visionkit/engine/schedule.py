"""The learning rate as a function of progress, and of nothing else: a resumed run needs no scheduler state.

Every schedule gives the share of the highest learning rate at a step: up over `warmup` steps, then down to `final`, or
as its name says. Warm-up, linear, is from Goyal et al. 2017, Accurate, Large Minibatch SGD, section 2.2.
"""

from __future__ import annotations

import math
from typing import Protocol

STEPS_AT = (1 / 2, 3 / 4)
"""Where the steps of `step` are, as shares of the run: He et al. 2015, Deep Residual Learning, section 4.2."""

ONE_CYCLE_START = 1 / 25
ONE_CYCLE_RISE = 0.3


class Schedule(Protocol):
    def __call__(self, step: int, *, total: int, warmup: int, final: float) -> float:
        """The share of the highest learning rate at a step, from 0.

        Args:
            total: steps of the whole run.
            warmup: steps until the learning rate is highest.
            final: the share at the end.
        """
        ...


def constant_with_warmup(step: int, *, total: int, warmup: int, final: float) -> float:
    """Up in a line, then 1 to the end, whatever `final`."""
    return (step + 1) / warmup if step < warmup else 1.0


def step_with_warmup(step: int, *, total: int, warmup: int, final: float) -> float:
    """Up in a line, then 1; down by equal factors after each of `STEPS_AT` of all steps, the last of them to `final`.

    Source: He et al. 2015, Deep Residual Learning, section 4.2, where `final` is 0.01, two steps by ten.

    >>> [round(step_with_warmup(s, total=8, warmup=2, final=0.01), 3) for s in (0, 1, 3, 4, 5, 6, 7)]
    [0.5, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    """
    if step < warmup:
        return (step + 1) / warmup
    passed = sum(step >= share * total for share in STEPS_AT)
    return float(final ** (passed / len(STEPS_AT)))


def cosine_with_warmup(step: int, *, total: int, warmup: int, final: float) -> float:
    """Up in a line over `warmup` steps, then down in a cosine to `final`.

    Source: Loshchilov and Hutter 2017, SGDR, equation 5, without restarts.

    >>> [round(cosine_with_warmup(s, total=10, warmup=2, final=0.0), 3) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def one_cycle(step: int, *, total: int, warmup: int, final: float) -> float:
    """Up from 1/25 over the first 0.3 of all steps, which is its warm-up, whatever `warmup`; then down to `final`.

    Source: Smith and Topin 2018, Super-Convergence, section 3; with cosines for lines, and the momentum stays.

    >>> [round(one_cycle(s, total=20, warmup=0, final=0.0), 3) for s in (0, 3, 6, 13, 20)]
    [0.04, 0.52, 1.0, 0.5, 0.0]
    """
    top = ONE_CYCLE_RISE * total
    if step < top:
        return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * (1 - math.cos(math.pi * step / top)) / 2
    progress = (step - top) / max(1, total - top)
    return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


SCHEDULES: dict[str, Schedule] = {
    "cosine": cosine_with_warmup,
    "constant": constant_with_warmup,
    "step": step_with_warmup,
    "one-cycle": one_cycle,
}
