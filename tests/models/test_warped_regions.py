"""Warping regions: by hand, against a loop, and where there is nothing to see."""

import math

import pytest
import torch
from torch import Tensor

from visionkit.models.warped_regions import CONTEXT, warp, with_context


def image(channels: int = 2, height: int = 12, width: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(channels, height, width, generator=torch.Generator().manual_seed(seed))


def test_a_box_of_the_size_of_the_square_is_copied() -> None:
    picture = image()
    assert torch.allclose(warp(picture, torch.tensor([[3.0, 2, 11, 10]]), 8)[0], picture[:, 2:10, 3:11], atol=1e-6)


def test_a_shape_is_stretched_to_a_square() -> None:
    stripes = torch.tensor([0.0, 1]).repeat_interleave(4).expand(1, 4, 8)  # left half 0, right half 1
    found = warp(stripes, torch.tensor([[0.0, 0, 8, 4]]), 8)[0, 0]
    # But for its first and last row, which reach half into what is beyond the image.
    assert found[1:7].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 6


def test_beyond_the_image_there_is_nothing() -> None:
    found = warp(torch.ones(1, 4, 4), torch.tensor([[-4.0, 0, 4, 8]]), 8)[0, 0]
    assert found[:4, 4:].tolist() == [[1.0] * 4] * 4
    assert found[4:].abs().max() == 0
    assert found[:, :4].abs().max() == 0


def test_a_large_region_is_averaged_and_not_thinned_out() -> None:
    # A chequerboard of 0 and 1: every 2 x 2 pixels have the mean 0.5, every other pixel is 0 alone.
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2
    assert warp(board[None].float(), torch.tensor([[0.0, 0, 32, 32]]), 8)[0, 0].tolist() == [[0.5] * 8] * 8


def slow_warp(picture: Tensor, box: list[float], side: int) -> Tensor:
    """Linear interpolation between pixel centres, pixel by pixel; 0 beyond the image."""
    channels, height, width = picture.shape
    x1, y1, x2, y2 = box
    out = torch.zeros(channels, side, side)
    for row in range(side):
        for column in range(side):
            x = x1 + (column + 0.5) / side * (x2 - x1) - 0.5
            y = y1 + (row + 0.5) / side * (y2 - y1) - 0.5
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                at_y, at_x = math.floor(y) + i, math.floor(x) + j
                if 0 <= at_y < height and 0 <= at_x < width:
                    share = (1 - abs(y - at_y)) * (1 - abs(x - at_x))
                    out[:, row, column] += share * picture[:, at_y, at_x]
    return out


BOXES = [[1.3, 2.2, 9.7, 8.1], [-3, -2.5, 5, 14], [4, 4, 5, 5], [0, 0, 16, 12], [8, 3, 15.5, 3.5]]


def test_it_is_linear_interpolation() -> None:
    picture = image()
    found = warp(picture, torch.tensor(BOXES), 9)
    for box, square in zip(BOXES, found, strict=True):
        torch.testing.assert_close(square, slow_warp(picture, box, 9), rtol=0, atol=1e-5)


def test_regions_together_are_the_regions_one_by_one() -> None:
    picture = image(3, 64, 48)
    boxes = torch.tensor([*BOXES, [0, 0, 48, 64], [-20, -30, 70, 90]])  # some of them from halved images
    together = warp(picture, boxes, 8)
    alone = torch.cat([warp(picture, boxes[i : i + 1], 8) for i in range(len(boxes))])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_no_region_gives_no_square() -> None:
    assert warp(image(), torch.zeros(0, 4), 8).shape == (0, 2, 8, 8)
    assert with_context(torch.zeros(0, 4)).shape == (0, 4)


def test_context_is_16_of_227_pixels_on_each_side() -> None:
    box = torch.tensor([[0.0, 10, 195, 10 + 39]])
    grown = with_context(box)
    # Across, 195 px become 227; down, 39 become 39 * 227 / 195 = 45.4.
    assert grown[0].tolist() == pytest.approx([-16, 10 - 3.2, 211, 49 + 3.2], abs=1e-4)
    share = (box[:, 0] - grown[:, 0]) / (grown[:, 2] - grown[:, 0])
    assert share.item() == pytest.approx(CONTEXT)
