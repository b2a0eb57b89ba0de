"""A val split for a dataset that has none: a fifth of the images of train, drawn by seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from visionkit.errors import DataError
from visionkit.formats.dataset_layout import SPLITS, DatasetLayout, Split
from visionkit.formats.records import AnnotatedImages


def with_val(layout: DatasetLayout, seed: int) -> DatasetLayout:
    """A layout that has val if it has train: its own, or else one held out of train. Nothing is read yet.

    A test split is never touched: it stays for the end.

    Args:
        seed: of the run. The same seed holds out the same images.
    """
    if "val" in layout.splits or "train" not in layout.splits:
        return layout
    whole = _ReadOnce(layout.splits["train"])
    made: dict[str, Split] = {"train": _Part(whole, seed, held_out=False), "val": _Part(whole, seed, held_out=True)}
    splits = {**layout.splits, **made}
    return replace(
        layout,
        words=f"{layout.words}; no val split, so a fifth of train is held out as val, by seed {seed}",
        splits={name: splits[name] for name in SPLITS if name in splits},
    )


def held_out_ids(image_ids: Iterable[int], seed: int) -> set[int]:
    """A fifth of the images, rounded, and at least one: those whose SHA-256 of seed and id is lowest.

    So it depends on nothing but the ids, not on their order; and an image more or fewer moves no other but at the
    boundary.

    >>> sorted(held_out_ids(range(10), seed=0)), sorted(held_out_ids(range(10), seed=1))
    ([4, 6], [1, 6])
    """
    ranked = sorted(image_ids, key=lambda image_id: hashlib.sha256(f"{seed} {image_id}".encode()).digest())
    return set(ranked[: max(1, (len(ranked) + 2) // 5)])


@dataclass(slots=True)
class _ReadOnce:
    """A split whose files are read at most once, so that both parts of it are parts of the same."""

    split: Split
    known: dict[bool, AnnotatedImages] = field(default_factory=dict)

    def read(self, *, skip_bad: bool = False) -> AnnotatedImages:
        if skip_bad not in self.known:
            self.known[skip_bad] = self.split.read(skip_bad=skip_bad)
        return self.known[skip_bad]

    def content(self) -> Iterator[bytes]:
        return self.split.content()


@dataclass(frozen=True, slots=True)
class _Part:
    """The held out part of a split, or the rest of it."""

    whole: Split
    seed: int
    held_out: bool

    def read(self, *, skip_bad: bool = False) -> AnnotatedImages:
        whole = self.whole.read(skip_bad=skip_bad)
        count = len(whole.images)
        if count < 2:
            raise DataError(
                f"{whole.source} lists {count} image and there is no val split, two images or more are needed to make "
                "one of them; add images or a val split"
            )
        ids = held_out_ids((image.id for image in whole.images), self.seed)
        images = tuple(image for image in whole.images if (image.id in ids) == self.held_out)
        remarks = Counter({f"{what} (of both parts)": number for what, number in whole.remarks.items()})
        kept = "held out, because there is no val split" if self.held_out else "kept, the others are held out as val"
        remarks[f"of {count} images of {whole.source.name} are {kept}"] = len(images)
        return replace(whole, images=images, remarks=remarks)

    def content(self) -> Iterator[bytes]:
        return self.whole.content()
