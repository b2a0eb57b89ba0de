"""Every backbone, norm and activation in an ONNX graph, traced at one size and run at others, against PyTorch.

Tracing takes as long as there are layers, so of blocks that follow each other and are alike there is one: every kind of
layer is there, and every level is read by the head, which is the same for all.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path

import pytest
from sure_models import CLASSES, SIDE, in_torch, pictures, sure_model
from torch import nn

from visionkit.backbones import convnext, efficientnet, googlenet
from visionkit.backbones.feature_stack import FeatureStack, Stage
from visionkit.backbones.googlenet import GoogLeNet
from visionkit.backbones.mobilenetv3 import SMALL, mobilenetv3
from visionkit.backbones.resnet import BasicBlock, Bottleneck, ResNet
from visionkit.backbones.vgg import vgg
from visionkit.build import BACKBONES
from visionkit.exporting.onnx_file import about, write_onnx
from visionkit.exporting.parity import MapParity
from visionkit.nn.activations import ACTIVATIONS
from visionkit.nn.conv import conv_layers
from visionkit.nn.norms import NORMS

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")), reason="ONNX is not installed"
)

ONE_EACH = (1, 1, 1, 1)
SIZES = ((1, SIDE, SIDE), (3, 64, 192), (1, 320, 96), (1, 64, 64))


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], nn.Module]]:
    """By a name that the recipe can have, a network of each kind with every block of it once."""
    some = {name: googlenet.INCEPTIONS[name] for name in ("3b", "4e", "5b")}
    monkeypatch.setattr(googlenet, "INCEPTIONS", some)
    monkeypatch.setattr(convnext, "TINY", ONE_EACH)
    monkeypatch.setattr(efficientnet, "B0", tuple(replace(row, depth=1) for row in efficientnet.B0))
    rows = [SMALL[i] for i in (0, 1, 3, 8)]  # plain and excited, with ReLU and hard swish, of stride 4, 8, 16 and 32
    return {
        "alexnet": BACKBONES["alexnet"],
        "vgg11-bn": lambda: vgg((1, 1, 1, 1, 1), "vgg", norm=nn.BatchNorm2d),
        "nin": BACKBONES["nin"],
        "googlenet": GoogLeNet,
        "resnet18": lambda: ResNet(BasicBlock, ONE_EACH),
        "se-resnet50": lambda: ResNet(Bottleneck, ONE_EACH, reduction=16),
        "mobilenetv3-small": lambda: mobilenetv3(rows, "mobilenetv3"),
        "efficientnet-b0": BACKBONES["efficientnet-b0"],
        "convnext-tiny": BACKBONES["convnext-tiny"],
    }


KINDS = {
    "alexnet": "alexnet",
    # In a graph batch norms are folded into convolutions.
    **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19", "vgg11-bn", "vgg13-bn", "vgg16-bn", "vgg19-bn"), "vgg11-bn"),
    "nin": "nin",
    "googlenet": "googlenet",
    **dict.fromkeys(("resnet18", "resnet34"), "resnet18"),
    **dict.fromkeys(("resnet50", "resnet101", "resnet152"), "se-resnet50"),
    **dict.fromkeys(("se-resnet18", "se-resnet34", "se-resnet50", "se-resnet101"), "se-resnet50"),
    **dict.fromkeys(("mobilenetv3-small", "mobilenetv3-large"), "mobilenetv3-small"),
    "efficientnet-b0": "efficientnet-b0",
    "convnext-tiny": "convnext-tiny",
    # Under heads of test_graphs; LeNet-5 is too fine for this one.
    **dict.fromkeys(("csp-light", "lenet5"), ""),
}
"""Which of them each backbone is a deeper or wider one of."""


def test_no_backbone_is_forgotten(shallow: dict[str, Callable[[], nn.Module]]) -> None:
    assert set(KINDS) == set(BACKBONES)
    assert set(KINDS.values()) - {""} == set(shallow)


def largest_difference(make: Callable[[], nn.Module], path: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    """Of a class probability of a pixel, between a segmenter on a network and its graph, for images of all sizes."""
    from visionkit.predict.onnx_backend import open_onnx

    monkeypatch.setitem(BACKBONES, "resnet18", make)
    model, recipe = sure_model("fcn8s", backbone="resnet18")
    card = about(model, name="n", classes=CLASSES, image_size=SIDE, sha256="", recipe=recipe.model_dump(mode="json"))
    write_onnx(model, card, path)
    ours, theirs, parity = in_torch(model), open_onnx(path, threads=1), MapParity()
    for count, height, width in SIZES:
        images = pictures(count, height, width)
        asked = {"score": 0.0, "iou": None, "max_det": 1}
        parity.add(ours.run(images, **asked), list(theirs.run(images, **asked)))
    assert parity.images == sum(count for count, _, _ in SIZES)
    assert parity.unmatched <= 1e-4 * parity.pixels
    assert parity.largest_score_difference is not None
    return parity.largest_score_difference


@pytest.mark.parametrize("kind", sorted(set(KINDS.values()) - {""}))
def test_a_backbone_says_the_same(
    kind: str, shallow: dict[str, Callable[[], nn.Module]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert largest_difference(shallow[kind], tmp_path / "graph.onnx", monkeypatch) < 1e-4


def stack_of_all() -> FeatureStack:
    """A network of as many convolutions as there are activations, each behind another, and behind another norm."""
    stages: list[Stage] = []
    channels = 3
    for i, (activation, norm) in enumerate(zip(ACTIVATIONS, cycle(NORMS), strict=False)):
        width = 8 + 8 * (i % 2)
        layers = conv_layers(
            channels, width, 3, 2 if i < 5 else 1, norm=NORMS[norm], activation=ACTIVATIONS[activation]
        )
        stages.append(Stage(layers, width, 2 ** min(i + 1, 5)))
        channels = width
    return FeatureStack("stack", stages)


def test_every_norm_and_activation_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(ACTIVATIONS) >= len(NORMS)
    assert largest_difference(stack_of_all, tmp_path / "graph.onnx", monkeypatch) < 1e-4
