"""ConvNeXt, with the parameter names of torchvision's checkpoints."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from visionkit.backbones.feature_stack import FeatureStack, Stage
from visionkit.nn.activations import ACTIVATIONS, Activation
from visionkit.nn.norms import LayerNorm2d, Norm
from visionkit.nn.stochastic_depth import StochasticDepth

WIDTHS = (96, 192, 384, 768)
TINY = (3, 3, 9, 3)


class _MoveAxis(nn.Module):
    """Channels from one axis to another, without a copy."""

    def __init__(self, source: int, destination: int) -> None:
        super().__init__()
        self.source, self.destination = source, destination

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(self.source, self.destination)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, norm, a fully connected layer a pixel that widens four times, activation, one that narrows; scaled
    channel by channel and added to the input.

    Source: Liu et al. 2022, A ConvNet for the 2020s, sections 2.4 to 2.6 and figure 4; layer scale, which starts at
    1e-6, after Touvron et al. 2021, Going Deeper with Image Transformers, section 2.

    Parameter names are torchvision's: `block.0`, `block.2`, `block.3`, `block.5`, `layer_scale` [C, 1, 1].
    """

    def __init__(self, channels: int, *, norm: Norm, activation: Activation, drop: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            OrderedDict(
                {
                    "0": nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
                    "2": norm(channels),
                    # Fully connected layers work on the last axis, activations and norms on channels in the second.
                    "channels_last": _MoveAxis(1, -1),
                    "3": nn.Linear(channels, 4 * channels),
                    "channels_second": _MoveAxis(-1, 1),
                    "4": activation(4 * channels),
                    "channels_last_again": _MoveAxis(1, -1),
                    "5": nn.Linear(4 * channels, channels),
                    "channels_second_again": _MoveAxis(-1, 1),
                }
            )
        )
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), 1e-6))
        self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.stochastic_depth(self.layer_scale * self.block(x))
        return branch + x


def convnext_tiny(
    *, norm: Norm = LayerNorm2d, activation: Activation = ACTIVATIONS["gelu"], drop: float = 0.1
) -> FeatureStack:
    """ConvNeXt-Tiny, randomly initialised: 27.82 M parameters, 22 units.

    Source: Liu et al. 2022, A ConvNet for the 2020s, section 2 and appendix A.1: layer normalisation over the channels
    of each pixel, GELU, and convolutions of their own for the halvings.

    Units are `features.0` (the 4x4 stem), `features.1.0` to `features.1.2` (blocks), `features.2` (a halving),
    `features.3.0`, ... up to `features.7.2`. The levels are the last blocks at strides 8, 16 and 32, without the layer
    normalisation that a classifier puts in front of its own. A side of s pixels gives floor(s / stride) cells; below 32
    pixels there is none, which is refused.

    Args:
        norm: after the stem, before each halving and in each block.
        drop: stochastic depth while training. Block i of 18 is left out with probability drop * i / 17 (table 5 has
            0.1), drawn from torch's generator; the training loop's seed for the step decides what is drawn.

    >>> [level.channels for level in convnext_tiny().levels]
    [192, 384, 768]
    """
    stages = [Stage([nn.Sequential(nn.Conv2d(3, WIDTHS[0], 4, 4), norm(WIDTHS[0]))], WIDTHS[0], 4)]
    number = 0
    for i, (width, depth) in enumerate(zip(WIDTHS, TINY, strict=True)):
        stride = 4 * 2**i
        if i > 0:
            before = WIDTHS[i - 1]
            stages.append(Stage([nn.Sequential(norm(before), nn.Conv2d(before, width, 2, 2))], width, stride))
        blocks = []
        for _ in range(depth):
            rate = drop * number / (sum(TINY) - 1)
            blocks.append(ConvNeXtBlock(width, norm=norm, activation=activation, drop=rate))
            number += 1
        stages.append(Stage([nn.Sequential(*blocks)], width, stride, split=True))
    network = FeatureStack("convnext-tiny", stages, least=32)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(module.weight, std=0.02)  # appendix A.1
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
