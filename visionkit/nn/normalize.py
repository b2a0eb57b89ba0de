"""Pixels to network input."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """u8 or float RGB images [B, 3, H, W] in 0..255 to floats with mean 0 and deviation 1 over ImageNet.

    The statistics are those every published ImageNet checkpoint of torchvision was trained with. They are constants
    of the network, not weights: they are not in its state dict.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean = 255 * torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        deviation = 255 * torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / deviation, persistent=False)
        self.register_buffer("shift", -mean / deviation, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale)
