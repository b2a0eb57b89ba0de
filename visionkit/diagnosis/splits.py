"""A split of a dataset of any format, looked through by the rules of its format."""

from __future__ import annotations

from dataclasses import replace

from visionkit.diagnosis.by_reader import examine_by_reader
from visionkit.diagnosis.coco import examine_coco
from visionkit.diagnosis.coco_images import Look
from visionkit.diagnosis.findings import Examination
from visionkit.diagnosis.masks import examine_mask_folders, examine_voc_masks
from visionkit.diagnosis.voc import examine_voc
from visionkit.diagnosis.yolo import examine_yolo
from visionkit.formats.coco_layouts import CocoSplit
from visionkit.formats.dataset_layout import Split
from visionkit.formats.kept_ids import KeptIds
from visionkit.formats.mask_folders import MaskFolders, VocMasks
from visionkit.formats.voc import VocSplit
from visionkit.formats.yolo_txt import YoloSplit


def examine_split(files: Split, look: Look = None) -> Examination:
    """Everything that is wrong or odd in the files of a split.

    Args:
        look: as of `examine_coco`.
    """
    if isinstance(files, KeptIds):
        found = examine_split(files.files, look)
        if found.copy is not None:
            found.copy = replace(found.copy, others=(*found.copy.others, files.file))
    elif isinstance(files, CocoSplit):
        found = examine_coco(files.annotations, files.images, look)
    elif isinstance(files, YoloSplit):
        found = examine_yolo(files, look)
    elif isinstance(files, VocSplit):
        found = examine_voc(files, look)
    elif isinstance(files, MaskFolders):
        found = examine_mask_folders(files, look)
    elif isinstance(files, VocMasks):
        found = examine_voc_masks(files, look)
    else:
        found = examine_by_reader(files, look)
    return found
