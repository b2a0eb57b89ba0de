"""Anchor points are the centres of cells, level by level, row by row."""

import pytest
import torch

from visionkit.ops.anchors import anchor_points


def test_centres_by_hand() -> None:
    points, strides = anchor_points([(2, 3), (1, 2)], [8, 16])
    assert points.tolist() == [
        *([4, 4], [12, 4], [20, 4]),  # first row of the fine map: 8 (x + 0.5)
        *([4, 12], [12, 12], [20, 12]),  # its second row
        *([8, 8], [24, 8]),  # the coarse map: 16 (x + 0.5)
    ]
    assert strides.tolist() == [8] * 6 + [16] * 2


def test_order_is_that_of_a_flattened_feature_map() -> None:
    points, _ = anchor_points([(3, 5)], [1])
    column_of_cell = torch.arange(5.0).expand(3, 5)
    row_of_cell = torch.arange(3.0)[:, None].expand(3, 5)
    assert torch.equal(points - 0.5, torch.stack((column_of_cell.flatten(), row_of_cell.flatten()), -1))


def test_several_levels_equal_each_alone() -> None:
    shapes, strides = [(8, 4), (4, 2), (2, 1)], [8, 16, 32]
    together = anchor_points(shapes, strides)
    alone = [anchor_points([shape], [stride]) for shape, stride in zip(shapes, strides, strict=True)]
    for part, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.equal(part, torch.cat(parts))


def test_one_cell_and_an_empty_map() -> None:
    assert anchor_points([(1, 1)], [32])[0].tolist() == [[16, 16]]
    points, strides = anchor_points([(0, 4)], [8])
    assert points.shape == (0, 2)
    assert strides.shape == (0,)


def test_every_level_needs_its_stride() -> None:
    with pytest.raises(ValueError, match="zip"):
        anchor_points([(1, 1), (1, 1)], [8])
