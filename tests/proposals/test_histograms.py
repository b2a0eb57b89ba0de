"""What a region looks like, counted."""

import numpy as np

from visionkit.proposals.histograms import colour_bins, region_histograms, texture_bins


def test_colours_fall_into_25_bins() -> None:
    # (128 * 25) >> 8 = 12
    channels = np.array([[[0, 10], [10, 11], [128, 255]]], np.uint8)
    assert colour_bins(channels).tolist() == [[[0, 0, 12]], [[0, 1, 24]]]


def test_a_flat_channel_has_no_texture() -> None:
    assert not texture_bins(np.full((6, 6, 2), 77, np.uint8)).any()


def test_a_rise_counts_towards_where_it_rises() -> None:
    ramp = np.broadcast_to(np.arange(0, 240, 8, dtype=np.uint8)[None, :, None], (30, 30, 1))
    middle = texture_bins(ramp)[:, 15, 15].tolist()
    # The directions are right, then each 45 degrees further down: cos 45 = 0.707 of the steepest is bin 7 of 0..9.
    assert middle == [9, 7, 0, 0, 0, 0, 0, 7]
    down = texture_bins(np.ascontiguousarray(ramp.transpose(1, 0, 2)))[:, 15, 15].tolist()
    assert down == [0, 7, 9, 7, 0, 0, 0, 0]


def test_neither_exposure_nor_units_matter() -> None:
    channels = np.random.default_rng(0).integers(0, 60, (20, 20, 1), dtype=np.uint8)
    assert np.array_equal(texture_bins(channels), texture_bins(channels * 4))


def test_histograms_of_regions_sum_to_one_over_all_channels() -> None:
    segments = np.array([[0, 0, 1]])
    bins = np.array([[[0, 2, 1]], [[1, 1, 0]]], np.uint8)
    # Region 0 has two pixels in two channels: four counts.
    assert region_histograms(segments, 2, bins, 3).tolist() == [[0.25, 0, 0.25, 0, 0.5, 0], [0, 0.5, 0, 0.5, 0, 0]]
