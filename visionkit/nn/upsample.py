"""Transposed convolution that starts as bilinear interpolation, and may learn something better."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def bilinear_kernel(factor: int) -> Tensor:
    """The weights [k, k] with which each coarse pixel enters the fine ones around it, k = 2 * factor - factor % 2.

    Source: Long et al. 2015, Fully Convolutional Networks for Semantic Segmentation, section 3.3.

    >>> bilinear_kernel(2)[0].mul(16).tolist()
    [1.0, 3.0, 3.0, 1.0]
    """
    size = 2 * factor - factor % 2
    distances = (torch.arange(size) - (size - 1) / 2).abs()
    line = 1 - distances / factor
    return torch.outer(line, line)


class BilinearUpsample(nn.Module):
    """Maps made `factor` times as large by a transposed convolution, each channel by itself.

    A fresh one gives exactly what `F.interpolate(mode="bilinear", align_corners=False)` gives: the border is continued
    outwards by a pixel first, where the zeros of a plain transposed convolution would darken it.

    In single precision, whatever autocast says: in bf16 it takes three to four times as long on a CPU, and the scores
    of two classes are more often equal.

    Each channel by itself, because channels are classes here: the published networks have one kernel for each pair of
    classes, all but the diagonal zero (80 classes at a factor of 32 would be 26 M zeros).

    Args:
        channels: of the maps.
        factor: a whole number, 1 or more; 1 still has a kernel, of one weight.
        learnable: whether the kernel is a parameter; else it is a constant.

    Parameter or buffer: `weight` [channels, 1, k, k].
    """

    weight: Tensor

    def __init__(self, channels: int, factor: int, *, learnable: bool = False) -> None:
        super().__init__()
        self.factor = factor
        weight = bilinear_kernel(factor).repeat(channels, 1, 1, 1)
        if learnable:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H * factor, W * factor]."""
        device = x.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self._enlarged(x.float())
        return self._enlarged(x)

    def _enlarged(self, x: Tensor) -> Tensor:
        # What the border adds, `factor` pixels a side, and half of what a kernel reaches over its own pixel.
        cut = (3 * self.factor - self.factor % 2) // 2
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv_transpose2d(padded, self.weight, stride=self.factor, padding=cut, groups=x.shape[1])
