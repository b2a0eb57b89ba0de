"""How large images are in each epoch."""

import numpy as np
import pytest

from visionkit.data.growth import Growth


def test_sizes_grow_evenly_in_steps_of_32() -> None:
    # Shares 0.5, 0.6, 0.7, 0.8, 0.9 of 320: 160, 192, 224, 256, 288; then all of it.
    assert Growth(start=0.5, epochs=5).sizes(320, np.arange(7)).tolist() == [160, 192, 224, 256, 288, 320, 320]


def test_one_epoch_is_as_all_of_them_say() -> None:
    growth = Growth(start=0.3, epochs=17)
    assert [growth.size(640, epoch) for epoch in range(30)] == growth.sizes(640, np.arange(30)).tolist()


def test_without_growth_images_have_their_full_size() -> None:
    assert Growth().size(320, 0) == 320
    assert Growth(start=1.0, epochs=10).size(320, 0) == 320
    assert Growth(start=0.5, epochs=0).size(320, 0) == 320


@pytest.mark.parametrize("full", [32, 64, 96])
def test_no_image_is_below_the_stride_or_above_its_full_size(full: int) -> None:
    sizes = Growth(start=0.01, epochs=10).sizes(full, np.arange(12))
    assert sizes.min() == 32
    assert sizes.max() == full
