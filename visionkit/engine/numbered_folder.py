"""A new folder for what a command writes, so that nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

from visionkit.predict.writers import named_errors


def numbered_folder(parent: Path, name: str) -> Path:
    """Make the first of `name-1`, `name-2`, ... under `parent` that is not there yet.

    Raises:
        VisionkitError: nothing can be written there, as where `parent` is a file, or a link to what is not there.
    """
    with named_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            root = parent / f"{name}-{number}"
            try:
                root.mkdir()
            except FileExistsError:
                number += 1
            else:
                return root
