"""Network in network: after each convolution a small network of 1x1 convolutions."""

from __future__ import annotations

from torch import nn

from visionkit.backbones.feature_stack import FeatureStack, Stage
from visionkit.nn.activations import ACTIVATIONS, Activation
from visionkit.nn.conv import conv_layers
from visionkit.nn.initialise import kaiming
from visionkit.nn.norms import Norm, no_norm


def nin(*, norm: Norm = no_norm, activation: Activation = ACTIVATIONS["relu"], dropout: float = 0.0) -> FeatureStack:
    """NiN, randomly initialised: 7.62 M parameters, 7 units (mlpconv1, pool1, ... mlpconv3, pool3, mlpconv4).

    Source: Lin et al. 2013, Network In Network, section 3.1: an mlpconv layer is a convolution and, at each pixel, two
    fully connected layers, which are 1x1 convolutions. The paper's networks are for 32 pixels; kernels and widths here
    are those its authors published for ImageNet, in which the first convolution has stride 4, as in AlexNet. There the
    very last layer has one map a class, whose average is the class's score; here it has 1024, and classes are a
    classifier's.

    Convolutions and poolings are padded, so that a side of s pixels gives ceil(s / stride) cells.

    Args:
        norm: after every convolution.
        dropout: share of the last pooling's cells dropped while training. The authors drop half of them; that is meant
            for the average over a whole image, and a detector has to decide cell by cell.

    >>> [level.channels for level in nin().levels]
    [256, 384, 1024]
    """

    def mlpconv(in_channels: int, width: int, kernel: int, stride: int = 1) -> list[nn.Module]:
        layers = conv_layers(in_channels, width, kernel, stride, norm=norm, activation=activation)
        for _ in range(2):
            layers += conv_layers(width, width, norm=norm, activation=activation)
        return layers

    last_pool = [nn.MaxPool2d(3, 2, 1), *([nn.Dropout(dropout)] if dropout else [])]
    stages = (
        Stage(mlpconv(3, 96, 11, 4), 96, 4, "mlpconv1"),
        Stage([nn.MaxPool2d(3, 2, 1)], 96, 8, "pool1"),
        Stage(mlpconv(96, 256, 5), 256, 8, "mlpconv2"),
        Stage([nn.MaxPool2d(3, 2, 1)], 256, 16, "pool2"),
        Stage(mlpconv(256, 384, 3), 384, 16, "mlpconv3"),
        Stage(last_pool, 384, 32, "pool3"),
        Stage(mlpconv(384, 1024, 3), 1024, 32, "mlpconv4"),
    )
    network = FeatureStack("nin", stages)
    kaiming(network, "fan_in")
    return network
