"""The formats a dataset of objects can be written in, by name, and which of them a dataset has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from visionkit.errors import DataError, UsageError
from visionkit.formats.coco_layouts import CocoSplit
from visionkit.formats.coco_writer import write_coco
from visionkit.formats.cvat import CvatSplit
from visionkit.formats.cvat_writer import write_cvat
from visionkit.formats.dataset_layout import DatasetLayout, Split
from visionkit.formats.kept_ids import KeptIds
from visionkit.formats.labelme import LabelMeSplit
from visionkit.formats.labelme_writer import write_labelme
from visionkit.formats.new_dataset import Contents, NewDataset
from visionkit.formats.voc import VocSplit
from visionkit.formats.voc_writer import write_voc
from visionkit.formats.yolo_txt import YoloSplit
from visionkit.formats.yolo_writer import write_yolo

Writer = Callable[[Contents, NewDataset], None]

WRITERS: Mapping[str, Writer] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
    "labelme": write_labelme,
    "cvat": write_cvat,
}

_SPLITS: Mapping[type, str] = {
    CocoSplit: "coco",
    YoloSplit: "yolo",
    VocSplit: "voc",
    LabelMeSplit: "labelme",
    CvatSplit: "cvat",
}


def chosen_writer(name: str) -> Writer:
    """The writer of a format.

    Raises:
        UsageError: there is none of that name; lists those there are.
    """
    if name not in WRITERS:
        raise UsageError(f"unknown format {name!r}, datasets are written as one of {', '.join(WRITERS)}; choose one")
    return WRITERS[name]


def format_of(layout: DatasetLayout) -> str:
    """The name of the format that a dataset of objects has.

    Raises:
        DataError: it has a mask or a class for each image, and no objects.
    """
    files: Split = next(iter(layout.splits.values()))
    kind = type(files.files if isinstance(files, KeptIds) else files)
    if kind not in _SPLITS:
        raise DataError(
            f"{layout.root} has no boxes or outlines of objects ({layout.describe()}), which is what "
            f"{', '.join(WRITERS)} hold; name a dataset of objects"
        )
    return _SPLITS[kind]
