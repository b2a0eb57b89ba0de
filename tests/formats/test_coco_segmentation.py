import numpy as np
import pytest
from pycocotools import mask as coco_mask

from visionkit.errors import DataError
from visionkit.formats.coco_segmentation import checked_segmentation, segmentation_area


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (60, 40), (300, 300)])
def test_compressed_masks_of_pycocotools_are_sound_and_have_its_area(share: float, height: int, width: int) -> None:
    mask = np.random.default_rng(0).random((height, width)) < share
    packed = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    rle = {"size": [height, width], "counts": packed["counts"].decode()}
    assert checked_segmentation(rle, width, height) == (rle, 0)
    assert segmentation_area(rle) == mask.sum() == coco_mask.area(packed)


def test_a_compressed_mask_cut_anywhere_is_refused() -> None:
    mask = np.random.default_rng(0).random((20, 20)) < 0.5
    text = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    for length in range(1, len(text)):
        with pytest.raises(DataError, match="an RLE must be"):
            checked_segmentation({"size": [20, 20], "counts": text[:length]}, 20, 20)


@pytest.mark.parametrize(
    "counts", [None, "", [], [400.0], [True] * 400, ["400"], [500, -100], [2**70], "é" * 9, "o" * 40]
)
def test_runs_that_are_no_runs_are_refused(counts: object) -> None:
    with pytest.raises(DataError, match="an RLE must be"):
        checked_segmentation({"size": [20, 20], "counts": counts}, 20, 20)


@pytest.mark.parametrize("size", [None, [20], [20, 0], [20.0, 20], [20, 10**9], "20x20"])
def test_sizes_that_are_no_sizes_are_refused(size: object) -> None:
    with pytest.raises(DataError, match="an RLE must be"):
        checked_segmentation({"size": size, "counts": [400]}, 0, 0)


def test_an_outline_too_long_to_walk_along_is_refused() -> None:
    """pycocotools counts the pixels of an outline in 32 bits and writes past the memory it took for them."""
    there_and_back = [0, 0, 1e6, 5]
    for turns, sound in ((1, True), (2, False), (250, False)):  # 2e6 px for each there and back, and 5 or so between
        polygon = there_and_back * turns + [0, 9]
        if sound:
            assert checked_segmentation([polygon], 100, 80) == ([polygon], 0)
        else:
            with pytest.raises(DataError, match="with outlines of at most 4000000 px"):
                checked_segmentation([polygon], 100, 80)
    round_in_small = [coordinate for turn in range(9000) for coordinate in (0, turn % 7, 300, turn % 5)]
    with pytest.raises(DataError, match="outlines"):  # 9000 x 2 x 300 = 5.4e6 px
        checked_segmentation([round_in_small], 300, 300)
    assert checked_segmentation([round_in_small[:20000]], 300, 300)[1] == 0  # 5000 x 2 x 300 = 3e6 px
