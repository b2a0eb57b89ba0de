"""Convolution blocks that several networks share."""

from __future__ import annotations

from torch import Tensor, nn

from visionkit.nn.activations import ACTIVATIONS, Activation
from visionkit.nn.norms import Norm, no_norm

HARD_SWISH = ACTIVATIONS["hard-swish"]


def conv_layers(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    stride: int = 1,
    *,
    padding: int | None = None,
    groups: int = 1,
    bias: bool | None = None,
    norm: Norm = no_norm,
    activation: Activation | None = None,
) -> list[nn.Module]:
    """A convolution and what follows it, in order, for networks whose checkpoints count their layers.

    Args:
        padding: zeros on each side; half the kernel where not given, so that a side of s gives ceil(s / stride).
        bias: whether the convolution has one; where not given, if no normalisation follows to make it pointless.
        norm: `no_norm` leaves no layer behind.
        activation: None leaves it out.
    """
    if padding is None:
        padding = kernel // 2
    if bias is None:
        bias = norm is no_norm
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel, stride, padding, 1, groups, bias)]
    if norm is not no_norm:
        layers.append(norm(out_channels))
    if activation is not None:
        layers.append(activation(out_channels))
    return layers


class ConvNormAct(nn.Sequential):
    """Convolution, normalisation, activation. Keeps the size at stride 1 (kernel must be odd).

    The convolution has no bias where a norm follows, whose shift does its work.

    Hard swish (Howard et al. 2019, MobileNetV3, section 5.2) has the shape of SiLU without its exponential: the
    forward and backward passes of norm and activation together take three quarters of the time on a CPU.

    Parameter names: `conv.weight`, `norm.*`.

    Args:
        norm, activation: make the layer of that kind for so many channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        *,
        norm: Norm = nn.BatchNorm2d,
        activation: Activation = HARD_SWISH,
    ) -> None:
        super().__init__()
        bias = norm is no_norm
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = norm(out_channels)
        self.act = activation(out_channels)


class Residual(nn.Module):
    """A 1x1 convolution, then a 3x3, beside a shortcut. Source: Redmon and Farhadi 2018, YOLOv3, table 1 (Darknet-53),
    without the narrowing in between.

    Args:
        shortcut: whether the input is added to the result.
    """

    def __init__(
        self,
        channels: int,
        shortcut: bool = True,
        *,
        norm: Norm = nn.BatchNorm2d,
        activation: Activation = HARD_SWISH,
    ) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(channels, channels, norm=norm, activation=activation)
        self.conv2 = ConvNormAct(channels, channels, 3, norm=norm, activation=activation)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y
