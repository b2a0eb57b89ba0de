"""A split of a format that is judged by its reader: what it refuses has the code of the rule that it breaks, and what
it reads is looked at as COCO is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from visionkit.diagnosis.coco_images import Look
from visionkit.diagnosis.findings import Examination, Finding
from visionkit.diagnosis.made_rows import MadeRows
from visionkit.diagnosis.notebook import Origin
from visionkit.errors import DataError
from visionkit.formats import boxes, cvat, image_files, labelme
from visionkit.formats.class_folders import EMPTY_CLASSES_REMARK
from visionkit.formats.coco_segmentation import POLYGON_RULE, RLE_RULE, RLE_SIZE_RULE
from visionkit.formats.cvat import CvatSplit
from visionkit.formats.dataset_layout import Split
from visionkit.formats.findings import shown
from visionkit.formats.labelme import UNLABELLED_REMARK
from visionkit.formats.records import AnnotatedImages

RULES: Mapping[str, str] = {
    boxes.SIZE_RULE: "VK204",
    boxes.INSIDE_RULE: "VK205",
    image_files.INSIDE_RULE: "VK403",
    image_files.READABLE_RULE: "VK404",
    image_files.UPRIGHT_RULE: "VK405",
    POLYGON_RULE: "VK303",
    RLE_RULE: "VK306",
    RLE_SIZE_RULE: "VK305",
    labelme.FILE_RULE: "VK001",
    labelme.IMAGE_RULE: "VK402",
    labelme.SIZE_RULE: "VK408",
    labelme.LABEL_RULE: "VK105",
    labelme.POINTS_RULE: "VK303",
    labelme.MASK_RULE: "VK306",
    cvat.NAME_RULE: "VK401",
    cvat.SIZE_RULE: "VK408",
    cvat.LABEL_RULE: "VK105",
    cvat.BOX_RULE: "VK201",
    cvat.POINTS_RULE: "VK303",
    cvat.MASK_RULE: "VK306",
}
"""The rules of readers, and the codes of what breaks them."""

_MISSING = "every image must lie in "
"""How the rule begins that names the folder of the images; what breaks it is VK402."""

NOTES: Mapping[str, str] = {UNLABELLED_REMARK: "VK006", EMPTY_CLASSES_REMARK: "VK108"}


def examine_by_reader(files: Split, look: Look = None) -> Examination:
    """Everything that is wrong or odd in a split, as far as its reader tells. No repair is offered.

    Args:
        look: as of `examine_coco`.
    """
    try:
        read = files.read(skip_bad=True)
    except DataError as error:
        source: Path = getattr(files, "file", None) or getattr(files, "folder", None) or Path()
        return Examination(source, [Finding("VK001", source, "", str(error))])
    made = MadeRows(read.source, dict(zip(read.classes.category_ids, read.classes.names, strict=True)))
    for line in read.left_out:
        code, fact = _coded(line.removeprefix(f"{read.source}: "))
        made.find(code, read.source, "", fact)
    for remark, code in NOTES.items():
        if read.remarks[remark]:
            made.find(code, read.source, "", f"has {read.remarks[remark]} {remark}")
    _add_rows(read, made)
    # What lists no classes has those of its objects; a folder of images is a class, and was told where it is empty.
    examined = made.examine(look, listed=isinstance(files, CvatSplit))
    return Examination(
        read.source,
        [replace(finding, repaired=False) for finding in examined.findings],
        repaired=dict(examined.rows.repaired()),
        truth=replace(read, left_out=()),
        no_copy=f"{read.source} is of a format that is not repaired; mend it in the tool that wrote it, or leave out "
        "what is in error by convert --skip-bad",
    )


def _coded(line: str) -> tuple[str, str]:
    """The code of a line of what a reader left out, and its fact."""
    for rule, code in RULES.items():
        if line.endswith(f", {rule}"):
            return code, line.removesuffix(f", {rule}")
    missing = line.rfind(f", {_MISSING}")
    return ("VK402", line[:missing]) if missing >= 0 else ("VK004", line)


def _add_rows(read: AnnotatedImages, made: MadeRows) -> None:
    """The sound images and objects, which may still be odd."""
    for image in read.images:
        assert image.path is not None
        file = image.path.with_suffix(".json") if read.source.is_dir() and not read.whole_images else read.source
        origin = Origin(image.path, picture=image.path)
        image_id = made.add_image(image.file_name, image.width, image.height, origin)
        for number, annotation in enumerate(image.annotations if not read.whole_images else (), 1):
            item = f"object {number} of {image.file_name}"
            said = f"has box {shown([round(value, 1) for value in annotation.bbox])}"
            made.add_object(
                image_id,
                annotation.category_id,
                annotation.bbox,
                Origin(file, item, said),
                annotation.segmentation,
                int(annotation.iscrowd),
            )
