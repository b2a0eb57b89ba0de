"""The learning-rate range test: how the loss answers while the rate rises from step to step.

Source: Smith 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3; here the rate rises by the same
factor each step.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from visionkit.engine.checkpoint import write_atomically
from visionkit.engine.events import Event, StepDone
from visionkit.engine.optim import Optimizer
from visionkit.engine.settings import TrainSettings
from visionkit.engine.train import TrainingBatches, TrainingState, train
from visionkit.types import Batch

STEPS = 100
LOWEST, HIGHEST = 1e-6, 1.0

MEMORY = 0.9
"""What the smoothed loss keeps of itself from step to step."""

LOST = 4
"""So many times the least smoothed loss is beyond all doubt."""

MARGIN = 10
"""The rate at which the loss is least is about to be too high: a schedule begins at a part of it."""


@dataclass(frozen=True, slots=True)
class RateRange:
    """What was found.

    Args:
        rates: learning rates, ascending.
        losses: the smoothed loss with which each was reached.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def suggestion(self) -> float:
        """A highest learning rate for a run.

        >>> RateRange((1e-4, 1e-3, 1e-2, 1e-1), (2.0, 1.5, 1.0, 9.0)).suggestion
        0.001
        """
        best = min(range(len(self.losses)), key=self.losses.__getitem__)
        return float(f"{self.rates[best] / MARGIN:.2g}")


class _EnoughError(Exception):
    """Ends the test from within the loop."""


def rate_range(
    state: TrainingState, batches: TrainingBatches, settings: TrainSettings, *, device: torch.device
) -> RateRange:
    """Train for up to `STEPS` steps at rising rates, as far as the loss stands it.

    Args:
        state: of a model that is not needed afterwards.
    """
    factor = (HIGHEST / LOWEST) ** (1 / (STEPS - 1))
    rates: list[float] = []
    losses: list[float] = []
    mean, weight = 0.0, 0.0

    def rise(optimizer: Optimizer, *_: Any) -> None:
        rate = LOWEST * factor ** len(rates)
        rates.append(rate)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_factor", 1.0)

    def listen(event: Event) -> None:
        nonlocal mean, weight
        if not isinstance(event, StepDone):
            return
        total = sum(event.losses.values())
        if not math.isfinite(total):
            raise _EnoughError
        mean, weight = MEMORY * mean + (1 - MEMORY) * total, MEMORY * weight + (1 - MEMORY)
        losses.append(mean / weight)  # without the weight the first steps would count as losses of 0
        if len(losses) > STEPS or losses[-1] > LOST * min(losses):
            raise _EnoughError

    hook = state.optimizer.register_step_pre_hook(rise)
    quiet = {"epochs": 1, "accumulate": 1, "save_minutes": 1e9}
    try:
        train(
            state,
            _LongEpoch(batches),
            settings.model_copy(update=quiet),
            device=device,
            evaluate=_never,
            save_state=lambda state: None,
            save_epoch=_never,
            listen=listen,
        )
    except _EnoughError:
        pass
    finally:
        hook.remove()
    # The first loss was there before the first step; each later one answers to the rate before it.
    count = min(len(rates), len(losses) - 1)
    return RateRange(tuple(rates[:count]), tuple(losses[1 : count + 1]))


@dataclass(frozen=True, slots=True)
class _LongEpoch:
    """The batches of several epochs as those of one, more than the test takes."""

    batches: TrainingBatches
    batches_per_epoch: int = STEPS + 2

    def start(self, epoch: int, batch: int) -> Iterator[Batch]:
        yield from self.batches.start(epoch, batch)


def _never(*_: Any) -> NoReturn:
    raise AssertionError("the test ends before its epoch does")


def draw_rate_range(path: Path, found: RateRange) -> None:
    """The smoothed loss against the rate, and where the suggestion lies, as a PNG."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(found.rates, found.losses)
    axes.axvline(found.suggestion, color="grey", linestyle="--", label=f"suggestion {found.suggestion:g}")
    # Where it explodes is known by then; the part before it is what one looks at.
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed", ylim=(None, 1.5 * found.losses[0]))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())
