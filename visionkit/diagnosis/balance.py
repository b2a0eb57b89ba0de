"""A dataset as a whole: its classes, how many objects they have, how large those are; and whether its splits agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
    their image is scaled to `image_size` pixels."""
    findings = []
    counts = {split: _objects_of_classes(images) for split, images in splits.items()}
    train = counts.get("train") or Counter[str]()
    for name in sorted({name for images in splits.values() for name in images.classes.names}):
        for split, of_class in counts.items():
            if not of_class[name] and any(other[name] for other in counts.values()):
                fact = f"has no object in {split}, {max(other[name] for other in counts.values())} elsewhere"
                findings.append(Finding("VK502", source, f"class {name}", fact))
        if 0 < train[name] < FEW_OBJECTS:
            findings.append(Finding("VK501", source, f"class {name}", f"has {_counted(train[name])} in train"))
    most, least = max(train.values(), default=0), min((n for n in train.values() if n), default=0)
    if least and most / least >= UNBALANCED:
        names = {count: name for name, count in train.items()}
        fact = f"has {most} objects in train, {names[least]} has {least}"
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
    return Counter(names[annotation.category_id] for annotation in objects)


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


def _counted(objects: int) -> str:
    return "1 object" if objects == 1 else f"{objects} objects"
