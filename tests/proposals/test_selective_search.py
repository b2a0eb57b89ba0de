"""Selective search: what it finds in scenes where the objects are known, and that it always finds the same."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from visionkit.errors import UsageError
from visionkit.proposals import segments
from visionkit.proposals.recall import best_overlaps
from visionkit.proposals.selective_search import MODES, selective_search


@pytest.fixture
def _library() -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed: pip install 'visionkit[rcnn]'")


needs_library = pytest.mark.usefixtures("_library")


def scene(seed: int, scale: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Six ellipses of different colours on noise, none on another; and their boxes [6, 4]."""
    width, height = 240, 180
    random = np.random.default_rng(seed)
    pixels = random.normal(120, 6, (height, width, 3))
    boxes = []
    for cell, hue in enumerate(random.permutation(6) * 30):
        left, top = cell % 3 * 80, cell // 3 * 90
        w, h = random.integers(24, 76), random.integers(24, 86)
        x, y = left + random.integers(2, 79 - w), top + random.integers(2, 89 - h)
        mask = np.zeros((height, width), np.uint8)
        cv2.ellipse(mask, (int(x + w // 2), int(y + h // 2)), (int(w // 2), int(h // 2)), 0, 0, 360, 1, -1)
        colour = cv2.cvtColor(np.array([[[hue, 150, 200]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
        pixels[mask > 0] = colour + random.normal(0, 6, (int(mask.sum()), 3))
        rows, columns = np.nonzero(mask)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    image = np.clip(pixels, 0, 255).astype(np.uint8)
    return image.repeat(scale, axis=0).repeat(scale, axis=1), np.array(boxes) * scale


@needs_library
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_object_of_a_plain_scene_is_found(seed: int) -> None:
    image, objects = scene(seed)
    assert best_overlaps(selective_search(image), objects).min() > 0.8


@needs_library
def test_an_image_is_searched_at_500_pixels_and_boxes_come_back_in_its_own() -> None:
    image, objects = scene(3, scale=4)  # 960 x 720
    boxes = selective_search(image)
    assert best_overlaps(boxes, objects).min() > 0.8
    assert boxes[:, 2].max() == 960
    assert boxes[:, 3].max() == 720


@needs_library
def test_boxes_are_distinct_whole_and_within_the_image() -> None:
    image, _ = scene(4)
    boxes = selective_search(image)
    assert boxes.dtype == np.float32
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= (240, 180)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert [0, 0, 240, 180] in boxes.tolist()


@needs_library
def test_the_same_image_gives_the_same_and_the_seed_decides_the_order_alone() -> None:
    image, _ = scene(5)
    boxes = selective_search(image)
    assert np.array_equal(boxes, selective_search(image.copy()))
    other = selective_search(image, seed=1)
    assert not np.array_equal(boxes, other)
    assert sorted(boxes.tolist()) == sorted(other.tolist())


@needs_library
def test_the_best_come_first_and_large_ones_stand_higher() -> None:
    image, _ = scene(6)
    boxes = selective_search(image)
    few = selective_search(image, most=20)
    assert np.array_equal(few, boxes[:20])
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    half = len(boxes) // 2
    assert sides[:half].mean() > 1.5 * sides[half:].mean()


@needs_library
def test_more_ways_give_more_proposals() -> None:
    image, _ = scene(7)
    single, fast = (selective_search(image, mode, most=10_000) for mode in ("single", "fast"))
    assert {tuple(box) for box in single.tolist()} <= {tuple(box) for box in fast.tolist()}
    ways = {name: len(mode.spaces) * len(mode.scales) * len(mode.measures) for name, mode in MODES.items()}
    assert ways == {"single": 1, "fast": 8, "quality": 80}


@needs_library
def test_every_colour_space_has_its_way() -> None:
    image, objects = scene(8)
    boxes = selective_search(image, "quality", most=10_000)
    assert best_overlaps(boxes, objects).min() > 0.85


@needs_library
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 900)])
def test_odd_images_have_proposals_too(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8)
    boxes = selective_search(image)
    assert [0, 0, shape[1], shape[0]] in boxes.tolist()


def test_an_image_of_one_colour_is_one_region() -> None:
    assert selective_search(np.full((30, 50, 3), 9, np.uint8)).tolist() == [[0, 0, 50, 30]]


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = scene(0)
    with pytest.raises(UsageError, match=r"unknown mode 'slow' of selective search; choose single, fast, quality"):
        selective_search(image, "slow")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"most must be at least 1 proposal, got 0; use 2000"):
        selective_search(image, most=0)

    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(segments, "import_module", absent)
    with pytest.raises(UsageError, match=r"selective search needs the package scikit-image, which is not installed; "):
        selective_search(image)


def test_overlaps_by_hand() -> None:
    proposals = np.array([[0, 0, 4, 4], [2, 0, 6, 4]], np.float32)
    objects = np.array([[0, 0, 4, 4], [4, 0, 6, 4], [8, 8, 9, 9]], np.float32)
    # 8 of the second proposal's 16 pixels are the second object's.
    assert best_overlaps(proposals, objects).tolist() == [1, 0.5, 0]
    assert best_overlaps(np.empty((0, 4)), objects).tolist() == [0, 0, 0]
    assert best_overlaps(proposals, np.empty((0, 4))).shape == (0,)
