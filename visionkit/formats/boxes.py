"""What a box `x y width height` in pixels must be to be an object of its image, whatever format it came from."""

from __future__ import annotations

from visionkit.formats.findings import Findings

Box = tuple[float, float, float, float]

OVERHANG = 1.0
"""Boxes that reach over the edge of their image by more pixels than this, beyond rounding, are counted."""

SHORTEST_SIDE = 0.001
"""Pixels. Boxes that are shorter, as a whole or inside of their image, have no area left in 32-bit floats."""

OVERHANG_REMARK = "boxes reach over the edge of their image (training clips them, evaluation takes them as they are)"

SIZE_RULE = f"width and height of a box must be {SHORTEST_SIDE} px or more; correct or remove it"
INSIDE_RULE = "a box must overlap its image; correct or remove it"


def check_box(box: Box, width: int, height: int, item: str, said: str, findings: Findings) -> bool:
    """Whether a box of finite numbers has an area and lies on its image, at least in part; if not, the findings say so.

    A box that reaches over the edge by more than rounding is remarked.

    Args:
        width, height: of the image in pixels; 0 where they are not known.
        item: what messages call the object.
        said: what the file has for the box.
    """
    x, y, box_width, box_height = box
    if box_width < SHORTEST_SIDE or box_height < SHORTEST_SIDE:
        findings.error(f"{item} has {said}", SIZE_RULE)
        return False
    if not width:
        return True
    right, bottom = x + box_width, y + box_height
    inside = min(right, width) - max(x, 0), min(bottom, height) - max(y, 0)
    if min(inside) < SHORTEST_SIDE:
        findings.error(f"{item} has {said} outside its {width}x{height} pixels", INSIDE_RULE)
        return False
    if max(-x, -y, right - width, bottom - height) > OVERHANG:
        findings.remark(OVERHANG_REMARK)
    return True
