"""A dataset as a whole: its classes, how many objects they have, how large those are; and whether its splits agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visionkit.counted import counted
from visionkit.diagnosis.findings import Examination, Finding
from visionkit.formats.records import AnnotatedImages

FEW_OBJECTS = 10
UNBALANCED = 100.0
TINY_SIDE, TINY_SHARE = 8.0, 0.25


def compare_categories(examinations: Mapping[str, Examination]) -> list[Finding]:
    """Where the categories of COCO splits differ, in id or in name; one finding a category and split."""
    tables = {
        split: {row.get("id"): row.get("name") for row in examination.repaired["categories"]}
        for split, examination in examinations.items()
        if examination.repaired is not None
    }
    findings = []
    splits = list(tables)
    for split in splits[1:]:
        first, here = tables[splits[0]], tables[split]
        for category_id in sorted({*first, *here}, key=str):
            there_name, here_name = first.get(category_id), here.get(category_id)
            if there_name != here_name:
                fact = f"is {_named(here_name)} in {split} and {_named(there_name)} in {splits[0]}"
                findings.append(Finding("VK107", examinations[split].file, f"category {category_id}", fact))
    return findings


def _named(name: Any) -> str:
    return "not listed" if name is None else repr(name)


def weigh_classes(splits: Mapping[str, AnnotatedImages], source: Path, image_size: int) -> list[Finding]:
    """Classes with few objects, or none in a split; unbalanced ones; objects that are tiny where the longer side of
    their image is scaled to `image_size` pixels. Of masks the images that show a class are counted in place of objects,
    and classes are balanced by pixels."""
    findings = _find_near_names(splits, source)
    masks = any(image.mask is not None for images in splits.values() for image in images.images)
    one = "image" if masks else "object"
    counts = {split: _objects_of_classes(images) for split, images in splits.items()}
    train = counts.get("train") or Counter[str]()
    for name in sorted({name for images in splits.values() for name in images.classes.names}):
        for split, of_class in counts.items():
            if not of_class[name] and any(other[name] for other in counts.values()):
                fact = f"has no {one} in {split}, {max(other[name] for other in counts.values())} elsewhere"
                findings.append(Finding("VK502", source, f"class {name}", fact))
        if 0 < train[name] < FEW_OBJECTS:
            findings.append(Finding("VK501", source, f"class {name}", f"has {counted(train[name], one)} in train"))
    amounts = _pixels_of_classes(splits["train"]) if masks and "train" in splits else train
    most, least = max(amounts.values(), default=0), min((n for n in amounts.values() if n), default=0)
    if least and most / least >= UNBALANCED:
        names = {count: name for name, count in amounts.items()}
        fact = f"has {most} {'pixels' if masks else 'objects'} in train, {names[least]} has {least}"
        findings.append(Finding("VK503", source, f"class {names[most]}", fact))
    for split, images in splits.items():
        sides = _scaled_sides(images, image_size)
        tiny = int((sides < TINY_SIDE).sum())
        if len(sides) and tiny / len(sides) >= TINY_SHARE:
            fact = f"{tiny} of {len(sides)} objects have a side below {TINY_SIDE:g} px at {image_size} px"
            findings.append(Finding("VK504", source, split, fact))
    return findings


def _objects_of_classes(images: AnnotatedImages) -> Counter[str]:
    names = dict(zip(images.classes.category_ids, images.classes.names, strict=True))
    objects = (a for image in images.images for a in image.annotations if not a.iscrowd)
    counts = Counter(names[annotation.category_id] for annotation in objects)
    for image in images.images:
        if image.mask is not None:
            counts.update(name for name, n in zip(images.classes.names, image.mask.pixels, strict=True) if n)
    return counts


def _pixels_of_classes(images: AnnotatedImages) -> Counter[str]:
    counts = Counter[str]()
    for image in images.images:
        if image.mask is not None:
            counts.update(dict(zip(images.classes.names, image.mask.pixels, strict=True)))
    return counts


def _find_near_names(splits: Mapping[str, AnnotatedImages], source: Path) -> list[Finding]:
    """Names of classes that differ by case or blanks alone."""
    alike: dict[str, list[str]] = {}
    for name in sorted({name for images in splits.values() for name in images.classes.names}):
        alike.setdefault("".join(name.split()).casefold(), []).append(name)
    return [
        Finding("VK110", source, f"class {other}", f"is named nearly as {names[0]}")
        for names in alike.values()
        for other in names[1:]
    ]


def _scaled_sides(images: AnnotatedImages, image_size: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The shorter side of every object, in pixels of the network's input."""
    return np.array(
        [
            min(annotation.bbox[2:]) * image_size / max(image.width, image.height)
            for image in images.images
            if image.width and image.height
            for annotation in image.annotations
            if not annotation.iscrowd
        ]
    )
