"""Mixup: the pixels are a blend, the objects those of both, and neither image is too faint to be seen."""

import numpy as np
import pytest

from visionkit.data.augment import keyed_generator
from visionkit.data.mixup import FAINTEST, mixup
from visionkit.types import Sample


def plain(value, boxes, labels, ignore, image_id, size=8):
    """A picture of one grey value with the given objects."""
    return Sample(
        np.full((size, size, 3), value, np.uint8),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(ignore, np.bool_),
        image_id,
    )


class Halves:
    """Stands for a generator; every share it draws is one half."""

    def beta(self, a, b):
        return 0.5


def test_by_hand():
    one = plain(100, [(0, 0, 4, 4)], [2], [False], 7)
    other = plain(200, [(1, 1, 3, 3), (5, 5, 8, 8)], [0, 1], [True, False], 9)
    mixed = mixup(one, other, Halves())
    assert (mixed.image == 150).all()  # 0.25 + 0.5 * 0.5 = a half of each: (100 + 200) / 2
    assert mixed.boxes.tolist() == [[0, 0, 4, 4], [1, 1, 3, 3], [5, 5, 8, 8]]
    assert mixed.labels.tolist() == [2, 0, 1]
    assert mixed.ignore.tolist() == [False, True, False]
    assert mixed.image_id == 7
    assert (mixed.image.dtype, mixed.boxes.dtype, mixed.labels.dtype) == (np.uint8, np.float32, np.int64)


def test_both_images_always_show_and_neither_is_favoured():
    white, black = plain(255, [], [], [], 0, size=1), plain(0, [], [], [], 1, size=1)
    shares = [mixup(white, black, keyed_generator(i)).image[0, 0, 0] / 255 for i in range(1000)]
    assert min(shares) >= FAINTEST - 0.003  # a rounded pixel is off by up to 0.5 / 255
    assert max(shares) <= 1 - FAINTEST + 0.003
    assert min(shares) < FAINTEST + 0.02  # and the whole range is used
    # Beta(1.5, 1.5) deviates by 1/4, over half its range by 1/8; the mean of 1000 draws by 1/8 / sqrt(1000).
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * 0.125 / 1000**0.5)
    assert np.std(shares) == pytest.approx(0.125, rel=0.1)


@pytest.mark.parametrize("order", [1, -1])
def test_an_image_without_objects_adds_none(order):
    full, empty = plain(10, [(0, 0, 4, 4)], [1], [False], 1), plain(90, [], [], [], 2)
    mixed = mixup(*(full, empty)[::order], keyed_generator(0))
    assert mixed.boxes.tolist() == [[0, 0, 4, 4]]
    assert mixed.labels.tolist() == [1]
    nothing = mixup(empty, empty, keyed_generator(0))
    assert nothing.boxes.shape == (0, 4)
    assert (nothing.image == 90).all()


def test_same_key_same_bytes_other_key_others_and_the_inputs_stay():
    one, other = plain(100, [(0, 0, 4, 4)], [2], [False], 7), plain(200, [], [], [], 9)
    first, second, third = (mixup(one, other, keyed_generator(k)).image.tobytes() for k in (3, 3, 4))
    assert first == second != third
    assert (one.image == 100).all()
    assert (other.image == 200).all()
