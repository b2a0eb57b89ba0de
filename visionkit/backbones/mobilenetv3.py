"""MobileNetV3, with the parameter names of torchvision's checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """A block in a table of the paper.

    Args:
        widened: "exp size".
        excited: SE.
        hard_swish: NL is HS, not RE.
    """

    kernel: int
    widened: int
    channels: int
    excited: bool
    hard_swish: bool
    stride: int


SMALL = (
    Row(3, 16, 16, True, False, 2),
    Row(3, 72, 24, False, False, 2),
    Row(3, 88, 24, False, False, 1),
    Row(5, 96, 40, True, True, 2),
    Row(5, 240, 40, True, True, 1),
    Row(5, 240, 40, True, True, 1),
    Row(5, 120, 48, True, True, 1),
    Row(5, 144, 48, True, True, 1),
    Row(5, 288, 96, True, True, 2),
    Row(5, 576, 96, True, True, 1),
    Row(5, 576, 96, True, True, 1),
)
LARGE = (
    Row(3, 16, 16, False, False, 1),
    Row(3, 64, 24, False, False, 2),
    Row(3, 72, 24, False, False, 1),
    Row(5, 72, 40, True, False, 2),
    Row(5, 120, 40, True, False, 1),
    Row(5, 120, 40, True, False, 1),
    Row(3, 240, 80, False, True, 2),
    Row(3, 200, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 480, 112, True, True, 1),
    Row(3, 672, 112, True, True, 1),
    Row(5, 672, 160, True, True, 2),
    Row(5, 960, 160, True, True, 1),
    Row(5, 960, 160, True, True, 1),
)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with eps 0.001, as in the published code.

    Section 6.1.1 averages its statistics with decay 0.99, over hundreds of epochs of ImageNet. In a run of some hundred
    steps they would still remember how they began (0 and 1), so here the decay is PyTorch's 0.9.
    """
    return nn.BatchNorm2d(channels, eps=0.001)


def mobilenetv3(
    rows: Sequence[Row], name: str, *, norm: Norm = batch_norm, activation: Activation | None = None
) -> FeatureStack:
    """A strided convolution, inverted residuals, and a 1x1 that widens; randomly initialised.

    Source: Howard et al. 2019, Searching for MobileNetV3, section 5 and tables 1 and 2, up to the pooling. Squeeze
    and excitation narrows to a quarter of the wide part (section 5.3), in multiples of 8; its gate is the hard
    sigmoid.

    Units are `features.0` (the strided convolution), `features.1` and on (the blocks) and the last 1x1. The levels are
    the last blocks at strides 8 and 16, and the last 1x1 at 32. A side of s pixels gives ceil(s / stride) cells.

    Args:
        rows: the blocks.
        name: how errors call the network.
        norm: after every convolution but those of squeeze and excitation.
        activation: in place of the paper's, which is ReLU in the first blocks and hard swish after them.
    """
    relu = activation or ACTIVATIONS["relu"]
    hard_swish = activation or ACTIVATIONS["hard-swish"]
    stages = [Stage([nn.Sequential(*conv_layers(3, 16, 3, 2, norm=norm, activation=hard_swish))], 16, 2)]
    for row in rows:
        before = stages[-1]
        block = InvertedResidual(
            before.channels,
            row.widened,
            row.channels,
            row.kernel,
            row.stride,
            norm=norm,
            activation=hard_swish if row.hard_swish else relu,
            excitation=_excitation if row.excited else None,
        )
        stages.append(Stage([block], row.channels, before.stride * row.stride))
    narrow = stages[-1].channels
    last = nn.Sequential(*conv_layers(narrow, 6 * narrow, norm=norm, activation=hard_swish))
    network = FeatureStack(name, [*stages, Stage([last], 6 * narrow, 32)])
    kaiming(network)
    return network


def _excitation(channels: int) -> SqueezeExcitation:
    return SqueezeExcitation(channels, multiple_of_8(channels / 4), gate=ACTIVATIONS["hard-sigmoid"])


def multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, from 8 on, that is not less than nine tenths of this.

    Source: the published code of MobileNetV2 and V3; the paper's tables have such numbers only.

    >>> [multiple_of_8(channels) for channels in (4, 18, 22, 30, 36, 144)]
    [8, 24, 24, 32, 40, 144]
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def mobilenetv3_small(*, norm: Norm = batch_norm, activation: Activation | None = None) -> FeatureStack:
    """MobileNetV3-Small: 0.93 M parameters, 13 units.

    >>> [level.channels for level in mobilenetv3_small().levels]
    [24, 48, 576]
    """
    return mobilenetv3(SMALL, "mobilenetv3-small", norm=norm, activation=activation)


def mobilenetv3_large(*, norm: Norm = batch_norm, activation: Activation | None = None) -> FeatureStack:
    """MobileNetV3-Large: 2.97 M parameters, 17 units.

    >>> [level.channels for level in mobilenetv3_large().levels]
    [40, 112, 960]
    """
    return mobilenetv3(LARGE, "mobilenetv3-large", norm=norm, activation=activation)
