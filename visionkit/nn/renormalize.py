"""From ImageNet's normalisation, which models give every backbone, to the one that a network was trained with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from visionkit.nn.normalize import Normalize


class Renormalize(nn.Module):
    """What `Normalize` made of pixels, as (pixels / 255 - mean) / deviation instead. f32 [B, 3, H, W] in and out.

    Like those of `Normalize`, its numbers are constants of the network and not in its state dict.

    Args:
        mean: of red, green and blue, in 0..1.
        deviation: likewise.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        usual = Normalize()
        wanted_mean, wanted_deviation = (255 * torch.tensor(rgb).view(1, 3, 1, 1) for rgb in (mean, deviation))
        # pixels = (x - usual.shift) / usual.scale
        self.register_buffer("scale", 1 / (usual.scale * wanted_deviation), persistent=False)
        self.register_buffer("shift", -(usual.shift / usual.scale + wanted_mean) / wanted_deviation, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.shift, images, self.scale)
