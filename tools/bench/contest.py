"""Contestants that are commands, run in turns: A B A B, so that what a machine does meanwhile falls on all of them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from task import PREFIX, Task


class BenchError(Exception):
    """A contestant did not do what it was asked to; one line."""


@dataclass(frozen=True)
class Contestant:
    """A shell command that reads its task from `VISIONKIT_BENCH_*` and prints one JSON object as its last line."""

    name: str
    command: str

    @classmethod
    def parse(cls, text: str) -> Contestant:
        """`NAME=COMMAND`.

        Raises:
            BenchError: there is no name or no command.
        """
        name, equals, command = text.partition("=")
        if not equals or not name.strip() or not command.strip():
            raise BenchError(f"a peer is NAME=COMMAND, got {text!r}; for example --peer 'torchvision=python peer.py'")
        return cls(name.strip(), command.strip())

    def run(self, task: Task, keys: Sequence[str]) -> dict[str, Any]:
        """The object that the command printed, with at least `keys`, each of them a number.

        Raises:
            BenchError: it failed, or its last line is no such object.
        """
        theirs = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX) and k != "OMP_NUM_THREADS"}
        done = subprocess.run(
            self.command, shell=True, env=theirs | task.environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "it printed nothing").splitlines()[-1]
            raise BenchError(f"{self.name} failed with exit code {done.returncode}: {last}")
        lines = done.stdout.strip().splitlines()
        try:
            said = json.loads(lines[-1])
        except (IndexError, ValueError):
            said = None
        if not isinstance(said, dict) or not all(isinstance(said.get(key), int | float) for key in keys):
            shown = ", ".join(f'"{key}": NUMBER' for key in keys)
            raise BenchError(
                f"{self.name} must print {{{shown}}} as its last line, got {lines[-1] if lines else 'nothing'!r}"
            )
        return said


@dataclass(frozen=True)
class Turn:
    """What one contestant said in one round. `threads` is 0 where it had its own default."""

    round: int
    name: str
    threads: int
    said: dict[str, Any]


def hold(
    contestants: Sequence[Contestant],
    tasks: Sequence[Task],
    threads: Sequence[int],
    keys: Sequence[str],
    tell: Callable[[Turn], None] = lambda turn: None,
) -> list[Turn]:
    """Every contestant does every task at every number of threads; one task is one round.

    Args:
        keys: numbers that each must give.
        tell: told of each turn as it ends.
    """
    turns = []
    for number, task in enumerate(tasks):
        for count in threads:
            for contestant in contestants:
                said = contestant.run(replace(task, threads=count), keys)
                turns.append(Turn(number, contestant.name, count, said))
                tell(turns[-1])
    return turns


def own(script: str, *arguments: str) -> str:
    """The command that runs one of the scripts beside this file with this Python."""
    return shlex.join([sys.executable, str(Path(__file__).with_name(script)), *arguments])
