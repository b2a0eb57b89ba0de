"""What a region looks like: histograms of its colours and of its texture.

Source: Uijlings et al. 2013, Selective Search for Object Recognition, section 3.2, "complementary similarity measures".
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

COLOUR_BINS = 25
TEXTURE_BINS = 10
ORIENTATIONS = 8
FLAT = 0.01
"""A channel that nowhere rises by so many of its 256 levels a pixel has no texture: that is rounding."""


def colour_bins(channels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bin of each pixel in each channel, u8 [C, H, W] in 0..24, of channels u8 [H, W, C]."""
    bins = (channels.astype(np.uint16) * COLOUR_BINS) >> 8
    return np.ascontiguousarray(bins.transpose(2, 0, 1)).astype(np.uint8)


def texture_bins(channels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bin of each pixel in each channel and orientation, u8 [8 C, H, W] in 0..9, of channels u8 [H, W, C].

    What is counted is how steeply a channel, smoothed by a Gaussian of one pixel, rises towards each of eight
    directions; where it falls, it does not rise. The bins share the range up to the steepest rise of the channel in the
    image, so that neither exposure nor the units of a colour space matter.
    """
    gaussian, derivative = _gaussian_kernels()
    bins = np.empty((channels.shape[2] * ORIENTATIONS, *channels.shape[:2]), np.uint8)
    for c in range(channels.shape[2]):
        values = np.ascontiguousarray(channels[..., c], np.float32)
        x = cv2.sepFilter2D(values, cv2.CV_32F, derivative, gaussian, borderType=cv2.BORDER_REPLICATE)
        y = cv2.sepFilter2D(values, cv2.CV_32F, gaussian, derivative, borderType=cv2.BORDER_REPLICATE)
        angles = np.arange(ORIENTATIONS) * 2 * np.pi / ORIENTATIONS
        rises = np.stack([np.float32(np.cos(a)) * x + np.float32(np.sin(a)) * y for a in angles])
        steepest = max(float(rises.max()), FLAT)
        scaled = np.clip(rises * np.float32(TEXTURE_BINS / steepest), 0, TEXTURE_BINS - 1)
        bins[c * ORIENTATIONS : (c + 1) * ORIENTATIONS] = scaled
    return bins


def _gaussian_kernels(sigma: float = 1.0, radius: int = 4) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A Gaussian and its derivative, [2 radius + 1]; as correlation, which OpenCV does, a rise to the right counts."""
    at = np.arange(-radius, radius + 1)
    gaussian = np.exp(-(at**2) / (2 * sigma**2))
    gaussian /= gaussian.sum()
    return gaussian.astype(np.float32), (at / sigma**2 * gaussian).astype(np.float32)


def region_histograms(
    segments: NDArray[np.int64], count: int, bins: NDArray[np.uint8], size: int
) -> NDArray[np.float64]:
    """The histograms of `count` regions side by side, f64 [count, F * size], which sum to 1 for each region.

    Args:
        segments: i64 [H, W], the region of each pixel; each region has one.
        bins: u8 [F, H, W] in 0..size - 1.
    """
    start = segments.ravel() * size
    counts = [np.bincount(start + feature.ravel(), minlength=count * size) for feature in bins]
    histograms = np.concatenate([c.reshape(count, size) for c in counts], axis=1).astype(np.float64)
    histograms /= histograms.sum(axis=1, keepdims=True)
    return histograms
