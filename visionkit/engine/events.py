"""What happens during training, told to whoever listens: progress bars, logs, reports. The engine prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from visionkit.metrics.task_scores import TaskScores


@dataclass(frozen=True, slots=True)
class StepDone:
    """One forward and backward pass. `losses` are this batch's; epochs count from 1, batches from 1."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    losses: Mapping[str, float]
    lr: float
    images: int


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """Some bytes of a file are here."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class EvaluationProgress:
    """Some images of an evaluation are through."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ImagesDone:
    """Some images of a single pass are through; `what` is done to them in a word, such as `fitting`."""

    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class EpochDone:
    """One epoch. `scores` where it ended in an evaluation; `best` whether they are the best so far. `images_per_second`
    counts the training alone; `elapsed` are all seconds since this process began the run or went on with it."""

    epoch: int
    epochs: int
    losses: Mapping[str, float]
    lr: float
    images_per_second: float
    elapsed: float
    scores: TaskScores | None
    best: bool


@dataclass(frozen=True, slots=True)
class Thawed:
    """Units learn from the beginning of this epoch on, counted from 1; until then they kept their bytes, of which this
    is the SHA-256."""

    epoch: int
    units: tuple[str, ...]
    sha256: str

    def sentence(self) -> str:
        """`Thawed at the beginning of epoch 5: 2 units, unchanged until then: SHA-256 ... before and after`."""
        units = f"{len(self.units)} unit{'s' * (len(self.units) != 1)}"
        return (
            f"Thawed at the beginning of epoch {self.epoch}: {units}, unchanged until then: SHA-256 {self.sha256} "
            "before and after"
        )


@dataclass(frozen=True, slots=True)
class StepSkipped:
    """A step was not taken, because its loss, or its gradient, was not finite; weights are what they were.

    `batch` is the last of the step, counted from 1 as `epoch` is; `in_a_row` counts this one too."""

    epoch: int
    batch: int
    what: Literal["loss", "gradient"]
    in_a_row: int

    def sentence(self) -> str:
        """`Skipped the step at epoch 2, batch 7: its loss is not finite`."""
        return f"Skipped the step at epoch {self.epoch}, batch {self.batch}: its {self.what} is not finite"


@dataclass(frozen=True, slots=True)
class RateFound:
    """A learning rate that suits was found; `picture` draws why."""

    lr: float
    picture: Path


@dataclass(frozen=True, slots=True)
class Saved:
    """A file was written."""

    path: Path


@dataclass(frozen=True, slots=True)
class Stopped:
    """Training ended before its last epoch: `patience` evaluations passed without a better `metric`."""

    epoch: int
    best_epoch: int
    metric: str = "AP"


Event = (
    DownloadProgress
    | StepDone
    | StepSkipped
    | EvaluationProgress
    | ImagesDone
    | EpochDone
    | Thawed
    | RateFound
    | Saved
    | Stopped
)
Listener = Callable[[Event], None]
