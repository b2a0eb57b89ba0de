"""Which dataset a user means by `--data`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from visionkit.counted import counted
from visionkit.data.sample import render_sample
from visionkit.formats.dataset_layout import DatasetLayout
from visionkit.formats.held_out import with_val
from visionkit.formats.layout import find_layout, layout_in
from visionkit.formats.records import AnnotatedImages
from visionkit.published.cache import cache_folder

SAMPLES = {"sample": "a", "sample-a": "a", "sample-b": "b"}

# A dataset YAML of this name in the current folder is the dataset of whoever works there.
HERE = "visionkit.yaml"


def find_dataset(data: str | Path | None, say: Callable[[str], None], seed: int = 0) -> DatasetLayout:
    """The dataset in a folder, or that a YAML file describes; `sample`, `sample-a` or `sample-b` for the rendered ones;
    or, with None, what `visionkit.yaml` in the current folder describes, else the dataset whose layout that folder has,
    else the sample.

    Where it has train and no val, a fifth of train is held out as val.

    Args:
        say: told in a line what was recognised.
        seed: of the run, which decides what is held out.

    Raises:
        DataError: no such folder, nothing in it that visionkit reads, or a YAML file that is wrong.
    """
    if data is None and Path(HERE).is_file():
        data = HERE
    layout = layout_in(Path.cwd()) if data is None else None
    if data is None and layout is None:
        say(f"No --data given, and no {HERE} and no dataset in the current folder: using the built-in sample dataset")
        data = "sample"
    if str(data) in SAMPLES and not Path(str(data)).exists():
        variant = SAMPLES[str(data)]
        root = cache_folder() / f"sample-{variant}"
        layout = find_layout(render_sample(root, variant=variant))  # type: ignore[arg-type]
        say(f"Data: sample {variant.upper()}, rendered by visionkit, in {root}")
        return layout
    layout = with_val(layout or find_layout(Path(str(data))), seed)
    say(f"Data: {layout.describe()}")
    return layout


def say_split(name: str, images: AnnotatedImages, say: Callable[[str], None]) -> None:
    """What a split holds, and what was odd in its files."""
    masks = any(image.mask is not None for image in images.images)
    background = 0 if masks else sum(not image.annotations for image in images.images)
    crowds = sum(annotation.iscrowd for image in images.images for annotation in image.annotations)
    line = f"{name}: {counted(len(images.images), 'image')}"
    if masks:
        line += " with masks"
    elif not images.whole_images:
        line += f", {counted(images.object_count - crowds, 'object')}"
    line += f", {counted(crowds, 'crowd region')}" if crowds else ""
    line += f", {counted(background, 'image')} without objects" if background else ""
    say(line)
    for remark, count in images.remarks.items():
        say(f"{name}: {count} {remark}")
    if images.left_out:
        say(f"{name}: {counted(len(images.left_out), 'item')} in error left out")
