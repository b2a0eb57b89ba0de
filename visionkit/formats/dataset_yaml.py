"""A YAML file that says where the splits of a dataset lie, each a COCO annotation file and a folder of images.

train: {images: photos, annotations: labels/train.json}
val: {images: photos, annotations: labels/val.json}
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionkit.errors import DataError
from visionkit.formats.coco_layouts import CocoSplit
from visionkit.formats.dataset_layout import SPLITS, DatasetLayout
from visionkit.formats.findings import shown

_KEYS = ("images", "annotations")


def names_paths(content: Mapping[Any, Any]) -> bool:
    """Whether the content of a YAML file is of this kind: a split that is a mapping of its own."""
    return any(isinstance(content.get(split), dict) for split in SPLITS)


def explicit_paths(file: Path, content: Mapping[Any, Any]) -> DatasetLayout:
    """The dataset a YAML file describes. Its paths are relative to the file; they may lead anywhere, because it is the
    user who writes them.

    Args:
        content: of the file.

    Raises:
        DataError: something is said that has no place here, or what is named does not exist.
    """
    unknown = [key for key in content if key not in SPLITS]
    if unknown:
        raise DataError(f"{file} has the key {shown(unknown[0])}, a dataset has {', '.join(SPLITS)}; remove it")
    splits = {name: _split(file, name, content[name]) for name in SPLITS if content.get(name) is not None}
    words = ", ".join(f"{name} from {content[name]['annotations']}" for name in splits)
    return DatasetLayout(file.parent, file, f"paths of {file.name}: {words}", splits)


def _split(file: Path, name: str, said: Any) -> CocoSplit:
    if not isinstance(said, dict) or set(said) != set(_KEYS) or not all(_is_path(path) for path in said.values()):
        raise DataError(
            f"{file} says {name}: {shown(said)}, a split needs images: FOLDER and annotations: FILE.json; write both"
        )
    images, annotations = (file.parent / said[key] for key in _KEYS)
    if not os.path.isdir(images):  # unlike Path.is_dir, says False to a name that no file can have
        raise DataError(f"{file} names {images} as images of {name}, which is no folder; correct the path")
    if not os.path.isfile(annotations):
        raise DataError(f"{file} names {annotations} as annotations of {name}, which is no file; correct the path")
    return CocoSplit(annotations, images)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value
