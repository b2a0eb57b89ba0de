"""Inverted residuals: wide and depthwise in the middle, narrow at both ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from visionkit.nn.activations import ACTIVATIONS, Activation
from visionkit.nn.conv import conv_layers
from visionkit.nn.norms import Norm
from visionkit.nn.squeeze_excitation import SqueezeExcitation
from visionkit.nn.stochastic_depth import StochasticDepth


class InvertedResidual(nn.Module):
    """1x1 that widens, depthwise convolution, squeeze and excitation, 1x1 that narrows without activation; the input is
    added where the shape stays.

    Source: Sandler et al. 2018, MobileNetV2, section 3.3; with squeeze and excitation on the wide part: Howard et al.
    2019, MobileNetV3, section 5.3 and figure 4.

    Parameter names are torchvision's: `block.0`, `block.1`, ... counted over the parts that are there.

    Args:
        widened: channels in the middle; where they equal `in_channels` there is no widening 1x1.
        kernel: side of the depthwise convolution, odd.
        stride: of the depthwise convolution.
        norm: after every convolution.
        activation: after the first two.
        excitation: makes the squeeze and excitation of so many channels; None leaves it out.
        drop: probability that an image goes without this block while training; only where the input is added.
    """

    def __init__(
        self,
        in_channels: int,
        widened: int,
        out_channels: int,
        kernel: int,
        stride: int,
        *,
        norm: Norm = nn.BatchNorm2d,
        activation: Activation = ACTIVATIONS["relu6"],
        excitation: Callable[[int], SqueezeExcitation] | None = None,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        convolution = partial(conv_layers, norm=norm)
        parts: list[nn.Module] = []
        if widened != in_channels:
            parts.append(nn.Sequential(*convolution(in_channels, widened, activation=activation)))
        depthwise = convolution(widened, widened, kernel, stride, groups=widened, activation=activation)
        parts.append(nn.Sequential(*depthwise))
        if excitation is not None:
            parts.append(excitation(widened))
        parts.append(nn.Sequential(*convolution(widened, out_channels)))
        self.block = nn.Sequential(*parts)
        self.adds_input = stride == 1 and in_channels == out_channels
        self.stochastic_depth = StochasticDepth(drop if self.adds_input else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return self.stochastic_depth(y) + x if self.adds_input else y
