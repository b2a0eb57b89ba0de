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
