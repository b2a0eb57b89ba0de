"""Which dataset a user means by `--data`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from visionkit.data.sample import render_sample
from visionkit.errors import DataError
from visionkit.formats.layout import CocoLayout, find_layout
from visionkit.formats.records import AnnotatedImages

SAMPLES = {"sample": "a", "sample-a": "a", "sample-b": "b"}


def cache_folder() -> Path:
    """Where visionkit keeps what it can make or fetch again; `VISIONKIT_CACHE` moves it."""
    return Path(os.environ.get("VISIONKIT_CACHE", Path.home() / ".cache" / "visionkit"))


def find_dataset(data: str | Path | None, say: Callable[[str], None]) -> CocoLayout:
    """The dataset in a folder; `sample`, `sample-a` or `sample-b` for the rendered ones; or, with None, the dataset in
    the current folder, and where there is none the sample.

    Args:
        say: told in a line what was recognised.

    Raises:
        DataError: no such folder, or nothing in it that visionkit reads.
    """
    if data is None:
        try:
            layout = find_layout(Path.cwd())
        except DataError:
            say("No --data given and no dataset in the current folder: using the built-in sample dataset")
            data = "sample"
        else:
            say(f"Data: {layout.describe()}")
            return layout
    if str(data) in SAMPLES and not Path(data).exists():
        variant = SAMPLES[str(data)]
        root = cache_folder() / f"sample-{variant}"
        layout = find_layout(render_sample(root, variant=variant))  # type: ignore[arg-type]
        say(f"Data: sample {variant.upper()}, rendered by visionkit, in {root}")
        return layout
    layout = find_layout(Path(data))
    say(f"Data: {layout.describe()}")
    return layout


def say_split(name: str, images: AnnotatedImages, say: Callable[[str], None]) -> None:
    """What a split holds, and what was odd in its files."""
    background = sum(not image.annotations for image in images.images)
    crowds = sum(annotation.iscrowd for image in images.images for annotation in image.annotations)
    line = f"{name}: {len(images.images)} images, {images.object_count - crowds} objects"
    line += f", {crowds} crowd regions" if crowds else ""
    line += f", {background} images without objects" if background else ""
    say(line)
    for remark, count in images.remarks.items():
        say(f"{name}: {count} {remark}")
