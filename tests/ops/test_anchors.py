"""Anchor points are the centres of cells, level by level, row by row; anchor boxes stand at the cells' corners."""

import pytest
import torch

from visionkit.ops.anchors import anchor_boxes, anchor_points, anchor_shapes, rows_of_anchors


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


# Anchor boxes ---------------------------------------------------------------------------------------------------------


def test_shapes_by_hand() -> None:
    # Height / width 0.5 at area 32²: 32 * sqrt(2) = 45.25 wide, 32 / sqrt(2) = 22.63 high; halves 22.6 and 11.3.
    assert anchor_shapes([32, 64], [0.5, 1, 2]).tolist() == [
        *([-23, -11, 23, 11], [-45, -23, 45, 23]),  # 0.5: both sizes
        *([-16, -16, 16, 16], [-32, -32, 32, 32]),
        *([-11, -23, 11, 23], [-23, -45, 23, 45]),
    ]


def test_anchor_boxes_by_hand() -> None:
    # An image of 16 x 24 px on a map of 2 x 3 cells: 8 px apart. The second level has one cell.
    fine, coarse = anchor_boxes([(2, 3), (1, 1)], [anchor_shapes([8], [1]), anchor_shapes([16], [1])], (16, 24))
    at = [(0, 0), (8, 0), (16, 0), (0, 8), (8, 8), (16, 8)]  # row by row
    assert fine.tolist() == [[x - 4, y - 4, x + 4, y + 4] for x, y in at]
    assert coarse.tolist() == [[-8, -8, 8, 8]]


def test_a_cell_has_all_its_anchors_before_the_next_cell() -> None:
    cell = anchor_shapes([8, 16], [0.5, 1])
    (anchors,) = anchor_boxes([(1, 2)], [cell], (8, 16))
    assert torch.equal(anchors[:4], cell)
    assert torch.equal(anchors[4:], cell + torch.tensor([8.0, 0, 8, 0]))


def test_maps_that_end_beyond_the_image_have_closer_anchors() -> None:
    # 160 px at stride 64 are 3 cells (2.5, rounded up): 160 // 3 = 53 px apart.
    (anchors,) = anchor_boxes([(1, 3)], [torch.zeros(1, 4)], (64, 160))
    assert anchors[:, 0].tolist() == [0, 53, 106]


def test_no_cells_no_anchors() -> None:
    assert anchor_boxes([(0, 4)], [anchor_shapes([8], [1])], (64, 64))[0].shape == (0, 4)


def test_predictions_come_in_the_order_of_anchors() -> None:
    # 2 anchors of 3 values on a map of 2 x 2: channel c at row y, column x says 100 c + 10 y + x.
    c, y, x = torch.meshgrid(torch.arange(6), torch.arange(2), torch.arange(2), indexing="ij")
    rows = rows_of_anchors((100 * c + 10 * y + x)[None], 3)
    assert rows.shape == (1, 8, 3)
    assert rows[0, 0].tolist() == [0, 100, 200]  # first cell, first anchor
    assert rows[0, 1].tolist() == [300, 400, 500]  # its second
    assert rows[0, 2].tolist() == [1, 101, 201]  # the next cell of the row
    assert rows[0, 5].tolist() == [310, 410, 510]  # second row, first cell, second anchor
