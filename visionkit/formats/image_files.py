"""The image files that annotations name: found inside the dataset, readable, and of the size annotated."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

from visionkit.errors import DataError
from visionkit.formats.findings import Findings, shown
from visionkit.imaging.reader import check_image, read_image

INSIDE_RULE = "a file_name must stay inside the folder of the images; correct it"
READABLE_RULE = "every image must be readable; replace the file or remove the image"
UPRIGHT_RULE = (
    "annotations must be made for the upright picture at its own size; correct the size, and the boxes with it"
)


def find_image(name: str, images_dir: Path, item: str, findings: Findings) -> Path | None:
    """Where an image lies: under the images folder or, as some tools write it, under the folder that holds that.

    None, and an error in the findings, where the name climbs out of the folder or nothing has it.

    Args:
        item: what messages call the image, such as `image 3`.
    """
    # The Windows flavour knows both kinds of slashes, and drives.
    parts = PureWindowsPath(name)
    if parts.anchor or ".." in parts.parts or "\0" in name:
        findings.error(f"{item} has file_name {shown(name)}", INSIDE_RULE)
        return None
    for folder in (images_dir, images_dir.parent):
        path = folder / name
        if os.path.exists(path):  # unlike Path.exists, says False to a name that no file can have
            return path
    rule = f"every image must lie in {images_dir}; add the file or remove the image"
    findings.error(f"{item} names {shown(name)}, which does not exist", rule)
    return None


def size_in_file(path: Path, width: int, height: int, item: str, findings: Findings) -> tuple[int, int]:
    """`upright_size`, after a look whether the annotated size is the same; the annotated one if it cannot be read.

    Args:
        width, height: as annotated; 0 where they are not, which is remarked.
        item: what messages call the image.
    """
    real = upright_size(path, item, findings)
    if real is None:
        return width, height
    if not width:
        findings.remark("images without width and height, read from the files")
    elif (width, height) != real:
        findings.error(
            f"{item} is declared {width}x{height} and the upright picture is {real[0]}x{real[1]}", UPRIGHT_RULE
        )
    return real


def upright_size(path: Path, item: str, findings: Findings) -> tuple[int, int] | None:
    """(width, height) of the upright picture; None, and an error in the findings, if it cannot be read.

    Its header is read and its end looked at, 0.04 ms; where bad items are skipped the picture is decoded, some
    2 ms, because training cannot leave out later what turns out to be damaged then.

    Args:
        item: what messages call the image.
    """
    try:
        size = check_image(path)
        if findings.skip_bad:
            read_image(path)
    except DataError as error:
        findings.error(f"{item} cannot be read ({error})", READABLE_RULE)
        return None
    return size
