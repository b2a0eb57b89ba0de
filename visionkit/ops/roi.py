"""Regions of interest: from boxes of any size to features of one size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from visionkit.ops.boxes import box_area

CANONICAL_SIDE = 224
CANONICAL_LEVEL = 4

ADDITIONS_A_SCATTER = 32
"""So many multiply-adds of a product of matrices take less time than one addition to a scattered place; some 70 take as
long on a CPU."""

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
            aligned = _Aligned.apply if _wants_matrices(full, size, sampling) else roi_align
            parts.append(aligned(full, rois[place], size, 1 / stride, sampling))
        else:
            parts.append(roi_pool(full, rois[place], size, 1 / stride))
        places.append(place)
    return torch.cat(parts)[torch.cat(places).argsort()]


def _wants_matrices(x: Tensor, size: int, sampling: int) -> bool:
    """Whether the gradient of a map [B, C, H, W] comes sooner by matrices: what both take for a channel of a region."""
    if x.device.type != "cpu" or not (x.requires_grad and torch.is_grad_enabled()):
        return False
    height, width = x.shape[-2:]
    scattered = 4 * (size * sampling) ** 2
    return size * width * (size + height) <= ADDITIONS_A_SCATTER * scattered


class _Aligned(torch.autograd.Function):
    """`roi_align` of a small map, with its gradient as two products of matrices instead of a scatter.

    Points are spread evenly along both sides of a box and read bilinearly, so that what a bin takes from a cell is the
    product of a share by row and one by column: features = Y map X^T, and so the map's gradient is Y^T gradient X.
    The compiled gradient adds to four cells for each point, channel and region, one by one; on a CPU that was nearly
    half of a step of 512 regions on maps of 10 x 10.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rois: Tensor, size: int, scale: float, sampling: int) -> Tensor:
        from torchvision.ops import roi_align  # noqa: PLC0415

        ctx.save_for_backward(rois)
        ctx.settings = x.shape, size, scale, sampling
        aligned: Tensor = roi_align(x, rois, size, scale, sampling)
        return aligned

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (rois,), (gradient,) = ctx.saved_tensors, gradients
        (images, channels, height, width), size, scale, sampling = ctx.settings
        left, top, right, bottom = (rois[:, 1:] * scale).unbind(1)
        rows, columns = (
            _shares(low, high, size, sampling, cells)
            for low, high, cells in ((top, bottom, height), (left, right, width))
        )
        across = torch.bmm(gradient.flatten(1, 2), columns).unflatten(1, (channels, size))  # [R, C, size, W]
        of_map = gradient.new_zeros((images, channels, height, width))
        for b in range(images):
            here = (rois[:, 0] == b).nonzero().squeeze(1)
            by_row = across[here].transpose(1, 2).reshape(-1, channels * width)
            whole = rows[here].reshape(-1, height).T @ by_row  # [H, C * W]
            of_map[b] = whole.view(height, channels, width).transpose(0, 1)
        return of_map, None, None, None, None


def _shares(low: Tensor, high: Tensor, size: int, sampling: int, cells: int) -> Tensor:
    """What each of `cells` cells gives to each bin along one side of boxes from `low` to `high` [R], in cells:
    [R, size, cells]."""
    length = (high - low).clamp(min=1)
    steps = (torch.arange(size * sampling, device=low.device, dtype=low.dtype) + 0.5) / (size * sampling)
    points = low[:, None] + length[:, None] * steps
    inside = (points >= -1) & (points <= cells)
    cell = torch.arange(cells, device=low.device, dtype=low.dtype)
    weights = (1 - (points.clamp(0, cells - 1)[..., None] - cell).abs()).clamp(min=0) * inside[..., None]
    by_bin: Tensor = weights.unflatten(1, (size, sampling)).mean(2)
    return by_bin
