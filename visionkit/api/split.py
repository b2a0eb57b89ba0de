"""A dataset divided into train, val and test: like shares of every class, no group of images parted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from visionkit.api.convert import Written, read_contents, write_contents
from visionkit.counted import counted
from visionkit.errors import DataError, UsageError
from visionkit.formats.dataset_formats import format_of
from visionkit.formats.layout import find_layout
from visionkit.formats.new_dataset import Contents
from visionkit.formats.records import AnnotatedImages, ImageRecord
from visionkit.formats.stratification import checked_shares, stratified_parts

_COLUMN = re.compile(r"\w+(\.\w+)*")


def split(
    data: str | Path,
    out: str | Path,
    *,
    val: float = 0.2,
    test: float = 0.0,
    group: str | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Written:
    """Write a dataset in its own format with new splits; the dataset itself is only read.

    All images are divided, whatever splits they were in, by iterative stratification on their objects (Sechidis et al.
    2011). It depends on the images, their objects and the seed alone, not on the order of files. Ids stay as they are;
    where images of two splits share one, those of the later split are numbered anew, which is said.

    Args:
        data: dataset folder or YAML file, in any format with boxes or outlines of objects.
        out: the new folder.
        val, test: their shares of the images; 0 for none.
        group: images of one group all go to one split. A column of the images of a COCO file, such as `patient` or
            `extra.patient`; anything else is a regular expression that is searched for in each file_name, whose first
            group in brackets, or whole match, names the group: `"^(\\w+)_"`.
        seed: decides between groups that are alike.
        skip_bad: leave items in error out, by name, instead of refusing the dataset.

    Raises:
        UsageError: `out` exists, a share out of range, a broken regular expression.
        DataError: as `convert`; an image without a group; fewer groups than splits.
        VisionkitError: it cannot be written. Nothing is left of `out` then.
    """
    shares = checked_shares(val, test)
    pattern = _pattern(group)
    layout = find_layout(Path(data))
    to = format_of(layout)
    contents = read_contents(layout, skip_bad=skip_bad, say=say)
    whole = _pooled(contents, say)
    groups = _groups(whole, group, pattern)
    if group is not None:
        say(f"{counted(len(set(groups)), 'group')} of images by {'column' if pattern is None else 'file_name'} {group}")
    counts = np.zeros((len(whole.images), len(whole.classes)), np.int64)
    for row, image in zip(counts, whole.images, strict=True):
        for annotation in image.annotations:
            row[whole.classes.label(annotation.category_id)] += not annotation.iscrowd
    parts = stratified_parts(counts, groups, shares, seed)
    splits = {
        name: replace(
            whole, images=tuple(i for i, part in zip(whole.images, parts, strict=True) if part == name), left_out=()
        )
        for name in shares
    }
    first, about = next(iter(contents.about.items()))
    if any(other != about for other in contents.about.values()):
        say(f"Further keys of the files, such as info, differ between the splits: those of {first} are written")
    written = write_contents(layout, Contents(splits, dict.fromkeys(shares, about)), Path(out), to)
    return replace(written, left_out=whole.left_out)


def _pattern(group: str | None) -> re.Pattern[str] | None:
    """The regular expression that a key is; None where it names a column, or there is no key."""
    if group is None or _COLUMN.fullmatch(group):
        return None
    try:
        return re.compile(group)
    except re.error as error:
        raise UsageError(
            f"--group {group!r} is neither a column nor a regular expression ({error}); correct it"
        ) from error


def _pooled(contents: Contents, say: Callable[[str], None]) -> AnnotatedImages:
    """The images of all splits, with ids that are all different."""
    splits = list(contents.splits.values())
    if len(splits) > 1:
        say(f"{', '.join(contents.splits)} are put together and divided anew")
    every = [image for images in splits for image in images.images]
    free_image = max(image.id for image in every) + 1
    free_object = max((a.id for image in every for a in image.annotations), default=0) + 1
    seen_images: set[int] = set()
    seen_objects: set[int] = set()
    pooled: list[ImageRecord] = []
    renumbered: Counter[str] = Counter()
    for image in every:
        image_id = image.id
        if image_id in seen_images:
            image_id, free_image = free_image, free_image + 1
            renumbered["image"] += 1
        seen_images.add(image_id)
        objects = []
        for annotation in image.annotations:
            object_id = annotation.id
            if object_id in seen_objects:
                object_id, free_object = free_object, free_object + 1
                renumbered["object"] += 1
            seen_objects.add(object_id)
            objects.append(replace(annotation, id=object_id))
        pooled.append(replace(image, id=image_id, annotations=tuple(objects)))
    for what, number in renumbered.items():
        many = "has" if number == 1 else "have"
        say(f"{counted(number, what)} {many} an id of another split, numbered anew")
    left_out = tuple(chain.from_iterable(images.left_out for images in splits))
    return replace(splits[0], images=tuple(pooled), left_out=left_out)


def _groups(whole: AnnotatedImages, key: str | None, pattern: re.Pattern[str] | None) -> list[Hashable]:
    """What group each image is of; without a key each image is its own."""
    if key is None:
        return [image.id for image in whole.images]
    groups = [_column(image, key) if pattern is None else _match(image, pattern) for image in whole.images]
    without = [image for image, group in zip(whole.images, groups, strict=True) if group is None]
    if without:
        more = f" (and {len(without) - 1} more like it)" if len(without) > 1 else ""
        fact = f"has no column {key}" if pattern is None else f"has nothing that --group {key!r} matches"
        raise DataError(
            f"{whole.source}: image {without[0].id} ({without[0].file_name!r}) {fact}{more}, every image must be of a "
            "group; correct the key"
        )
    return list(groups)


def _column(image: ImageRecord, key: str) -> str | None:
    """The value of a column as text; of `a.b` the value b of the object a."""
    value: Any = {"id": image.id, "file_name": image.file_name, "width": image.width, "height": image.height}
    value |= image.extra or {}
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return str(value) if isinstance(value, str | int | float) else None


def _match(image: ImageRecord, pattern: re.Pattern[str]) -> str | None:
    found = pattern.search(image.file_name)
    return None if found is None else found.group(1 if pattern.groups else 0)
