"""Which network of torchvision's is the same as which of our backbones, and where it has our maps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Peer:
    """The same network in torchvision.

    Args:
        name: as torchvision calls it.
        ends: its children that return our maps; children of `features` where it has that.
        options, ours: what makes the two alike.
    """

    name: str
    ends: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)

    def forward(self, network: nn.Module, images: Tensor) -> list[Tensor]:
        """The maps, none later than the last of them: in these networks children follow each other."""
        maps = []
        x = images
        for name, child in getattr(network, "features", network).named_children():
            x = child(x)
            if name in self.ends:
                maps.append(x)
            if name == self.ends[-1]:
                break
        return maps


LAYERS = ("layer2", "layer3", "layer4")
PEERS = {
    "alexnet": Peer("alexnet", ("4", "11", "12"), ours={"whole_cells": False}),
    "vgg11": Peer("vgg11", ("14", "19", "20")),
    "vgg16": Peer("vgg16", ("22", "29", "30")),
    "vgg11-bn": Peer("vgg11_bn", ("20", "27", "28")),
    "vgg16-bn": Peer("vgg16_bn", ("32", "42", "43")),
    "googlenet": Peer(
        "googlenet", ("inception3b", "inception4e", "inception5b"), {"aux_logits": False, "init_weights": False}
    ),
    "resnet18": Peer("resnet18", LAYERS),
    "resnet34": Peer("resnet34", LAYERS),
    "resnet50": Peer("resnet50", LAYERS),
    "resnet101": Peer("resnet101", LAYERS),
    "mobilenetv3-small": Peer("mobilenet_v3_small", ("3", "8", "12")),
    "mobilenetv3-large": Peer("mobilenet_v3_large", ("6", "12", "16")),
    "efficientnet-b0": Peer("efficientnet_b0", ("3", "5", "8")),
    "convnext-tiny": Peer("convnext_tiny", ("3", "5", "7")),
}
