"""Regions of interest: from boxes of any size to features of one size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from visionkit.ops.boxes import box_area

CANONICAL_SIDE = 224
CANONICAL_LEVEL = 4

Pooling = Literal["align", "pool"]


def assign_levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """Which of P feature maps each box [R, 4] is read from, i64 [R]: large boxes from coarse maps.

    Source: Lin et al. 2017, Feature Pyramid Networks, equation 1: a box of 224 by 224 pixels is read at stride
    2^4 = 16, one half as large at 8, and so on, as far as there are such maps.

    Args:
        strides: of the maps, ascending powers of two; of equal ones the first is read.

    >>> sizes = torch.tensor([20., 111, 112, 224, 448, 2000])
    >>> assign_levels(torch.stack((0 * sizes, 0 * sizes, sizes, sizes), 1), (8, 16, 32)).tolist()
    [0, 0, 0, 1, 2, 2]
    """
    exponents = [round(math.log2(stride)) for stride in strides]
    side = box_area(boxes).sqrt()
    # The small number keeps 224.0 on its level, whichever way the logarithm was rounded.
    level = (CANONICAL_LEVEL + (side / CANONICAL_SIDE).log2() + 1e-6).floor()
    level = level.clamp(min(exponents), max(exponents))
    return torch.bucketize(level, torch.tensor(exponents, dtype=level.dtype, device=level.device))


def roi_features(
    maps: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    image: Tensor,
    *,
    size: int = 7,
    sampling: int = 2,
    pooling: Pooling = "align",
) -> Tensor:
    """Features of boxes, each read from the map `assign_levels` names.

    Args:
        maps: P maps [B, C, H, W] of the same channels, fine to coarse.
        strides: of the maps, in pixels.
        boxes: f32 [R, 4] x1 y1 x2 y2 in pixels; R may be 0.
        image: i64 [R], which of the B images each box is in.
        size: bins on each side.
        sampling: `align` reads sampling x sampling points a bin.
        pooling: `align` averages points between pixels (He et al. 2017, Mask R-CNN, section 3); `pool` takes the
            largest of whole pixels (Girshick 2015, Fast R-CNN, section 2.1).

    Returns:
        [R, C, size, size] in the order of the boxes.
    """
    # Not the compiled operators alone, as for suppression: their gradients are registered by the import. And not above,
    # because it takes longer than that of torch, which detectors without regions need not wait for.
    from torchvision.ops import roi_align, roi_pool  # noqa: PLC0415

    rois = torch.cat((image[:, None].to(boxes.dtype), boxes), 1)
    level = assign_levels(boxes, strides)
    parts, places = [], []
    for p, (x, stride) in enumerate(zip(maps, strides, strict=True)):
        place = (level == p).nonzero().squeeze(1)
        # Half precision is too coarse for pixels beyond 256, and the ops want one type.
        full = x.to(rois.dtype)
        if pooling == "align":
            parts.append(roi_align(full, rois[place], size, 1 / stride, sampling))
        else:
            parts.append(roi_pool(full, rois[place], size, 1 / stride))
        places.append(place)
    return torch.cat(parts)[torch.cat(places).argsort()]
