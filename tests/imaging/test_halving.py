import numpy as np
import pytest

from visionkit.imaging.halving import halve, whole_factor


@pytest.mark.parametrize(
    ("scale", "factor"), [(1.5, 1), (1, 1), (0.51, 1), (0.5, 2), (0.3, 2), (0.25, 4), (0.13, 4), (1e-9, 64)]
)
def test_whole_factor(scale, factor):
    assert whole_factor(scale, 100, 80) == factor  # the image allows 64, of 80


def test_halving_averages_whole_blocks():
    image = np.repeat(np.arange(7, dtype=np.uint8)[None, :, None] * 10, 3, axis=2).repeat(5, axis=0)  # 7 wide, 5 high
    # The 7th column and the 5th row fill no block of 2x2.
    assert halve(image, 2)[:, :, 0].tolist() == [[5, 25, 45]] * 2  # (0 + 10) / 2, (20 + 30) / 2, (40 + 50) / 2
    assert halve(image, 4)[:, :, 0].tolist() == [[15]]  # (0 + 10 + 20 + 30) / 4
    assert halve(image, 1) is image
