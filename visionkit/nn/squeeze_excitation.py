"""Squeeze and excitation: each channel weighed by what the whole map says."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.nn.activations import ACTIVATIONS, Activation


class SqueezeExcitation(nn.Module):
    """Average over the map, narrow, widen, and multiply each channel by a gate in 0..1. Keeps the shape.

    Source: Hu et al. 2018, Squeeze-and-Excitation Networks, section 3, figure 2. The two fully connected layers are 1x1
    convolutions with bias, named `fc1` and `fc2`, as in torchvision's checkpoints.

    Args:
        channels: C.
        squeezed: channels in between; the paper's C / 16.
        activation: in between; the paper's ReLU.
        gate: bounds the weights: the paper's sigmoid, or in MobileNetV3 the hard sigmoid.
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        *,
        activation: Activation = ACTIVATIONS["relu"],
        gate: Activation = ACTIVATIONS["sigmoid"],
    ) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation(squeezed)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate(channels)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.gate(self.fc2(self.activation(self.fc1(F.adaptive_avg_pool2d(x, 1)))))
        return x * weights
