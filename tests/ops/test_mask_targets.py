"""Masks read on regions: by hand, and against a slow reference."""

import torch

from visionkit.ops.mask_targets import region_masks


def test_on_its_own_box_a_mask_is_itself() -> None:
    mask = (torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5).to(torch.uint8)
    boxes = torch.tensor([[0.0, 0, 8, 8], [3, 5, 5, 30], [-7, 0, 1, 1]])
    assert torch.equal(region_masks(mask, boxes, boxes, 8), mask.bool())


def test_beyond_its_box_nothing_is_inside() -> None:
    # The box is the lower right quarter of the first region, and beside the second.
    box = torch.tensor([[4.0, 4, 8, 8]]).expand(2, 4)
    regions = torch.tensor([[0.0, 0, 8, 8], [20, 20, 30, 30]])
    first, second = region_masks(torch.ones(2, 4, 4), box, regions, 4)
    assert first.int().tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert not second.any()


def test_as_a_slow_reference() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = (torch.rand(6, 7, 7, generator=generator) < 0.5).float()
    corners = torch.rand(12, 2, generator=generator) * 20
    boxes = torch.cat((corners, corners + 1 + 20 * torch.rand(12, 2, generator=generator)), 1)
    box, region = boxes[:6], boxes[6:]
    found = region_masks(masks, box, region, 5)
    for r in range(6):
        for row in range(5):
            for column in range(5):
                x, y = (
                    (region[r, a] + (place + 0.5) / 5 * (region[r, a + 2] - region[r, a]) - box[r, a])
                    / (box[r, a + 2] - box[r, a])
                    * 7
                    - 0.5
                    for a, place in ((0, column), (1, row))
                )
                value = sum(
                    max(0, 1 - abs(float(x) - i)) * max(0, 1 - abs(float(y) - j)) * float(masks[r, j, i])
                    for i in range(7)
                    for j in range(7)
                )
                assert abs(value - 0.5) < 1e-4 or found[r, row, column] == (value >= 0.5)


def test_no_regions_and_boxes_without_an_area() -> None:
    assert region_masks(torch.zeros(0, 4, 4), torch.zeros(0, 4), torch.zeros(0, 4), 28).shape == (0, 28, 28)
    flat = torch.tensor([[3.0, 3, 3, 8]])
    assert region_masks(torch.ones(1, 4, 4), flat, torch.tensor([[0.0, 0, 9, 9]]), 28).sum() == 0
