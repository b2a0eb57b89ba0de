"""The folder of a run: which file lies where, and how each is written."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionkit.data.memory import processes_here
from visionkit.engine.checkpoint import previous_state, write_atomically
from visionkit.errors import UsageError


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one training run, by what they hold."""

    root: Path

    @property
    def best(self) -> Path:
        """The averaged weights of the epoch with the highest validation AP, or other metric of the task."""
        return self.root / "best.safetensors"

    @property
    def last(self) -> Path:
        """The averaged weights of the last completed epoch."""
        return self.root / "last.safetensors"

    @property
    def state(self) -> Path:
        """All that a resumed run needs; the only file it reads."""
        return self.root / "state.pt"

    @property
    def has_state(self) -> bool:
        """Whether there is one to go on with, or the one before it."""
        return self.state.exists() or previous_state(self.state).exists()

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def curves(self) -> Path:
        return self.root / "curves.png"

    @property
    def first_batch(self) -> Path:
        """What the network saw of its first training images, at full size, with their boxes."""
        return self.root / "first_batch.png"

    @property
    def broken_batch(self) -> Path:
        """The batch that training broke at, where it did: see `engine.broken_batch`."""
        return self.root / "broken_batch.safetensors"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's files, where they are asked for."""
        return self.root / "tensorboard"

    @property
    def transfer(self) -> Path:
        """What the run took over from the weights it began with; where it began with any."""
        return self.root / "transfer.json"

    @property
    def report(self) -> Path:
        """The page on what the best weights say of the val split, where it was asked for."""
        return self.root / "report.html"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    @classmethod
    def check_free(cls, root: Path) -> None:
        """Raises UsageError if something is there already: nothing is overwritten."""
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            if cls(root).has_state:
                raise UsageError(f"{root} already holds a run; use --resume {root} to go on, or another --out")
            raise UsageError(f"{root} is not empty and nothing is overwritten; give another --out")

    def write_metrics(self, history: Sequence[dict[str, Any]]) -> None:
        """`metrics.csv` and `metrics.jsonl`, whole, so that a resumed run can never repeat or miss an epoch."""
        lines = "".join(json.dumps(row) + "\n" for row in history)
        write_atomically(self.root / "metrics.jsonl", lines.encode())
        table = io.StringIO()
        columns = list(dict.fromkeys(key for row in history for key in row))
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_atomically(self.root / "metrics.csv", table.getvalue().encode())

    def add_to_log(self, line: str) -> None:
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def resume_flags(root: Path, environment: Mapping[str, str] = os.environ) -> str:
    """What `visionkit finetune` takes to go on with the run in a folder as it is now: in as many processes too, where
    all of them are on this machine.

    Args:
        environment: where torchrun says how many there are.

    >>> resume_flags(Path("run"), {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"})
    '--resume run --processes 2'
    """
    here, everywhere = processes_here(environment), int(environment.get("WORLD_SIZE") or 1)
    return f"--resume {root}" + (f" --processes {here}" if 1 < here == everywhere else "")
