"""What the runs of a study came to, and how they scatter."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionkit.api.study_plan import SCHEMA, StudyPlan
from visionkit.api.training_run import FinetuneResult
from visionkit.counted import counted


@dataclass(frozen=True, slots=True)
class StudyRun:
    """What one run of a study came to.

    Args:
        name: of its folder.
        scores: of its best epoch; the first is the metric.
        left_out: items of the data that `skip_bad` left out.
    """

    name: str
    epochs: int
    best_epoch: int
    scores: Mapping[str, float | None]
    left_out: int = 0

    @classmethod
    def of(cls, name: str, result: FinetuneResult) -> StudyRun:
        return cls(name, result.epochs, result.best_epoch, result.scores, result.left_out)


@dataclass(frozen=True, slots=True)
class Spread:
    """How the scores of several runs scatter.

    Args:
        mean: over the runs that have the score.
        deviation: the standard deviation of a run, from their squares by n - 1; None for a single one.
        lowest, highest: of them.
        runs: how many have it.
    """

    mean: float
    deviation: float | None
    lowest: float
    highest: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        """None where no run has the score.

        >>> Spread.of([0.25, None, 0.75])  # the mean is 0.5, the squares 2 * 0.25**2 by 2 - 1 are 0.125
        Spread(mean=0.5, deviation=0.3535533905932738, lowest=0.25, highest=0.75, runs=2)
        """
        known = [value for value in values if value is not None]
        if not known:
            return None
        deviation = statistics.stdev(known) if len(known) > 1 else None
        return cls(statistics.fmean(known), deviation, min(known), max(known), len(known))


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What a study came to.

    Args:
        folder: of the study.
        runs: those that are done, in order.
    """

    folder: Path
    plan: StudyPlan
    runs: tuple[StudyRun, ...]

    @property
    def metric(self) -> str:
        """What the runs are judged by, such as AP."""
        return next(iter(self.runs[0].scores))

    @property
    def left_out(self) -> int:
        """Items of the data that `skip_bad` left out; every run reads the same data."""
        return max((run.left_out for run in self.runs), default=0)

    def spreads(self) -> dict[str, Spread | None]:
        """Of each score."""
        return {name: Spread.of([run.scores[name] for run in self.runs]) for name in self.runs[0].scores}

    def lines(self) -> list[str]:
        """A line for each run, and the mean and how they scatter."""
        width, metric = max(len(run.name) for run in self.runs), self.metric
        lines = [
            f"{run.name:<{width}}  {_scores_in_words(run.scores)}  {_best(run)}  {self.folder / run.name}"
            for run in self.runs
        ]
        spread = self.spreads()[metric]
        one = self.plan.kind.removesuffix("s")
        if spread is None:
            return [*lines, f"{metric} is not defined in any of {counted(len(self.runs), one)}"]
        over = f"mean of {counted(spread.runs, one)}"
        if spread.runs < len(self.runs):
            over += f", not defined in {len(self.runs) - spread.runs} more"
        if spread.deviation is None:
            return [*lines, f"{metric} {spread.mean:.4f}, {over}"]
        return [
            *lines,
            f"{metric} {spread.mean:.4f}, {over}; standard deviation {spread.deviation:.4f}, from {spread.lowest:.4f} "
            f"to {spread.highest:.4f}",
        ]

    def to_json(self) -> dict[str, Any]:
        """What `folds.json` or `seeds.json` holds."""
        spreads = self.spreads()
        main = spreads[self.metric]
        return {
            "schema": SCHEMA,
            self.plan.kind: self.plan.count,
            "seed": self.plan.seed,
            "metric": self.metric,
            "mean": main and main.mean,
            "standard_deviation": main and main.deviation,
            "scores": {name: spread and asdict(spread) for name, spread in spreads.items()},
            "runs": [asdict(run) for run in self.runs],
        }


def _scores_in_words(scores: Mapping[str, float | None]) -> str:
    return "  ".join(f"{name} {'n/a' if value is None else f'{value:.4f}'}" for name, value in [*scores.items()][:2])


def _best(run: StudyRun) -> str:
    return f"best epoch {run.best_epoch} of {run.epochs}" if run.epochs else "fitted"
