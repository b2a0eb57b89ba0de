"""What a box `x y width height` in pixels must be to be an object of its image, whatever format it came from."""

from __future__ import annotations

from visionkit.formats.coco import OVERHANG, OVERHANG_REMARK
from visionkit.formats.findings import Findings

Box = tuple[float, float, float, float]

_SIZE_RULE = "width and height of a box must be above 0; correct or remove it"
_INSIDE_RULE = "a box must overlap its image; correct or remove it"


def check_box(box: Box, width: int, height: int, item: str, said: str, findings: Findings) -> bool:
    """Whether a box of finite numbers has an area and lies on its image, at least in part; if not, the findings say so.

    A box that reaches over the edge by more than rounding is remarked.

    Args:
        width, height: of the image in pixels.
        item: what messages call the object.
        said: what the file has for the box.
    """
    x, y, box_width, box_height = box
    if box_width <= 0 or box_height <= 0:
        findings.error(f"{item} has {said}", _SIZE_RULE)
        return False
    right, bottom = x + box_width, y + box_height
    if x >= width or y >= height or right <= 0 or bottom <= 0:
        findings.error(f"{item} has {said} outside its {width}x{height} pixels", _INSIDE_RULE)
        return False
    if max(-x, -y, right - width, bottom - height) > OVERHANG:
        findings.remark(OVERHANG_REMARK)
    return True
