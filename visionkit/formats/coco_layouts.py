"""Where COCO annotation files and their images lie: the project's own folders, COCO's of 2014 and 2017, Roboflow's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from visionkit.errors import DataError
from visionkit.formats.coco import read_coco
from visionkit.formats.dataset_layout import SPLITS, DatasetLayout
from visionkit.formats.records import AnnotatedImages

_YEARS = ("2017", "2014")


class CocoSplit(NamedTuple):
    """The annotation file of a split and the folder its images lie in."""

    annotations: Path
    images: Path

    def read(self, *, skip_bad: bool = False) -> AnnotatedImages:
        return read_coco(self.annotations, self.images, skip_bad=skip_bad)

    def content(self) -> Iterator[bytes]:
        try:
            yield self.annotations.read_bytes()
        except OSError as error:
            raise DataError(f"{self.annotations} cannot be read ({error.strerror}); check its permissions") from error


def plain_coco(root: Path) -> DatasetLayout | None:
    """`images/` and `annotations/{train,val,test}.json`."""
    images = root / "images"
    files = {split: root / "annotations" / f"{split}.json" for split in SPLITS}
    splits = {split: CocoSplit(file, images) for split, file in files.items() if file.is_file()}
    return _layout("COCO layout", root, splits) if splits and images.is_dir() else None


def coco_2017(root: Path) -> DatasetLayout | None:
    """COCO's own: `annotations/instances_{train,val}2017.json`, `train2017/`, `val2017/`; also those of 2014, and also
    with the image folders below `images/`.

    A split whose image folder is not there is none: COCO packs the annotations of all splits in one archive.
    """
    for year in _YEARS:
        splits: dict[str, CocoSplit] = {}
        without_images: list[str] = []
        for split in SPLITS:
            file = root / "annotations" / f"instances_{split}{year}.json"
            folders = [folder / f"{split}{year}" for folder in (root, root / "images")]
            images = next((folder for folder in folders if folder.is_dir()), None)
            if file.is_file() and images is not None:
                splits[split] = CocoSplit(file, images)
            elif file.is_file():
                without_images.append(f"{split}{year}/")
        if splits:
            absent = f" ({', '.join(without_images)} is not there)" if without_images else ""
            return _layout(f"COCO {year} layout", root, splits, absent)
    return None


def roboflow_coco(root: Path) -> DatasetLayout | None:
    """Roboflow's: `train/_annotations.coco.json` beside its images, `valid/` and `test/` likewise."""
    folders = {"train": "train", "val": "valid", "test": "test"}
    files = {split: root / folder / "_annotations.coco.json" for split, folder in folders.items()}
    splits = {split: CocoSplit(file, file.parent) for split, file in files.items() if file.is_file()}
    return _layout("Roboflow COCO layout", root, splits) if splits else None


def _layout(kind: str, root: Path, splits: Mapping[str, CocoSplit], remark: str = "") -> DatasetLayout:
    files = ", ".join(dict.fromkeys(split.annotations.name for split in splits.values()))
    folders = dict.fromkeys(f"{split.images.relative_to(root).as_posix()}/" for split in splits.values())
    return DatasetLayout(root, root, f"{kind}: {files} over {', '.join(folders)}{remark}", splits)
