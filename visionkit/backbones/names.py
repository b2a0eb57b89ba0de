"""The names of the backbones, to be read without torch; `visionkit.build.BACKBONES` has what they stand for."""

from __future__ import annotations

from typing import Literal, get_args

BackboneName = Literal[
    "csp-light",
    "lenet5",
    "alexnet",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "vgg11-bn",
    "vgg13-bn",
    "vgg16-bn",
    "vgg19-bn",
    "nin",
    "googlenet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "se-resnet18",
    "se-resnet34",
    "se-resnet50",
    "se-resnet101",
    "mobilenetv3-small",
    "mobilenetv3-large",
    "efficientnet-b0",
    "convnext-tiny",
]

TIMM = "timm/"
"""How the names of timm's networks begin here: `timm/resnet10t`."""


def is_backbone(name: str) -> bool:
    """Whether it is one of the names above or `timm/` with something behind it; only timm knows all of its own."""
    return name in get_args(BackboneName) or (name.startswith(TIMM) and name != TIMM)


BACKBONE_CHOICES = f"{', '.join(get_args(BackboneName))} or timm/NAME"
