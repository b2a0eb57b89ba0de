"""`visionkit classify`: `detect` under the name that people with a classifier look for."""

from __future__ import annotations

import functools
from typing import Any

from visionkit.cli.detect import detect, named_sources
from visionkit.cli.loaded import require_other_than_bundled


# Its options are those of detect; name and words are its own.
@functools.wraps(detect, assigned=("__annotations__",))
def classify(**options: Any) -> None:
    """Say what class pictures are of: the same command as detect, the weights decide what is done.

    --weights must be given: the bundled model is a detector.

    A line an image with its best class, and a row for each further one that scores at least --conf. Files of results
    are json and csv.

    Example: [bold]visionkit classify cells/*.png --weights runs/finetune/cells-1/best.safetensors --conf 0.1[/bold]
    """
    weights = options.get("weights", "default")
    require_other_than_bundled(
        weights, "classify", "classifier", "which visionkit finetune --model classifier makes of your pictures"
    )
    named_sources("classify", options.get("source"), options.get("source_"))
    detect(**options)
