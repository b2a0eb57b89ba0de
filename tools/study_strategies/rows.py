"""The rows of a study, one JSON object a line, written so that a killed study goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from visionkit.errors import VisionkitError

Row = dict[str, Any]

ADVICE_KEY = ("kind", "target")
"""What makes two rows the same advice."""

TRIAL_KEY = (*ADVICE_KEY, "strategy", "freeze", "seed")
"""What makes two rows the same trial, made in the same way."""


def key_of(row: Row) -> tuple[Any, ...]:
    """The same for rows of the same trial, or of the same advice."""
    if row["kind"] != "trial":
        return tuple(row[name] for name in ADVICE_KEY)
    return (*(row[name] for name in TRIAL_KEY), way_of(row))


def way_of(row: Row) -> tuple[Any, ...]:
    """How a trial was made: for how long, from which weights, with which settings. These come in any order, and of two
    of one name the last counts; rows from before they were written down are as those without any."""
    settings = dict(entry.partition("=")[::2] for entry in row.get("set", ()))
    return row["minutes"], row["weights"], *sorted(settings.items())


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, none where it is not there. A last line that was cut off is no row.

    Raises:
        VisionkitError: another line is not a row.
    """
    if not path.exists():
        return []
    *lines, _cut_off = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise VisionkitError(f"{path}, line {number}: not JSON; take the line out") from None
    return rows


def add_row(path: Path, row: Row) -> None:
    """Write a row behind the others, and see it to the disk."""
    before = path.read_bytes() if path.exists() else b""
    if not before.endswith(b"\n"):
        path.write_bytes(before[: before.rfind(b"\n") + 1])
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
