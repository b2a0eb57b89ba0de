"""Residual networks with squeeze and excitation in every block."""

from __future__ import annotations

from torch import nn

from visionkit.backbones.resnet import RELU, BasicBlock, Bottleneck, ResNet
from visionkit.nn.activations import Activation
from visionkit.nn.norms import Norm

REDUCTION = 16


def se_resnet18(*, norm: Norm = nn.BatchNorm2d, activation: Activation = RELU) -> ResNet:
    """SE-ResNet-18, randomly initialised: 11.27 M parameters, the 10 units of ResNet-18.

    Source: Hu et al. 2018, Squeeze-and-Excitation Networks, section 3.3, figure 3 and table 1. In each
    block squeeze and excitation weighs the residual branch, before the input is added; it narrows to a 16th.

    The parameter names are those of ResNet with `se.fc1` and `se.fc2` in each block, so that a torchvision ResNet gives
    all weights but these.

    >>> len(se_resnet18().units)
    10
    """
    return ResNet(BasicBlock, (2, 2, 2, 2), norm=norm, activation=activation, reduction=REDUCTION)


def se_resnet34(*, norm: Norm = nn.BatchNorm2d, activation: Activation = RELU) -> ResNet:
    """SE-ResNet-34, randomly initialised: 21.45 M parameters, 18 units."""
    return ResNet(BasicBlock, (3, 4, 6, 3), norm=norm, activation=activation, reduction=REDUCTION)


def se_resnet50(*, norm: Norm = nn.BatchNorm2d, activation: Activation = RELU) -> ResNet:
    """SE-ResNet-50, randomly initialised: 26.04 M parameters, 18 units."""
    return ResNet(Bottleneck, (3, 4, 6, 3), norm=norm, activation=activation, reduction=REDUCTION)


def se_resnet101(*, norm: Norm = nn.BatchNorm2d, activation: Activation = RELU) -> ResNet:
    """SE-ResNet-101, randomly initialised: 47.28 M parameters, 35 units."""
    return ResNet(Bottleneck, (3, 4, 23, 3), norm=norm, activation=activation, reduction=REDUCTION)
