"""Residual networks, with the parameter names of torchvision's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.types import Level, Unit

WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the first may halve the size.

    Source: He et al. 2015, Deep Residual Learning for Image Recognition, section 3.2, figure 5 left. Where the shape
    changes, the shortcut is a strided 1x1 convolution (option B of section 3.3).
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(y + shortcut, inplace=True)


class Bottleneck(nn.Module):
    """A 1x1 convolution that narrows, a 3x3 that may halve the size, a 1x1 that widens, beside a shortcut.

    Source: He et al. 2015, Deep Residual Learning for Image Recognition, section 4.1, figure 5 right. There the first
    1x1 has the stride; here the 3x3 has it, as in the checkpoints of torchvision ("ResNet v1.5"): a strided 1x1 never
    sees three quarters of its input.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(y + shortcut, inplace=True)


Block = type[BasicBlock] | type[Bottleneck]


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """The 1x1 convolution of a shortcut, or None where input and output have the same shape."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class ResNet(nn.Module):
    """A stem, a max pooling and four layers of residual blocks; the classifier is left out.

    Source: He et al. 2015, Deep Residual Learning for Image Recognition, table 1.

    Args:
        block: the kind of residual block.
        depths: blocks in each of the four layers.

    `forward` takes normalised images f32 [B, 3, H, W] of any size and returns the maps of layer2, layer3 and layer4,
    at strides 8, 16 and 32; a side of s pixels gives a map of ceil(s / stride).
    """

    def __init__(self, block: Block, depths: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _layer(block, WIDTHS[0], WIDTHS[0], depths[0], stride=1)
        self.layer2 = _layer(block, WIDTHS[0] * block.expansion, WIDTHS[1], depths[1], stride=2)
        self.layer3 = _layer(block, WIDTHS[1] * block.expansion, WIDTHS[2], depths[2], stride=2)
        self.layer4 = _layer(block, WIDTHS[2] * block.expansion, WIDTHS[3], depths[3], stride=2)
        self.levels = tuple(
            Level(width * block.expansion, stride) for width, stride in zip(WIDTHS[1:], (8, 16, 32), strict=True)
        )
        blocks = [f"layer{i}.{b}" for i, depth in enumerate(depths, start=1) for b in range(depth)]
        self.units = (
            Unit("stem", ("conv1", "bn1")),
            Unit("maxpool", ("maxpool",)),
            *(Unit(name, (name,)) for name in blocks),
        )
        self._initialise()

    def _initialise(self) -> None:
        """Variance kept through rectifiers. Source: He et al. 2015, Delving Deep into Rectifiers, section 2.2."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.maxpool(F.relu(self.bn1(self.conv1(images)), inplace=True))
        x = self.layer1(x)
        map8 = self.layer2(x)
        map16 = self.layer3(map8)
        map32 = self.layer4(map16)
        return map8, map16, map32


def _layer(block: Block, in_channels: int, width: int, depth: int, stride: int) -> nn.Sequential:
    """`depth` blocks of the same width; the first does the striding."""
    first = block(in_channels, width, stride)
    return nn.Sequential(first, *(block(width * block.expansion, width) for _ in range(depth - 1)))


def resnet18() -> ResNet:
    """ResNet-18, randomly initialised: 11.18 M parameters, exactly 10 units.

    >>> [unit.name for unit in resnet18().units][:4]
    ['stem', 'maxpool', 'layer1.0', 'layer1.1']
    """
    return ResNet(BasicBlock, (2, 2, 2, 2))


def resnet34() -> ResNet:
    """ResNet-34, randomly initialised: 21.28 M parameters, 18 units.

    >>> len(resnet34().units)
    18
    """
    return ResNet(BasicBlock, (3, 4, 6, 3))


def resnet50() -> ResNet:
    """ResNet-50, randomly initialised: 23.51 M parameters, 18 units.

    >>> [level.channels for level in resnet50().levels]
    [512, 1024, 2048]
    """
    return ResNet(Bottleneck, (3, 4, 6, 3))


def without_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision ResNet state dict without its `fc.*`, ready for `ResNet.load_state_dict`."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
