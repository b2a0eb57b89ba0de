"""AlexNet, with the parameter names of torchvision's checkpoint."""

from __future__ import annotations

from torch import nn

from visionkit.backbones.feature_stack import FeatureStack, Stage
from visionkit.nn.activations import ACTIVATIONS, Activation
from visionkit.nn.conv import conv_layers
from visionkit.nn.initialise import kaiming
from visionkit.nn.norms import Norm, no_norm


def alexnet(
    *, norm: Norm = no_norm, activation: Activation = ACTIVATIONS["relu"], whole_cells: bool = True
) -> FeatureStack:
    """AlexNet, randomly initialised: 2.47 M parameters, 8 units (conv1, pool1, conv2, pool2, conv3 to conv5, pool5).

    Source: Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Neural Networks, section 3.5, in the
    widths of Krizhevsky 2014, One weird trick, footnote 1, which torchvision has too: one tower instead of two, and no
    local response normalisation.

    Args:
        norm: after every convolution; the parameter names are torchvision's only without.
        whole_cells: pad the first convolution by 5 and the poolings by 1, so that a side of s pixels gives
            ceil(s / stride) cells, which tile the image; detectors count on that. False is torchvision's padding, 2 and
            0: 27, 13 and 6 cells of 224 pixels instead of 28, 14 and 7, and no image below 63 pixels. The weights are
            the same; in whole cells a window begins 3 pixels, and after each pooling one cell, further to the left.

    >>> [level.channels for level in alexnet().levels]
    [192, 256, 256]
    """
    first, pool = (5, 1) if whole_cells else (2, 0)

    def conv(in_channels: int, out_channels: int, kernel: int) -> list[nn.Module]:
        return conv_layers(in_channels, out_channels, kernel, bias=True, norm=norm, activation=activation)

    stages = (
        Stage(conv_layers(3, 64, 11, 4, padding=first, bias=True, norm=norm, activation=activation), 64, 4, "conv1"),
        Stage([nn.MaxPool2d(3, 2, pool)], 64, 8, "pool1"),
        Stage(conv(64, 192, 5), 192, 8, "conv2"),
        Stage([nn.MaxPool2d(3, 2, pool)], 192, 16, "pool2"),
        Stage(conv(192, 384, 3), 384, 16, "conv3"),
        Stage(conv(384, 256, 3), 256, 16, "conv4"),
        Stage(conv(256, 256, 3), 256, 16, "conv5"),
        Stage([nn.MaxPool2d(3, 2, pool)], 256, 32, "pool5"),
    )
    network = FeatureStack("alexnet", stages, least=1 if whole_cells else 63)
    kaiming(network, "fan_in")
    return network
