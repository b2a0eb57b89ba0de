"""The mask head: which places of a region belong to the object in it.

Source: He et al. 2017, Mask R-CNN, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from visionkit.nn.activations import ACTIVATIONS
from visionkit.nn.conv import conv_layers
from visionkit.nn.norms import Norm, no_norm
from visionkit.ops.global_count import global_count
from visionkit.ops.loss_sums import weighted_names
from visionkit.ops.mask_losses import OBJECT_MASK_LOSSES
from visionkit.ops.mask_targets import region_masks
from visionkit.ops.roi import roi_features
from visionkit.types import ClassRows, Level, Target

SIZE = 14
"""Bins on each side of a region; a mask has twice as many cells (figure 4)."""


@dataclass(frozen=True, slots=True)
class MaskOutputs:
    """What the head says of R regions that hold an object.

    Args:
        boxes: f32 [R, 4], the regions in pixels.
        gt_index: i64 [R], the place of each one's truth among those of all images of the batch, one after another.
        logits: [R, K, 28, 28], for each class whether a cell belongs to an object of it.
    """

    boxes: Tensor
    gt_index: Tensor
    logits: Tensor


class MaskHead(nn.Module):
    """Features of regions through 3x3 convolutions, a transposed one that doubles the size, and a mask a class.

    Args:
        levels: of the maps that regions are read from, all of one width, fine to coarse.
        classes: K.
        width: of the convolutions.
        depth: 3x3 convolutions.
        norm: after each of them.
        sampling: points a bin, on each side.
        mask_loss: a sum of `OBJECT_MASK_LOSSES` by name, see `weighted_names`; the paper's is binary cross-entropy.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        classes: int,
        width: int,
        *,
        depth: int = 4,
        norm: Norm = no_norm,
        sampling: int = 2,
        mask_loss: str = "bce",
    ) -> None:
        super().__init__()
        relu = ACTIVATIONS["relu"]
        self.strides = tuple(level.stride for level in levels)
        self.sampling = sampling
        self.loss_terms = weighted_names(mask_loss, OBJECT_MASK_LOSSES, "mask_loss")
        widths = [levels[0].channels, *[width] * depth]
        self.tower = nn.Sequential(
            *(
                nn.Sequential(*conv_layers(before, after, 3, norm=norm, activation=relu))
                for before, after in pairwise(widths)
            )
        )
        self.enlarge = nn.ConvTranspose2d(widths[-1], width, 2, 2)
        self.predictor = nn.Conv2d(width, classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def class_rows(self) -> dict[str, ClassRows]:
        """By name, the tensors with rows for each class."""
        return {"predictor.weight": ClassRows(), "predictor.bias": ClassRows()}

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, image: Tensor) -> Tensor:
        """Maps [B, C, H, W], of which the first P are read; boxes [R, 4] in the images `image` [R] -> logits [R, K, 28,
        28]."""
        levels = maps[: len(self.strides)]
        features = roi_features(levels, self.strides, boxes, image, size=SIZE, sampling=self.sampling)
        logits: Tensor = self.predictor(self.enlarge(self.tower(features)).relu())
        return logits

    def loss(self, outputs: MaskOutputs, targets: Sequence[Target]) -> Tensor:
        """The named losses of each region's mask of its own class, a mean over all regions whose object has a mask that
        is known. Source: section 3, the third term of the loss.
        """
        masks = [target.masks for target in targets if target.masks is not None]
        assert len(masks) == len(targets), "a model of masks learns from masks"
        known = torch.cat(masks).flatten(1).any(1)
        region = known[outputs.gt_index].nonzero().squeeze(1)
        truth = outputs.gt_index[region]
        gt_boxes, labels = (torch.cat([getattr(t, name) for t in targets])[truth] for name in ("boxes", "labels"))
        logits = outputs.logits[region, labels]
        wanted = region_masks(torch.cat(masks)[truth], gt_boxes, outputs.boxes[region], logits.shape[-1])
        each = [factor * OBJECT_MASK_LOSSES[name](logits, wanted) for name, factor in self.loss_terms.items()]
        return torch.stack(each).sum() / max(1, global_count(len(region)))
