"""The detectors that torchvision publishes weights of, built of our parts; `torchvision_names` translates the weights.

Published weights want the normalisation that they were trained with, which `TRAINED_NORMS` has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import nn

from visionkit.backbones.mobilenetv3 import mobilenetv3_large
from visionkit.backbones.resnet import resnet50
from visionkit.backbones.unit_maps import UnitMaps
from visionkit.models.faster_rcnn import FasterRcnn
from visionkit.models.mask_head import MaskHead
from visionkit.models.mask_rcnn import MaskRcnn
from visionkit.models.retinanet import RetinaNet, RetinaNetHead, octave_sizes
from visionkit.models.roi_head import RoiHead, RoiSettings, convolution_tower, two_layer_tower
from visionkit.models.rpn import ProposalSettings, RegionProposals
from visionkit.nn.fpn import FeaturePyramid
from visionkit.nn.norms import FrozenBatchNorm2d, Norm, no_norm
from visionkit.types import Level

WIDTH = 256
FEATURES = 1024
SIZES = (32, 64, 128, 256, 512)

TorchvisionName = Literal[
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
]

TorchvisionModel = FasterRcnn | RetinaNet | MaskRcnn


def _resnet50_maps(layers: Sequence[int], norm: Norm) -> UnitMaps:
    """ResNet-50 that gives the maps of these of its four layers."""
    ends = ("layer1.2", "layer2.3", "layer3.5", "layer4.2")
    levels = {ends[n - 1]: Level(128 * 2**n, 2 ** (n + 1)) for n in layers}
    return UnitMaps(resnet50(norm=norm), levels)


def faster_rcnn_resnet50(classes: int, *, norm: Norm = nn.BatchNorm2d) -> FasterRcnn:
    """`fasterrcnn_resnet50_fpn`. Source: Lin et al. 2017, Feature Pyramid Networks, section 4."""
    backbone = _resnet50_maps((1, 2, 3, 4), norm)
    neck = FeaturePyramid(backbone.levels, WIDTH, extra="pool")
    rpn = RegionProposals(neck.levels, [(size,) for size in SIZES])
    return FasterRcnn(backbone, classes, neck=neck, rpn=rpn, head=_wide_head(neck.levels[:4], classes))


def faster_rcnn_resnet50_v2(classes: int, *, norm: Norm = nn.BatchNorm2d) -> FasterRcnn:
    """`fasterrcnn_resnet50_fpn_v2`: norms in the pyramid, two convolutions before proposals, four in the head."""
    backbone = _resnet50_maps((1, 2, 3, 4), norm)
    neck = FeaturePyramid(backbone.levels, WIDTH, norm=norm, extra="pool")
    rpn = RegionProposals(neck.levels, [(size,) for size in SIZES], depth=2)
    head = _convolution_head(neck.levels[:4], classes, norm)
    return FasterRcnn(backbone, classes, neck=neck, rpn=rpn, head=head)


def faster_rcnn_mobilenetv3_large(classes: int, *, norm: Norm = nn.BatchNorm2d, proposals: int = 1000) -> FasterRcnn:
    """`fasterrcnn_mobilenet_v3_large_fpn`, and with 150 proposals `fasterrcnn_mobilenet_v3_large_320_fpn`.

    Both maps that the pyramid takes are at stride 32: the first block there and the last 1x1 convolution.

    Args:
        proposals: best anchors a level that enter suppression while predicting, and most proposals after it.
    """
    levels = {"features.13": Level(160, 32), "features.16": Level(960, 32)}
    backbone = UnitMaps(mobilenetv3_large(norm=norm), levels)
    neck = FeaturePyramid(backbone.levels, WIDTH, extra="pool")
    settings = ProposalSettings(before_nms=(2000, proposals), after_nms=(2000, proposals), score=0.05)
    rpn = RegionProposals(neck.levels, [SIZES] * 3, settings=settings)
    return FasterRcnn(backbone, classes, neck=neck, rpn=rpn, head=_wide_head(neck.levels[:2], classes))


def _wide_head(levels: Sequence[Level], classes: int) -> RoiHead:
    return RoiHead(levels, classes, two_layer_tower(WIDTH, RoiSettings().size, FEATURES), FEATURES)


def _convolution_head(levels: Sequence[Level], classes: int, norm: Norm) -> RoiHead:
    tower = convolution_tower(WIDTH, RoiSettings().size, norm, features=FEATURES)
    return RoiHead(levels, classes, tower, FEATURES)


def mask_rcnn_resnet50(classes: int, *, norm: Norm = nn.BatchNorm2d) -> MaskRcnn:
    """`maskrcnn_resnet50_fpn`. Source: He et al. 2017, Mask R-CNN, section 3.1."""
    backbone = _resnet50_maps((1, 2, 3, 4), norm)
    neck = FeaturePyramid(backbone.levels, WIDTH, extra="pool")
    rpn = RegionProposals(neck.levels, [(size,) for size in SIZES])
    head, mask = _wide_head(neck.levels[:4], classes), MaskHead(neck.levels[:4], classes, WIDTH)
    return MaskRcnn(backbone, classes, neck=neck, rpn=rpn, head=head, mask=mask)


def mask_rcnn_resnet50_v2(classes: int, *, norm: Norm = nn.BatchNorm2d) -> MaskRcnn:
    """`maskrcnn_resnet50_fpn_v2`: as `faster_rcnn_resnet50_v2`, with norms in the mask head too."""
    backbone = _resnet50_maps((1, 2, 3, 4), norm)
    neck = FeaturePyramid(backbone.levels, WIDTH, norm=norm, extra="pool")
    rpn = RegionProposals(neck.levels, [(size,) for size in SIZES], depth=2)
    head = _convolution_head(neck.levels[:4], classes, norm)
    mask = MaskHead(neck.levels[:4], classes, WIDTH, norm=norm)
    return MaskRcnn(backbone, classes, neck=neck, rpn=rpn, head=head, mask=mask)


def retinanet_resnet50(classes: int, *, norm: Norm = nn.BatchNorm2d) -> RetinaNet:
    """`retinanet_resnet50_fpn`. Source: Lin et al. 2017, Focal Loss, section 4."""
    backbone = _resnet50_maps((2, 3, 4), norm)
    neck = FeaturePyramid(backbone.levels, WIDTH, extra="convolve-p")
    head = RetinaNetHead(neck.levels, classes, octave_sizes(SIZES, whole=True), norm=no_norm)
    return RetinaNet(backbone, classes, neck=neck, head=head)


def retinanet_resnet50_v2(classes: int, *, norm: Norm = nn.BatchNorm2d) -> RetinaNet:
    """`retinanet_resnet50_fpn_v2`: group norms in the head, further levels from the backbone's last map."""
    backbone = _resnet50_maps((2, 3, 4), norm)
    neck = FeaturePyramid(backbone.levels, WIDTH, extra="convolve-c")
    head = RetinaNetHead(neck.levels, classes, octave_sizes(SIZES, whole=True), norm=partial(nn.GroupNorm, 32))
    return RetinaNet(backbone, classes, neck=neck, head=head)


TORCHVISION_MODELS: dict[TorchvisionName, Callable[..., TorchvisionModel]] = {
    "fasterrcnn_resnet50_fpn": faster_rcnn_resnet50,
    "fasterrcnn_resnet50_fpn_v2": faster_rcnn_resnet50_v2,
    "fasterrcnn_mobilenet_v3_large_fpn": faster_rcnn_mobilenetv3_large,
    "fasterrcnn_mobilenet_v3_large_320_fpn": partial(faster_rcnn_mobilenetv3_large, proposals=150),
    "retinanet_resnet50_fpn": retinanet_resnet50,
    "retinanet_resnet50_fpn_v2": retinanet_resnet50_v2,
    "maskrcnn_resnet50_fpn": mask_rcnn_resnet50,
    "maskrcnn_resnet50_fpn_v2": mask_rcnn_resnet50_v2,
}

# torchvision's first frozen norms had no eps; for the weights learnt under them it still leaves it out.
_WITHOUT_EPS: Norm = partial(FrozenBatchNorm2d, eps=0.0)

TRAINED_NORMS: dict[TorchvisionName, Norm] = {
    "fasterrcnn_resnet50_fpn": _WITHOUT_EPS,
    "fasterrcnn_resnet50_fpn_v2": nn.BatchNorm2d,
    "fasterrcnn_mobilenet_v3_large_fpn": FrozenBatchNorm2d,
    "fasterrcnn_mobilenet_v3_large_320_fpn": FrozenBatchNorm2d,
    "retinanet_resnet50_fpn": _WITHOUT_EPS,
    "retinanet_resnet50_fpn_v2": nn.BatchNorm2d,
    "maskrcnn_resnet50_fpn": _WITHOUT_EPS,
    "maskrcnn_resnet50_fpn_v2": nn.BatchNorm2d,
}
"""What follows the convolutions of the published weights of each."""
