"""Masks on boxes -> masks on images: by hand, against a slow reference, and in RLE that pycocotools reads."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from visionkit.classes import ClassTable
from visionkit.formats.outlines import Outlines, bitmap_edges
from visionkit.predict.coco_writer import coco_rows
from visionkit.predict.colours import class_colour
from visionkit.predict.drawing import draw
from visionkit.predict.masks import decoded_mask, pasted_masks, window_rle
from visionkit.result import Result


def pasted(mask: object, box: tuple[float, ...], height: int, width: int) -> NDArray[np.bool_]:
    (rle,) = pasted_masks(np.array([mask], np.float32), np.array([box], np.float32), height, width)
    assert rle["size"] == [height, width]
    return decoded_mask(rle)


def test_a_cell_a_pixel_is_the_mask_itself() -> None:
    mask = [[1, 0.4], [0.6, 1]]
    assert pasted(mask, (1, 2, 3, 4), 5, 4).astype(int).tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 0],
    ]


def test_between_cells_it_is_interpolated() -> None:
    # One row of two cells, 1 and 0, over 8 px: a cell is 4 px, their centres at 2 and 6. Half way, at 4, it is 1/2:
    # pixel 3, centre 3.5, says 0.625; pixel 4 says 0.375. To the left of centre 2 it falls to 0 at -2: at 0.5 it is
    # 0.625, and at -0.5 beyond the box 0.375.
    assert pasted([[1, 0]], (2, 0, 10, 1), 1, 12)[0].astype(int).tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_a_full_mask_fills_its_box() -> None:
    # Pixels whose centres are in it: 1.4 to 4.6 holds 1.5, ..., 4.5.
    assert pasted(np.ones((28, 28)), (1.4, 0, 4.6, 2), 2, 6)[0].astype(int).tolist() == [0, 1, 1, 1, 1, 0]


def slow_reference(mask: NDArray[np.float32], box: tuple[float, ...], height: int, width: int) -> NDArray[np.bool_]:
    """Bilinear interpolation at each pixel's centre, cell by cell."""
    cells = len(mask)
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            u = (x + 0.5 - box[0]) / (box[2] - box[0]) * cells - 0.5
            v = (y + 0.5 - box[1]) / (box[3] - box[1]) * cells - 0.5
            for j in range(cells):
                for i in range(cells):
                    out[y, x] += max(0, 1 - abs(u - i)) * max(0, 1 - abs(v - j)) * mask[j, i]
    return out >= 0.5


@pytest.mark.parametrize(
    "box", [(3.2, 1.7, 15.9, 9.1), (-4.0, -3.0, 9.5, 30.0), (5.0, 5.0, 5.6, 5.4), (18.0, 2, 40, 9)]
)
def test_as_the_slow_reference(box: tuple[float, ...]) -> None:
    mask = np.random.default_rng(0).random((5, 5), np.float32)
    assert np.array_equal(pasted(mask, box, 12, 20), slow_reference(mask, box, 12, 20))


@pytest.mark.parametrize("box", [(30, 2, 40, 9), (-9, -9, -5, -5), (3, 3, 3, 3), (5, 2, 5, 8)])
def test_nothing_of_a_box_beyond_the_image_or_without_an_area(box: tuple[float, ...]) -> None:
    assert not pasted(np.ones((4, 4)), box, 12, 20).any()


def test_no_masks() -> None:
    assert pasted_masks(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32), 12, 20) == []


def test_encoding_is_cocos_wherever_the_window_lies() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        height, width = (int(v) for v in random.integers(1, 7, 2))
        h, w = (int(random.integers(0, side + 1)) for side in (height, width))
        top, left = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
        window = random.random((h, w)) < random.choice([0.5, 1])
        whole = np.zeros((height, width), np.uint8, order="F")
        whole[top : top + h, left : left + w] = window
        expected = coco_mask.encode(whole)["counts"].decode()
        assert window_rle(window, left, top, height, width) == {"size": [height, width], "counts": expected}


def test_what_is_learnt_comes_back() -> None:
    # A disc of 40 px on the 28 x 28 cells that a mask head learns, and back.
    y, x = np.mgrid[:64, :64] + 0.5
    disc = (x - 30.3) ** 2 + (y - 33.1) ** 2 < 400
    box = np.array([[10.3, 13.1, 50.3, 53.1]], np.float32)
    learnt = Outlines.of([bitmap_edges(disc)]).box_masks(box, 28)[0]
    back = pasted(learnt, tuple(box[0]), 64, 64)
    assert (back & disc).sum() / (back | disc).sum() > 0.97


# Where masks of results go -------------------------------------------------------------------------------------------


def result_with_masks() -> Result:
    """Two objects in 40 x 30 px; the second, less sure, lies partly under the first."""
    masks = np.zeros((2, 30, 40), np.bool_)
    masks[0, 5:15, 5:20] = True
    masks[1, 10:25, 10:35] = True
    return Result(
        path="a.png",
        width=40,
        height=30,
        classes=ClassTable((3, 17), ("car", "cat")),
        boxes=np.array([[5, 5, 20, 15], [10, 10, 35, 25]], np.float32),
        scores=np.array([0.9, 0.5], np.float32),
        labels=np.array([1, 0]),
        masks=tuple(window_rle(mask, 0, 0, 30, 40) for mask in masks),
    )


def test_json_and_coco_have_a_mask_an_item() -> None:
    result = result_with_masks()
    assert result.masks is not None
    assert [item["mask"] for item in result.to_json()["items"]] == list(result.masks)
    assert [row["segmentation"] for row in coco_rows(result, 4)] == list(result.masks)
    plain = replace(result, masks=None)
    assert "mask" not in plain.to_json()["items"][0]
    assert "segmentation" not in coco_rows(plain, 4)[0]


def test_masks_are_tinted_where_several_lie_by_the_best() -> None:
    grey = np.full((30, 40, 3), 100, np.uint8)
    result = result_with_masks()
    # Away from lines and letters: without masks nothing is drawn there.
    plain, tinted = draw(grey, replace(result, masks=None)), draw(grey, result)
    cat, car = (np.array(class_colour(label), np.float64) for label in (1, 0))
    for (y, x), colour in (((13, 17), cat), ((20, 25), car)):
        assert plain[y, x].tolist() == [100, 100, 100]
        assert np.abs(tinted[y, x] - (0.45 * 100 + 0.55 * colour)).max() <= 1.5
    assert tinted[28, 38].tolist() == [100, 100, 100]
