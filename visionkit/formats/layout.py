"""Where the files of a dataset lie: a folder -> its splits, by the layouts people use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from visionkit.classes import ClassTable
from visionkit.errors import DataError, UsageError
from visionkit.formats.coco import read_coco
from visionkit.formats.records import AnnotatedImages

SPLITS = ("train", "val", "test")
_NAMES_LISTED = 8


class SplitFiles(NamedTuple):
    """The annotation file of a split and the folder its images lie in."""

    annotations: Path
    images: Path


@dataclass(frozen=True, slots=True)
class CocoLayout:
    """A dataset of COCO annotation files.

    Args:
        root: the dataset's folder.
        splits: split name -> its files, in the order train, val, test; at least one.
    """

    root: Path
    splits: Mapping[str, SplitFiles]

    def describe(self) -> str:
        """One line, such as `COCO layout: train.json, val.json over images/`."""
        files = ", ".join(split.annotations.name for split in self.splits.values())
        folders = dict.fromkeys(f"{split.images.relative_to(self.root).as_posix()}/" for split in self.splits.values())
        return f"COCO layout: {files} over {', '.join(folders)}"


def _plain_coco(root: Path) -> CocoLayout | None:
    images = root / "images"
    if not images.is_dir():
        return None
    files = {split: root / "annotations" / f"{split}.json" for split in SPLITS}
    splits = {split: SplitFiles(file, images) for split, file in files.items() if file.is_file()}
    return CocoLayout(root, splits) if splits else None


# What is looked for, in this order, and in words. A layout is recognised by its files' names alone.
_RECOGNISERS: tuple[tuple[str, Callable[[Path], CocoLayout | None]], ...] = (
    ("COCO (images/ and annotations/{train,val,test}.json)", _plain_coco),
)


def find_layout(root: Path) -> CocoLayout:
    """Recognise how the dataset in a folder is laid out. Reads names only, no content.

    Raises:
        DataError: there is no such folder, or it has no known layout; says what was looked for and what is there.
    """
    if not root.is_dir():
        fact = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root} {fact}, a dataset is a folder; name the folder that holds images/ and annotations/")
    for _, recognise in _RECOGNISERS:
        layout = recognise(root)
        if layout is not None:
            return layout
    known = " or ".join(words for words, _ in _RECOGNISERS)
    raise DataError(
        f"{root} has no dataset layout that is known: looked for {known}, found {_contents(root)}; "
        "rename the files or name another folder"
    )


def _contents(root: Path) -> str:
    """What lies in a folder and, where it is there, in its `annotations`; the first few names."""
    names = [f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir()]
    if (root / "annotations").is_dir():
        names.remove("annotations/")
        names += [f"annotations/{path.name}" for path in (root / "annotations").iterdir()] or ["annotations/ (empty)"]
    names.sort()
    further = f" and {len(names) - _NAMES_LISTED} more" if len(names) > _NAMES_LISTED else ""
    return ", ".join(names[:_NAMES_LISTED]) + further if names else "nothing"


def read_split(layout: CocoLayout, split: str) -> AnnotatedImages:
    """Read one split of a dataset, checked.

    Raises:
        UsageError: the dataset has no such split; lists those it has.
        DataError: its files hold errors; see `read_coco`.
    """
    files = layout.splits.get(split)
    if files is None:
        raise UsageError(f"{layout.root} has no split {split!r}; choose one of {', '.join(layout.splits)}")
    return read_coco(files.annotations, files.images)


def check_same_classes(splits: Mapping[str, AnnotatedImages]) -> None:
    """Check that the splits of a dataset have one class table.

    Raises:
        DataError: two differ; names the first category that does.
    """
    for (name, split), (other_name, other) in pairwise(splits.items()):
        difference = _difference(split.classes, other.classes)
        if difference:
            category_id, here, there = difference
            raise DataError(
                f"category {category_id} is {here} in {split.source} ({name}) and {there} in {other.source} "
                f"({other_name}), all splits of a dataset must list the same categories; make the lists equal"
            )


def _difference(here: ClassTable, there: ClassTable) -> tuple[int, str, str] | None:
    """The lowest category id that two tables do not name alike, and what each calls it."""
    names_here = dict(zip(here.category_ids, here.names, strict=True))
    names_there = dict(zip(there.category_ids, there.names, strict=True))
    for category_id in sorted({*names_here, *names_there}):
        a, b = names_here.get(category_id), names_there.get(category_id)
        if a != b:
            return category_id, repr(a) if a else "missing", repr(b) if b else "missing"
    return None
