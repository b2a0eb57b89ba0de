"""A new folder for what a command writes, so that nothing is overwritten."""

from __future__ import annotations

from pathlib import Path


def numbered_folder(parent: Path, name: str) -> Path:
    """Make the first of `name-1`, `name-2`, ... under `parent` that is not there yet."""
    number = 1
    while True:
        root = parent / f"{name}-{number}"
        try:
            root.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return root
