"""The `data.yaml` of a YOLO dataset -> its layout."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.dataset_files import is_one_line
from visionkit.formats.dataset_layout import SPLITS, DatasetLayout
from visionkit.formats.findings import shown
from visionkit.formats.yolo_txt import YoloSplit


def yolo_layout(file: Path, content: Mapping[Any, Any]) -> DatasetLayout:
    """The dataset that a `data.yaml` describes: `names`, `path`, and `train`, `val`, `test`.

    `path` is relative to the file and may be left out; the splits, each a folder, a list of folders or a .txt list of
    images, are relative to `path`. They may lead anywhere, because it is the user who writes them. Other keys, such
    as `download`, are passed over.

    Args:
        content: of the file.

    Raises:
        DataError: the file does not say what it must, or describes key points.
    """
    if content.get("kpt_shape") is not None:
        raise DataError(f"{file} describes key points (kpt_shape), boxes and polygons are read; leave the points out")
    names = _names(file, content)
    path = content.get("path")
    if path is not None and not _is_path(path):
        raise DataError(f"{file} has path {shown(path)}, it must be a folder; correct it or leave it out")
    root = file.parent / (path or "")
    if not os.path.isdir(root):  # unlike Path.is_dir, says False to a name that no file can have
        raise DataError(f"{file} has path {shown(path)}, which is no folder; correct it or leave it out")
    splits = {
        name: YoloSplit(
            file, root, tuple(source_place(root, source) for source in _sources(file, name, content)), names
        )
        for name in SPLITS
        if content.get(name)
    }
    if not splits:
        raise DataError(f"{file} names no split, at least one of {', '.join(SPLITS)} is needed; add it")
    return DatasetLayout(root, file, f"YOLO layout: {', '.join(splits)} of {file.name}", splits)


def _names(file: Path, content: Mapping[Any, Any]) -> dict[int, str]:
    """Class number -> name, from a list or a mapping."""
    said = content.get("names")
    numbered = dict(enumerate(said)) if isinstance(said, list) else said
    if not isinstance(numbered, dict) or not numbered:
        raise DataError(f"{file} has names {shown(said)}, a list of class names is needed; add it")
    for number, name in numbered.items():
        if type(number) is not int or not 0 <= number < 2**63:
            raise DataError(f"{file} names the class {shown(number)}, a class is a number from 0; correct it")
        if type(name) not in (str, int) or not is_one_line(str(name)):
            raise DataError(
                f"{file} has {shown(name)} as name of class {number}, a name is text on one line; put it in quotes"
            )
    names = {number: str(name) for number, name in numbered.items()}
    if content.get("nc") not in (None, len(names)):
        raise DataError(f"{file} has nc {shown(content['nc'])} and {len(names)} names, they must agree; correct one")
    try:
        ClassTable.of_categories(names.items())
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    return names


def _sources(file: Path, name: str, content: Mapping[Any, Any]) -> list[str]:
    said = content[name] if isinstance(content[name], list) else [content[name]]
    if not all(_is_path(source) for source in said):
        raise DataError(
            f"{file} says {name}: {shown(content[name])}, a split is a folder, a list of folders or a .txt list of "
            "images; correct it"
        )
    return said


def source_place(root: Path, source: str) -> Path:
    """Where a folder or list lies. Roboflow writes `../train/images` for the `train/images` beside the file."""
    path = root / source
    inside = root / source.removeprefix("../")
    return inside if os.path.exists(inside) and not os.path.exists(path) else path


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value
