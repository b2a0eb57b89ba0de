"""What stands behind the backbone of a detector that looks into regions, and the light form of it that the R-CNN family
has where no other is given.

The form of the papers is in `visionkit.models.torchvision_models`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from visionkit.models.assembly import levels_of
from visionkit.models.roi_head import RoiHead, RoiSettings, light_tower
from visionkit.models.rpn import ProposalSettings, RegionProposals
from visionkit.nn.fpn import Extra, FeaturePyramid
from visionkit.nn.norms import group_norm
from visionkit.nn.single_map import SingleMap
from visionkit.ops.roi import Pooling
from visionkit.types import Level

LIGHT_WIDTH = 96
LIGHT_FEATURES = 256
LIGHT_PROPOSALS = ProposalSettings(before_nms=(500, 300), after_nms=(300, 300))
LIGHT_REGIONS = RoiSettings(sampled=64, sampling=1)
"""As many regions an image as Fast R-CNN (section 2.3). One point a bin, because on a CPU the gradient of RoIAlign is a
slow scatter: with 128 regions and four points it took half of a step."""

SIZES_IN_STRIDES = (2.5, 4.0)
"""Anchors of the light form, in strides of their level: the sizes of all levels are each 1.6 times the one before or
a little less."""


@dataclass(frozen=True, slots=True)
class RegionParts:
    """The parts of Faster R-CNN behind its backbone.

    Args:
        neck: publishes `levels`, all of one width.
        rpn: of the neck's levels.
        head: reads regions from the first of them, as many as the backbone has.
    """

    neck: nn.Module
    rpn: RegionProposals
    head: RoiHead


def region_parts(
    levels: Sequence[Level],
    classes: int,
    *,
    neck: nn.Module | None,
    rpn: RegionProposals | None,
    head: RoiHead | None,
    box_loss: str,
    class_loss: str,
    single_level: bool,
) -> RegionParts:
    """The parts that are given, and light ones for the others.

    Args:
        levels: of the backbone.
        box_loss, class_loss, single_level: of what is not given; as `FasterRcnn` takes them.
    """
    neck = neck or light_neck(levels, "pool", single_level=single_level)
    of_neck = levels_of(neck)
    return RegionParts(
        neck,
        rpn or light_proposals(levels, of_neck, box_loss),
        head or light_head(of_neck[: len(levels)], classes, box_loss=box_loss, class_loss=class_loss),
    )


def light_neck(levels: Sequence[Level], extra: Extra, *, single_level: bool) -> nn.Module:
    """A narrow pyramid with a norm after each convolution; or the one map that it stands in place of."""
    if single_level:
        return SingleMap(levels)
    return FeaturePyramid(levels, LIGHT_WIDTH, norm=nn.BatchNorm2d, extra=extra)


def light_proposals(levels: Sequence[Level], of_neck: Sequence[Level], box_loss: str = "smooth-l1") -> RegionProposals:
    """Two sizes and three shapes of anchors a cell, 300 proposals an image. Where the neck has one level, its cells
    have the sizes that the levels of a pyramid would share (Ren et al. 2015, section 3.1.1, likewise has all on one).

    Args:
        levels: of the backbone.
        of_neck: that proposals are made on.
    """
    sizes = [[share * level.stride for share in SIZES_IN_STRIDES] for level in of_neck]
    if len(of_neck) == 1:
        of_pyramid = (*(level.stride for level in levels), 2 * levels[-1].stride)
        sizes = [[share * stride for stride in of_pyramid for share in SIZES_IN_STRIDES]]
    # Groups, not the batch: the tower sees maps of all levels, whose statistics differ.
    return RegionProposals(of_neck, sizes, norm=group_norm, settings=replace(LIGHT_PROPOSALS, box_loss=box_loss))


def light_head(
    levels: Sequence[Level],
    classes: int,
    *,
    pooling: Pooling = "align",
    box_loss: str = "smooth-l1",
    class_loss: str = "cross-entropy",
) -> RoiHead:
    """A narrow tower that learns from 64 regions an image."""
    settings = replace(LIGHT_REGIONS, pooling=pooling, box_loss=box_loss, class_loss=class_loss)
    tower = light_tower(levels[0].channels, settings.size, LIGHT_FEATURES)
    return RoiHead(levels, classes, tower, LIGHT_FEATURES, settings=settings)
