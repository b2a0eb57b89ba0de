"""What happens during training, told to whoever listens: progress bars, logs, reports. The engine prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

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
class Saved:
    """A file was written."""

    path: Path


@dataclass(frozen=True, slots=True)
class Stopped:
    """Training ended before its last epoch: `patience` evaluations passed without a better `metric`."""

    epoch: int
    best_epoch: int
    metric: str = "AP"


Event = DownloadProgress | StepDone | EvaluationProgress | EpochDone | Saved | Stopped
Listener = Callable[[Event], None]
