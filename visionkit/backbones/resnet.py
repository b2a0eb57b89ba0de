"""Residual networks, with the parameter names of torchvision's checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from visionkit.nn.activations import ACTIVATIONS, Activation
from visionkit.nn.initialise import kaiming
from visionkit.nn.norms import Norm, no_norm
from visionkit.nn.squeeze_excitation import SqueezeExcitation
from visionkit.types import Level, Unit

WIDTHS = (64, 128, 256, 512)
RELU = ACTIVATIONS["relu"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the first may halve the size.

    Source: He et al. 2015, Deep Residual Learning for Image Recognition, section 3.2, figure 5 left. Where the shape
    changes, the shortcut is a strided 1x1 convolution (option B of section 3.3).
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int = 1,
        *,
        norm: Norm = nn.BatchNorm2d,
        activation: Activation = RELU,
        reduction: int | None = None,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        out_channels = width * self.expansion
        bias = norm is no_norm
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=dilation, dilation=dilation, bias=bias)
        self.bn1 = norm(width)
        self.act1 = activation(width)
        self.conv2 = nn.Conv2d(width, out_channels, 3, padding=dilation, dilation=dilation, bias=bias)
        self.bn2 = norm(out_channels)
        self.act2 = activation(out_channels)
        self.se = _excitation(out_channels, reduction)
        self.downsample = _projection(in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y = y if self.se is None else self.se(y)
        shortcut = x if self.downsample is None else self.downsample(x)
        result: Tensor = self.act2(y + shortcut)
        return result


class Bottleneck(nn.Module):
    """A 1x1 convolution that narrows, a 3x3 that may halve the size, a 1x1 that widens, beside a shortcut.

    Source: He et al. 2015, Deep Residual Learning for Image Recognition, section 4.1, figure 5 right. There the first
    1x1 has the stride; here the 3x3 has it, as in the checkpoints of torchvision ("ResNet v1.5"): a strided 1x1 never
    sees three quarters of its input.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int = 1,
        *,
        norm: Norm = nn.BatchNorm2d,
        activation: Activation = RELU,
        reduction: int | None = None,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        out_channels = width * self.expansion
        bias = norm is no_norm
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=bias)
        self.bn1 = norm(width)
        self.act1 = activation(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, bias=bias)
        self.bn2 = norm(width)
        self.act2 = activation(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=bias)
        self.bn3 = norm(out_channels)
        self.act3 = activation(out_channels)
        self.se = _excitation(out_channels, reduction)
        self.downsample = _projection(in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.act2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y = y if self.se is None else self.se(y)
        shortcut = x if self.downsample is None else self.downsample(x)
        result: Tensor = self.act3(y + shortcut)
        return result


Block = type[BasicBlock] | type[Bottleneck]


def _projection(in_channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Sequential | None:
    """The 1x1 convolution of a shortcut, or None where input and output have the same shape."""
    if stride == 1 and in_channels == out_channels:
        return None
    convolution = nn.Conv2d(in_channels, out_channels, 1, stride, bias=norm is no_norm)
    return nn.Sequential(convolution, norm(out_channels))


def _excitation(channels: int, reduction: int | None) -> SqueezeExcitation | None:
    return None if reduction is None else SqueezeExcitation(channels, channels // reduction)


class ResNet(nn.Module):
    """A stem, a max pooling and four layers of residual blocks; the classifier is left out.

    Source: He et al. 2015, Deep Residual Learning for Image Recognition, table 1.

    Args:
        block: the kind of residual block.
        depths: blocks in each of the four layers.
        norm, activation: make the layer of that kind for so many channels.
        reduction: how many times squeeze and excitation narrows in each block; None: there is none.
        dilated: how many of the last layers, at most two, keep the size of their input and spread their 3x3
            convolutions instead, so that each weight still sees what it would have seen (Yu et al. 2017, Dilated
            Residual Networks, section 2). With 2 all three maps are at stride 8.

    `forward` takes normalised images f32 [B, 3, H, W] of any size and returns the maps of layer2, layer3 and layer4,
    at strides 8, 16 and 32; a side of s pixels gives a map of ceil(s / stride).
    """

    def __init__(
        self,
        block: Block,
        depths: Sequence[int],
        *,
        norm: Norm = nn.BatchNorm2d,
        activation: Activation = RELU,
        reduction: int | None = None,
        dilated: int = 0,
    ) -> None:
        super().__init__()
        assert 0 <= dilated <= 2
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, stride=2, padding=3, bias=norm is no_norm)
        self.bn1 = norm(WIDTHS[0])
        self.act1 = activation(WIDTHS[0])
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        make = partial(block, norm=norm, activation=activation, reduction=reduction)
        self.layer1 = _layer(make, WIDTHS[0], WIDTHS[0], depths[0], stride=1)
        layers, levels, stride, spread = [], [], 4, 1
        for number, (width, depth) in enumerate(zip(WIDTHS[1:], depths[1:], strict=True), start=2):
            halves = number <= 4 - dilated
            # The first block of a layer that keeps its size sees a map that is spread as the layer before.
            before, spread = spread, spread if halves else 2 * spread
            stride = 2 * stride if halves else stride
            in_channels = width // 2 * block.expansion
            layers.append(_layer(make, in_channels, width, depth, 2 if halves else 1, dilations=(before, spread)))
            levels.append(Level(width * block.expansion, stride))
        self.layer2, self.layer3, self.layer4 = layers
        self.levels = tuple(levels)
        blocks = [f"layer{i}.{b}" for i, depth in enumerate(depths, start=1) for b in range(depth)]
        self.units = (
            Unit("stem", ("conv1", "bn1", "act1")),
            Unit("maxpool", ("maxpool",)),
            *(Unit(name, (name,)) for name in blocks),
        )
        kaiming(self)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.maxpool(self.act1(self.bn1(self.conv1(images))))
        x = self.layer1(x)
        map8 = self.layer2(x)
        map16 = self.layer3(map8)
        map32 = self.layer4(map16)
        return map8, map16, map32


def _layer(
    make: Callable[..., BasicBlock | Bottleneck],
    in_channels: int,
    width: int,
    depth: int,
    stride: int,
    dilations: tuple[int, int] = (1, 1),
) -> nn.Sequential:
    """`depth` blocks of the same width; the first does the striding. `dilations` are the first's and the others'."""
    first = make(in_channels, width, stride, dilation=dilations[0])
    others = (make(width * first.expansion, width, dilation=dilations[1]) for _ in range(depth - 1))
    return nn.Sequential(first, *others)


def resnet18(*, norm: Norm = nn.BatchNorm2d, activation: Activation = RELU) -> ResNet:
    """ResNet-18, randomly initialised: 11.18 M parameters, exactly 10 units.

    >>> [unit.name for unit in resnet18().units][:4]
    ['stem', 'maxpool', 'layer1.0', 'layer1.1']
    """
    return ResNet(BasicBlock, (2, 2, 2, 2), norm=norm, activation=activation)


def resnet34(*, norm: Norm = nn.BatchNorm2d, activation: Activation = RELU) -> ResNet:
    """ResNet-34, randomly initialised: 21.28 M parameters, 18 units.

    >>> len(resnet34().units)
    18
    """
    return ResNet(BasicBlock, (3, 4, 6, 3), norm=norm, activation=activation)


def resnet50(*, norm: Norm = nn.BatchNorm2d, activation: Activation = RELU, dilated: int = 0) -> ResNet:
    """ResNet-50, randomly initialised: 23.51 M parameters, 18 units.

    Args:
        dilated: see `ResNet`.

    >>> [level.channels for level in resnet50().levels]
    [512, 1024, 2048]
    """
    return ResNet(Bottleneck, (3, 4, 6, 3), norm=norm, activation=activation, dilated=dilated)


def resnet101(*, norm: Norm = nn.BatchNorm2d, activation: Activation = RELU) -> ResNet:
    """ResNet-101, randomly initialised: 42.50 M parameters, 35 units."""
    return ResNet(Bottleneck, (3, 4, 23, 3), norm=norm, activation=activation)


def resnet152(*, norm: Norm = nn.BatchNorm2d, activation: Activation = RELU) -> ResNet:
    """ResNet-152, randomly initialised: 58.14 M parameters, 52 units."""
    return ResNet(Bottleneck, (3, 8, 36, 3), norm=norm, activation=activation)
