"""EfficientNet, with the parameter names of torchvision's checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from visionkit.backbones.feature_stack import FeatureStack, Stage
from visionkit.nn.activations import ACTIVATIONS, Activation
from visionkit.nn.conv import conv_layers
from visionkit.nn.initialise import kaiming
from visionkit.nn.inverted_residual import InvertedResidual
from visionkit.nn.norms import Norm
from visionkit.nn.squeeze_excitation import SqueezeExcitation


@dataclass(frozen=True, slots=True)
class Row:
    """A stage of table 1: `depth` inverted residuals, widened `expansion` times, the first with the stride."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    depth: int


B0 = (
    Row(1, 3, 1, 16, 1),
    Row(6, 3, 2, 24, 2),
    Row(6, 5, 2, 40, 2),
    Row(6, 3, 2, 80, 3),
    Row(6, 5, 1, 112, 3),
    Row(6, 5, 2, 192, 4),
    Row(6, 3, 1, 320, 1),
)


def efficientnet_b0(
    *, norm: Norm = nn.BatchNorm2d, activation: Activation = ACTIVATIONS["swish"], drop: float = 0.2
) -> FeatureStack:
    """EfficientNet-B0, randomly initialised: 4.01 M parameters, 18 units.

    Source: Tan and Le 2019, EfficientNet, section 4 and table 1, up to the pooling. Squeeze and excitation narrows to a
    quarter of the channels that enter the block, and its activation is the block's.

    Units are `features.0` (the strided convolution), `features.1.0` to `features.7.0` (the 16 blocks) and `features.8`
    (the last 1x1). The levels are the last blocks at strides 8 and 16, and the last 1x1 at 32. A side of s pixels gives
    ceil(s / stride) cells.

    Args:
        norm: after every convolution but those of squeeze and excitation.
        drop: stochastic depth while training. Block i of 16 is left out with probability drop * i / 16 (section 5.2 has
            0.2), drawn from torch's generator; the training loop's seed for the step decides what is drawn.

    >>> [level.channels for level in efficientnet_b0().levels]
    [40, 112, 1280]
    """
    stages = [Stage([nn.Sequential(*conv_layers(3, 32, 3, 2, norm=norm, activation=activation))], 32, 2)]
    total = sum(row.depth for row in B0)
    for row in B0:
        channels = stages[-1].channels
        first = sum(before.depth for before in B0[: B0.index(row)])
        blocks: list[nn.Module] = []
        for i in range(row.depth):
            block = InvertedResidual(
                channels,
                channels * row.expansion,
                row.channels,
                row.kernel,
                row.stride if i == 0 else 1,
                norm=norm,
                activation=activation,
                excitation=partial(SqueezeExcitation, squeezed=channels // 4, activation=activation),
                drop=drop * (first + i) / total,
            )
            blocks.append(block)
            channels = row.channels
        stages.append(Stage([nn.Sequential(*blocks)], channels, stages[-1].stride * row.stride, split=True))
    last = nn.Sequential(*conv_layers(320, 1280, norm=norm, activation=activation))
    network = FeatureStack("efficientnet-b0", [*stages, Stage([last], 1280, 32)])
    kaiming(network)
    return network
