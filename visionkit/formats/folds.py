"""Folds of cross-validation: the images of train and val dealt out anew in parts alike, one of which is val.

Source: Kohavi 1995, A Study of Cross-Validation and Bootstrap for Accuracy Estimation and Model Selection, section 2.2;
stratified, as there, but for images with several objects (`formats.stratification`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import DataError, UsageError
from visionkit.formats.dataset_layout import DatasetLayout, Split
from visionkit.formats.layout import check_same_classes
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.stratification import stratified_parts

POOLED = ("train", "val")
"""A test split is never touched: it stays for the end."""


@dataclass(frozen=True, slots=True)
class Fold:
    """The part of so many that is val, counted from 1.

    >>> Fold.of("2/5"), str(Fold(2, 5))
    (Fold(number=2, count=5), '2/5')
    """

    number: int
    count: int

    @classmethod
    def of(cls, text: str) -> Fold:
        """Raises UsageError: it is not PART/PARTS."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]) or int(found[2]) < 2:
            raise UsageError(f"a fold is PART/PARTS with 2 parts or more, such as 2/5, got {text!r}; correct it")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def with_fold(layout: DatasetLayout, fold: Fold, seed: int) -> DatasetLayout:
    """A layout whose val is one part of the images of train and val together, and whose train is the others. Nothing is
    read yet.

    Args:
        seed: of the run. With it, and the number of parts, the parts are the same whichever of them is val.
    """
    if any(name not in layout.splits for name in POOLED):
        return layout
    pool = _Pool(tuple(layout.splits[name] for name in POOLED), fold.count, seed)
    made: dict[str, Split] = {"train": _Fold(pool, fold, is_val=False), "val": _Fold(pool, fold, is_val=True)}
    words = f"{layout.words}; val is part {fold.number} of {fold.count} of train and val together, by seed {seed}"
    return replace(layout, words=words, splits={**layout.splits, **made})


@dataclass(slots=True)
class _Pool:
    """Splits whose images are read and dealt out once for all parts."""

    splits: tuple[Split, ...]
    parts: int
    seed: int
    known: dict[bool, tuple[AnnotatedImages, list[str]]] = field(default_factory=dict)

    def read(self, skip_bad: bool) -> tuple[AnnotatedImages, list[str]]:
        """All images, and the part of each, `1`, `2`, ..."""
        if skip_bad not in self.known:
            whole = _pooled([split.read(skip_bad=skip_bad) for split in self.splits])
            if len(whole.images) < self.parts:
                raise DataError(
                    f"{whole.source} and val list {len(whole.images)} images together, {self.parts} folds need at "
                    "least one each; use fewer folds"
                )
            shares = {str(number): 1 / self.parts for number in range(1, self.parts + 1)}
            ids = [image.id for image in whole.images]
            self.known[skip_bad] = whole, stratified_parts(_counts(whole), ids, shares, self.seed)
        return self.known[skip_bad]

    def content(self) -> Iterator[bytes]:
        return chain.from_iterable(split.content() for split in self.splits)


@dataclass(frozen=True, slots=True)
class _Fold:
    """One part of a pool, or all others."""

    pool: _Pool
    fold: Fold
    is_val: bool

    def read(self, *, skip_bad: bool = False) -> AnnotatedImages:
        whole, parts = self.pool.read(skip_bad)
        own = str(self.fold.number)
        images = tuple(i for i, part in zip(whole.images, parts, strict=True) if (part == own) == self.is_val)
        return replace(whole, images=images)

    def content(self) -> Iterator[bytes]:
        return self.pool.content()


def _pooled(splits: list[AnnotatedImages]) -> AnnotatedImages:
    """The images of all splits; where two share an image id, those of the later split are numbered after all others."""
    check_same_classes(dict(zip(POOLED, splits, strict=True)))
    first = splits[0]
    images = list(first.images)
    remarks = Counter(first.remarks)
    for split in splits[1:]:
        taken = {image.id for image in images}
        again = any(image.id in taken for image in split.images)
        free = max((*taken, *(image.id for image in split.images)), default=0) + 1
        images += [
            replace(image, id=free + number) if again else image for number, image in enumerate(split.images)
        ]  # fmt: skip
        remarks += split.remarks
    left_out = tuple(dict.fromkeys(chain.from_iterable(split.left_out for split in splits)))
    whole = {f"{what} (of all folds)": number for what, number in remarks.items()}
    return replace(first, images=tuple(images), remarks=Counter(whole), left_out=left_out)


def _counts(images: AnnotatedImages) -> NDArray[np.int64]:
    """i64 [N, K], objects of each class in each image; of masks whether a class is there."""
    counts = np.zeros((len(images.images), len(images.classes)), np.int64)
    for number, image in enumerate(images.images):
        if image.mask is not None:
            counts[number] = np.array(image.mask.pixels) > 0
        for annotation in image.annotations:
            counts[number, images.classes.label(annotation.category_id)] += not annotation.iscrowd
    return counts
