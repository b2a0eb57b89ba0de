"""Who takes part in a benchmark, at which numbers of threads, and what all of them said."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from contest import BenchError, Contestant, Turn, hold
from task import Task


def compete(
    first: Sequence[Contestant], given: argparse.Namespace, threads: Sequence[int], keys: Sequence[str]
) -> list[Turn]:
    """Everybody's turns, told on stderr as they end.

    Args:
        first: visionkit's contestants and those of this folder; those that the command line names follow.
        threads: CPU threads of a turn; 0 leaves each its own number.
        keys: numbers that each must give.

    Raises:
        BenchError: a contestant did not do what it was asked to.
    """
    task = Task(data=given.data, imgsz=given.imgsz, batch=given.batch)
    if given.command == "accuracy":
        tasks = [replace(task, minutes=given.minutes, seed=seed) for seed in seeds(given)]
    else:
        tasks = [replace(task, steps=given.steps)] * given.rounds

    def tell(turn: Turn) -> None:
        shown = "  ".join(f"{k} {v:.4g}" for k, v in turn.said.items() if isinstance(v, int | float))
        print(f"round {turn.round + 1}  {turn.name}  threads {turn.threads or 'default'}  {shown}", file=sys.stderr)

    return hold([*first, *map(Contestant.parse, given.peer)], tasks, threads, keys, tell)


def modes(given: argparse.Namespace) -> list[int]:
    """Numbers of threads, 0 for each contestant's own."""
    known = {"default": 0, "equal": given.threads}
    asked = list(dict.fromkeys(given.modes.split(",")))
    if not set(asked) <= set(known):
        raise BenchError(f"--modes are default, equal or default,equal, got {given.modes!r}")
    return [known[mode] for mode in asked]


def seeds(given: argparse.Namespace) -> list[int]:
    """One a round."""
    found = numbers(given.seeds, "--seeds")
    if not all(seed >= 0 and seed.is_integer() for seed in found):
        raise BenchError(f"--seeds takes whole numbers of at least 0, got {given.seeds!r}")
    return [int(seed) for seed in found]


def numbers(text: str, option: str) -> list[float]:
    """`0.4,0.5` -> `[0.4, 0.5]`."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise BenchError(f"{option} takes numbers separated by commas, got {text!r}") from None


def said_by_all(turns: Sequence[Turn], keys: Sequence[str]) -> list[str]:
    """Of what contestants may say, what every one of them did in every turn: only that can be compared."""
    return [key for key in keys if all(isinstance(turn.said.get(key), int | float) for turn in turns)]


def as_json(given: argparse.Namespace, turns: Sequence[Turn], **parts: Any) -> str:
    """Everything that was measured, one object; what each said last."""
    said = [{"round": t.round, "name": t.name, "threads": t.threads, **t.said} for t in turns]
    return json.dumps({"benchmark": given.command, "command": shlex.join(sys.argv), **parts, "turns": said})
