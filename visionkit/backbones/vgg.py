"""VGG: nothing but 3x3 convolutions and halvings, with the parameter names of torchvision's checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from visionkit.backbones.feature_stack import FeatureStack, Stage
from visionkit.nn.activations import ACTIVATIONS, Activation
from visionkit.nn.conv import conv_layers
from visionkit.nn.initialise import kaiming
from visionkit.nn.norms import Norm, no_norm

WIDTHS = (64, 128, 256, 512, 512)
RELU = ACTIVATIONS["relu"]


def vgg(depths: Sequence[int], name: str, *, norm: Norm = no_norm, activation: Activation = RELU) -> FeatureStack:
    """Five blocks of 3x3 convolutions, each followed by a max pooling that halves the size; randomly initialised.

    Source: Simonyan and Zisserman 2014, Very Deep Convolutional Networks for Large-Scale Image Recognition, section 2.1
    and table 1. Batch normalisation, of which the paper does not know yet, stands between convolution and ReLU.

    The levels are the last convolution at stride 8 (conv4), at stride 16 (conv5), and the last pooling, at 32. A side
    of s pixels gives floor(s / stride) cells; below 32 pixels there is none, which is refused. Units are `conv1_1`,
    `pool1`, `conv2_1`, ... as the authors name them.

    Args:
        depths: convolutions in each of the five blocks.
        name: how errors call the network.
        norm: after every convolution, which keeps its bias, as in torchvision's checkpoints.
    """
    stages: list[Stage] = []
    channels = 3
    for block, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True), start=1):
        for i in range(1, depth + 1):
            layers = conv_layers(channels, width, 3, bias=True, norm=norm, activation=activation)
            stages.append(Stage(layers, width, 2 ** (block - 1), f"conv{block}_{i}"))
            channels = width
        stages.append(Stage([nn.MaxPool2d(2)], width, 2**block, f"pool{block}"))
    network = FeatureStack(name, stages, least=32)
    kaiming(network, "fan_in")
    return network


def vgg11(*, norm: Norm = no_norm, activation: Activation = RELU) -> FeatureStack:
    """VGG-11 (column A): 9.22 M parameters, 13 units.

    >>> [unit.name for unit in vgg11().units][:4]
    ['conv1_1', 'pool1', 'conv2_1', 'pool2']
    """
    return vgg((1, 1, 2, 2, 2), "vgg11", norm=norm, activation=activation)


def vgg13(*, norm: Norm = no_norm, activation: Activation = RELU) -> FeatureStack:
    """VGG-13 (column B): 9.40 M parameters, 15 units."""
    return vgg((2, 2, 2, 2, 2), "vgg13", norm=norm, activation=activation)


def vgg16(*, norm: Norm = no_norm, activation: Activation = RELU) -> FeatureStack:
    """VGG-16 (column D): 14.71 M parameters, 18 units."""
    return vgg((2, 2, 3, 3, 3), "vgg16", norm=norm, activation=activation)


def vgg19(*, norm: Norm = no_norm, activation: Activation = RELU) -> FeatureStack:
    """VGG-19 (column E): 20.02 M parameters, 21 units."""
    return vgg((2, 2, 4, 4, 4), "vgg19", norm=norm, activation=activation)


def vgg11_bn(*, norm: Norm = nn.BatchNorm2d, activation: Activation = RELU) -> FeatureStack:
    """VGG-11 with batch normalisation: 9.23 M parameters, 13 units.

    >>> [unit.modules for unit in vgg11_bn().units][:2]
    [('features.0', 'features.1', 'features.2'), ('features.3',)]
    """
    return vgg11(norm=norm, activation=activation)


def vgg13_bn(*, norm: Norm = nn.BatchNorm2d, activation: Activation = RELU) -> FeatureStack:
    """VGG-13 with batch normalisation: 9.41 M parameters, 15 units."""
    return vgg13(norm=norm, activation=activation)


def vgg16_bn(*, norm: Norm = nn.BatchNorm2d, activation: Activation = RELU) -> FeatureStack:
    """VGG-16 with batch normalisation: 14.72 M parameters, 18 units."""
    return vgg16(norm=norm, activation=activation)


def vgg19_bn(*, norm: Norm = nn.BatchNorm2d, activation: Activation = RELU) -> FeatureStack:
    """VGG-19 with batch normalisation: 20.04 M parameters, 21 units."""
    return vgg19(norm=norm, activation=activation)
