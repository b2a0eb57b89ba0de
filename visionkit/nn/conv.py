"""Convolution blocks that several networks share."""

from __future__ import annotations

from torch import Tensor, nn


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch normalisation, hard swish. Keeps the size at stride 1 (kernel must be odd).

    Hard swish (Howard et al. 2019, MobileNetV3, section 5.2) has the shape of SiLU without its exponential: the
    forward and backward passes of norm and activation together take three quarters of the time on a CPU.

    Parameter names: `conv.weight`, `norm.*`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.Hardswish(inplace=True)


class Residual(nn.Module):
    """A 1x1 convolution, then a 3x3, beside a shortcut. Source: Redmon and Farhadi 2018, YOLOv3, table 1 (Darknet-53),
    without the narrowing in between.

    Args:
        shortcut: whether the input is added to the result.
    """

    def __init__(self, channels: int, shortcut: bool = True) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(channels, channels)
        self.conv2 = ConvNormAct(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y
