"""A dataset as its folder was recognised: the splits it has, each of which knows how to read itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from visionkit.formats.records import AnnotatedImages

SPLITS = ("train", "val", "test")

_FOLDERS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
"""What the folder of a split may be called."""


class Split(Protocol):
    """The files of one split, in whatever format they are."""

    def read(self, *, skip_bad: bool = False) -> AnnotatedImages:
        """The split's images and objects, checked.

        Args:
            skip_bad: leave out what is in error, by name, instead of refusing everything.

        Raises:
            DataError: the files hold errors; names the first of each kind and counts the rest.
        """
        ...

    def content(self) -> Iterator[bytes]:
        """All that `read` depends on except the pixels, in pieces, for a hash that tells whether it changed.

        Raises:
            DataError: a file cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class DatasetLayout:
    """Where the files of a dataset lie.

    Args:
        root: the dataset's folder.
        path: what finds this layout again: the folder, or the YAML file that describes the dataset.
        words: which layout it is and which files were found, such as `COCO layout: train.json, val.json over images/`.
        splits: split name -> its files, in the order train, val, test; at least one.
        masks: the layout of the masks that the folder holds beside the objects of `splits`; None where it holds none.
    """

    root: Path
    path: Path
    words: str
    splits: Mapping[str, Split]
    masks: DatasetLayout | None = None

    def describe(self) -> str:
        """One line: which layout it is, and which files were found."""
        return self.words


def split_folders(root: Path, fits: Callable[[Path], bool]) -> dict[str, Path]:
    """`train/`, `val/` or `valid/`, and `test/` by the names of their splits, as far as they are there and fit."""
    found = {split: next(filter(fits, (root / name for name in names)), None) for split, names in _FOLDERS.items()}
    return {split: folder for split, folder in found.items() if folder is not None}
