"""What a study does once: ask for the advice on a target, or train a strategy on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rows import Row

import visionkit

STRATEGIES = ("head", "freeze", "full", "scratch")


def advice_row(target: str, folder: str, *, set: Sequence[str], **flags: Any) -> Row:
    """The advice for a target with its measurements. Settings of the trials (`set`) do not reach it."""
    advised = visionkit.advise(folder, say=_say, **flags)
    return {"kind": "advice", "target": target, "weights": flags["weights"], **advised.to_json()}


def trial_row(row: Row, folder: str, out: Path, *, weights: str, **settings: Any) -> Row:
    """A row with what training came to.

    Args:
        row: target, strategy, freeze, seed and minutes of the trial.
        out: folder of the run.
    """
    began = time.monotonic()
    result = visionkit.finetune(
        folder,
        strategy=row["strategy"],
        freeze=row["freeze"] or (),
        minutes=row["minutes"],
        seed=row["seed"],
        out=out,
        say=_say,
        **({} if row["strategy"] == "scratch" else {"weights": weights}),
        **settings,
    )
    assert result is not None
    metric, score = next(iter(result.scores.items()))
    return row | {
        "metric": metric,
        "score": score,
        "scores": result.scores,
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "seconds": round(time.monotonic() - began, 1),
        "version": visionkit.__version__,
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
