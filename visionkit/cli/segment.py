"""`visionkit segment`: `detect` under the name that people with a segmenter look for."""

from __future__ import annotations

import functools
from typing import Any

from visionkit.cli.detect import detect


# Its options are those of detect; name and words are its own.
@functools.wraps(detect, assigned=("__annotations__",))
def segment(**options: Any) -> None:
    """Say what class each pixel of a picture is of: the same command as detect, the weights decide what is done.

    A line an image, and a row for each class with its share of the image. Pictures are overlays with a legend; files of
    results are json and masks: masks/NAME.png with a label a pixel, masks/classes.json, and areas.csv.

    Example: [bold]visionkit segment street/*.jpg --weights runs/finetune/camvid-1/best.safetensors[/bold]
    """
    detect(**options)
