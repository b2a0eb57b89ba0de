"""Which layout the dataset in a folder has, and its splits read by it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from visionkit.classes import ClassTable
from visionkit.errors import DataError, UsageError
from visionkit.formats.class_folders import class_folders
from visionkit.formats.coco_layouts import coco_2017, plain_coco, roboflow_coco
from visionkit.formats.cvat import cvat_files
from visionkit.formats.dataset_files import entries
from visionkit.formats.dataset_layout import SPLITS, DatasetLayout
from visionkit.formats.dataset_yaml import explicit_paths, names_paths
from visionkit.formats.findings import shown
from visionkit.formats.kept_ids import with_kept_ids
from visionkit.formats.labelme import labelme_folders
from visionkit.formats.mask_folders import mask_folders, voc_masks
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.voc import pascal_voc
from visionkit.formats.yaml_file import read_yaml
from visionkit.formats.yolo_yaml import yolo_layout

_NAMES_LISTED = 8
_YAML_SUFFIXES = (".yaml", ".yml")
_YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def _described_by_yaml(root: Path) -> DatasetLayout | None:
    file = next((root / name for name in _YAML_NAMES if (root / name).is_file()), None)
    return None if file is None else _yaml_layout(file)


# What is looked for, in this order, and in words. A folder's layout is recognised by its files' names alone.
_RECOGNISERS: tuple[tuple[str, Callable[[Path], DatasetLayout | None]], ...] = (
    ("COCO (images/ and annotations/{train,val,test}.json)", plain_coco),
    ("COCO 2017 (annotations/instances_{train,val}2017.json and train2017/, val2017/)", coco_2017),
    ("Roboflow COCO (train/_annotations.coco.json, valid/, test/)", roboflow_coco),
    ("Pascal VOC (JPEGImages/ and Annotations/)", pascal_voc),
    ("YOLO or explicit paths (data.yaml)", _described_by_yaml),
    ("CVAT for images (annotations.xml, or train/annotations.xml, val/annotations.xml)", cvat_files),
    ("LabelMe (a JSON file beside each image, in train/, val/, test/ or the folder itself)", labelme_folders),
    ("masks (images/{train,val,test}/, masks/{train,val,test}/ and classes.json)", mask_folders),
    ("Pascal VOC masks (JPEGImages/ and SegmentationClass/)", voc_masks),
    ("a folder per class (train/CLASS/, val/CLASS/)", class_folders),
)


def find_layout(path: Path) -> DatasetLayout:
    """The layout of the dataset in a folder, or of the one that a YAML file describes.

    Raises:
        DataError: there is no such folder or file, it has no known layout, or what describes it is wrong; says what was
            looked for and what is there.
    """
    if os.path.isfile(path) and path.suffix.lower() in _YAML_SUFFIXES:
        return with_kept_ids(_yaml_layout(path))
    if not os.path.isdir(path):  # unlike Path.is_dir, says False to a name that no file can have
        fact = "is a file" if os.path.exists(path) else "does not exist"
        raise DataError(
            f"{path} {fact}, a dataset is a folder or a YAML file; name the folder that holds images/ and annotations/"
        )
    layout = layout_in(path)
    if layout is None:
        if all(os.path.isdir(path / folder) for folder in ("images", "labels")):
            raise DataError(
                f"{path} looks like YOLO txt but has no data.yaml, which names the classes; write one with names: and "
                "train: and val:, the folders of images"
            )
        known = "; ".join(words for words, _ in _RECOGNISERS)
        raise DataError(
            f"{path} has no dataset layout that is known: looked for {known}; found {_contents(path)}; "
            "rename the files or name another folder"
        )
    return layout


def layout_in(folder: Path) -> DatasetLayout | None:
    """The layout of the dataset in a folder, or None if there is none that is known.

    Raises:
        DataError: the YAML file that describes it is wrong.
    """
    layout = next((layout for _, recognise in _RECOGNISERS if (layout := recognise(folder)) is not None), None)
    layout = with_kept_ids(layout) if layout else None
    masks = voc_masks(folder)
    return replace(layout, masks=masks) if layout and masks and masks.words != layout.words else layout


def _yaml_layout(file: Path) -> DatasetLayout:
    content = read_yaml(file)
    if isinstance(content, dict) and names_paths(content):
        return explicit_paths(file, content)
    if isinstance(content, dict) and any(key in content for key in ("names", *SPLITS)):
        return yolo_layout(file, content)
    kind = f"the keys {shown(list(content)[:_NAMES_LISTED])}" if isinstance(content, dict) else shown(content)
    raise DataError(
        f"{file} has {kind}, a YAML file of a dataset has train: and val:, each with images: and annotations:, or "
        "YOLO's names:, train: and val:; name another file"
    )


def _contents(root: Path) -> str:
    """What lies in a folder and, where it is there, in its `annotations`; the first few names."""
    names = [f"{path.name}/" if path.is_dir() else path.name for path in entries(root)]
    if (root / "annotations").is_dir():
        names.remove("annotations/")
        names += [f"annotations/{path.name}" for path in entries(root / "annotations")] or ["annotations/ (empty)"]
    names.sort()
    further = f" and {len(names) - _NAMES_LISTED} more" if len(names) > _NAMES_LISTED else ""
    return ", ".join(names[:_NAMES_LISTED]) + further if names else "nothing"


def read_split(layout: DatasetLayout, split: str, *, skip_bad: bool = False) -> AnnotatedImages:
    """Read one split of a dataset, checked.

    Args:
        skip_bad: leave items in error out, a line each in `left_out`.

    Raises:
        UsageError: the dataset has no such split; lists those it has.
        DataError: its files hold errors.
    """
    if split not in layout.splits:
        raise UsageError(f"{layout.root} has no split {split!r}; choose one of {', '.join(layout.splits)}")
    return layout.splits[split].read(skip_bad=skip_bad)


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
