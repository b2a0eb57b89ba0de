"""LeNet-5, the first of them: for pictures of a few dozen pixels."""

from __future__ import annotations

from torch import nn

from visionkit.backbones.feature_stack import FeatureStack, Stage
from visionkit.nn.activations import ACTIVATIONS, Activation
from visionkit.nn.conv import conv_layers
from visionkit.nn.initialise import xavier
from visionkit.nn.norms import Norm, no_norm


def lenet5(*, norm: Norm = no_norm, activation: Activation = ACTIVATIONS["tanh"]) -> FeatureStack:
    """LeNet-5, randomly initialised: 0.05 M parameters, 5 units (c1, s2, c3, s4, c5).

    Source: LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition, section II.B and figure 2. The
    fully connected F6 and the output belong to a classifier. What differs here:

    - Images have 3 channels and any size; convolutions are padded, so that a side of s gives ceil(s / stride). The
      paper's 32x32 pixels without padding end in one cell.
    - Every map of C3 sees all maps of S2; the paper's table I leaves out pairs to save work.
    - Subsampling is the plain average, without a coefficient and a bias to learn, and tanh is not scaled.

    Its levels have strides 2 and 4, no coarser: a cell of the last sees 32 pixels. That is enough for digits, not for a
    detector.

    >>> lenet5().levels
    (Level(channels=16, stride=2), Level(channels=120, stride=4))
    """
    c1 = conv_layers(3, 6, 5, norm=norm, activation=activation)
    c3 = conv_layers(6, 16, 5, norm=norm, activation=activation)
    c5 = conv_layers(16, 120, 5, norm=norm, activation=activation)
    stages = (
        Stage(c1, 6, 1, "c1"),
        Stage([nn.AvgPool2d(2, ceil_mode=True)], 6, 2, "s2"),
        Stage(c3, 16, 2, "c3"),
        Stage([nn.AvgPool2d(2, ceil_mode=True)], 16, 4, "s4"),
        Stage(c5, 120, 4, "c5"),
    )
    network = FeatureStack("lenet5", stages, strides=(2, 4))
    xavier(network)
    return network
