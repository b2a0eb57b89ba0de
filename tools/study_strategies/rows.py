"""The rows of a study, one JSON object a line, written so that a killed study goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from visionkit.errors import VisionkitError

Row = dict[str, Any]

KEY = ("kind", "target", "strategy", "freeze", "seed", "minutes", "weights")
"""What makes two rows the same trial; of an advice, kind and target."""


def key_of(row: Row) -> tuple[Any, ...]:
    """The same for rows of the same trial."""
    names = KEY if row["kind"] == "trial" else KEY[:2]
    return tuple(row.get(name) for name in names)


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
