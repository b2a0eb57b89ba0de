"""`visionkit classify`: `detect` under the name that people with a classifier look for."""

from __future__ import annotations

import functools
from typing import Any

from visionkit.cli.detect import detect


# Its options are those of detect; name and words are its own.
@functools.wraps(detect, assigned=("__annotations__",))
def classify(**options: Any) -> None:
    """Say what class pictures are of: the same command as detect, the weights decide what is done.

    A line an image with its best class, and a row for each further one that scores at least --conf. Files of results
    are json and csv.

    Example: [bold]visionkit classify cells/*.png --weights runs/finetune/cells-1/best.safetensors --conf 0.1[/bold]
    """
    detect(**options)
