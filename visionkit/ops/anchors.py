"""Where predictions are made: the anchor points of feature maps, and anchor boxes around them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def anchor_points(
    shapes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The centres of all cells of P feature maps, level by level, row by row.

    Source: Tian et al. 2019, FCOS, section 3.1: cell (x, y) of a level with stride s stands for the pixel
    (s/2 + x s, s/2 + y s).

    Args:
        shapes: height and width in cells, one a level.
        strides: input pixels per cell, one a level.

    Returns:
        points f32 [A, 2], x y in input pixels, and the stride of each, f32 [A].

    >>> points, strides = anchor_points([(1, 2)], [8])
    >>> points.tolist(), strides.tolist()
    ([[4.0, 4.0], [12.0, 4.0]], [8.0, 8.0])
    """
    points, point_strides = [], []
    for (height, width), stride in zip(shapes, strides, strict=True):
        y, x = torch.meshgrid(
            torch.arange(height, dtype=torch.float32, device=device),
            torch.arange(width, dtype=torch.float32, device=device),
            indexing="ij",
        )
        points.append((torch.stack((x, y), -1).reshape(-1, 2) + 0.5) * stride)
        point_strides.append(torch.full((height * width,), float(stride), device=device))
    return torch.cat(points), torch.cat(point_strides)


def anchor_shapes(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """The anchors of one cell around the origin, f32 [len(ratios) * len(sizes), 4] in whole pixels, ratio by ratio.

    Source: Ren et al. 2015, Faster R-CNN, section 3.1.1: an anchor of size s and ratio r has the area s * s and is r
    times as high as it is wide.

    Args:
        sizes: square roots of the areas in pixels.
        ratios: height / width.

    >>> anchor_shapes([32], [0.25, 1]).tolist()  # 64 wide and 16 high; 32 by 32
    [[-32.0, -8.0, 32.0, 8.0], [-16.0, -16.0, 16.0, 16.0]]
    """
    root = torch.as_tensor(ratios, dtype=torch.float32).sqrt()[:, None]
    size = torch.as_tensor(sizes, dtype=torch.float32)
    width, height = (1 / root * size).flatten(), (root * size).flatten()
    # Rounded as in the published detectors, whose weights know no other anchors.
    return (torch.stack((-width, -height, width, height), 1) / 2).round()


def anchor_boxes(
    shapes: Sequence[tuple[int, int]], cells: Sequence[Tensor], image_size: tuple[int, int]
) -> list[Tensor]:
    """The anchors of P feature maps, a tensor a level: row by row, cell by cell, in the order of the cell's anchors.

    They stand around the upper left corners of the cells, as in the published detectors. The distance of cells is the
    image's side divided by the map's, rounded down: the stride, but where a coarse map ends beyond the image.

    Args:
        shapes: height and width in cells, one a level.
        cells: what `anchor_shapes` gave, [A, 4], one a level, on the device that the anchors shall be on.
        image_size: H and W in pixels, padding included.

    Returns:
        f32 [height * width * A, 4] x1 y1 x2 y2 in pixels for each level; they may reach beyond the image.

    >>> anchor_boxes([(1, 2)], [anchor_shapes([8], [1])], (16, 32))[0].tolist()
    [[-4.0, -4.0, 4.0, 4.0], [12.0, -4.0, 20.0, 4.0]]
    """
    anchors = []
    for (height, width), cell in zip(shapes, cells, strict=True):
        y, x = torch.meshgrid(
            torch.arange(height, dtype=torch.float32, device=cell.device) * (image_size[0] // max(1, height)),
            torch.arange(width, dtype=torch.float32, device=cell.device) * (image_size[1] // max(1, width)),
            indexing="ij",
        )
        corners = torch.stack((x, y, x, y), -1).reshape(-1, 1, 4)
        anchors.append((corners + cell).reshape(-1, 4))
    return anchors


def rows_of_anchors(predictions: Tensor, values: int) -> Tensor:
    """What a convolution says of each anchor, in the order of `anchor_boxes`: [B, A * V, H, W] -> [B, H * W * A, V].

    Args:
        values: V, numbers an anchor, neighbouring channels.
    """
    batch, _, height, width = predictions.shape
    apart = predictions.view(batch, -1, values, height, width).permute(0, 3, 4, 1, 2)
    return apart.reshape(batch, -1, values)
