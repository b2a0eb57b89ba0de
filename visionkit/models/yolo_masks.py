"""YOLO with masks: as `yolo`, and of each detection the pixels that are the object's, at little more cost.

Source: Tian et al. 2020, Conditional Convolutions for Instance Segmentation (CondInst), on the detector of
`visionkit.models.yolo` instead of FCOS. What the masks are made of is in `visionkit.models.mask_kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from visionkit.models.assembly import levels_of, model_units, require_input_size, require_strides
from visionkit.models.mask_kernels import MaskKernels, object_masks
from visionkit.models.yolo import LossWeights, Yolo, YoloOutputs
from visionkit.ops.global_count import global_count
from visionkit.ops.loss_sums import weighted_names
from visionkit.ops.mask_losses import OBJECT_MASK_LOSSES
from visionkit.ops.mask_targets import region_masks
from visionkit.ops.matching import POSITIVE, match_task_aligned
from visionkit.ops.nms import best_pairs, nms_per_class
from visionkit.types import Detections, Losses, Target, Unit

CELLS = 28
"""On each side of a mask in its box, as Mask R-CNN says them."""

MOST_LEARNT = 64
"""Masks an image of the batch that a step learns from, on average: they bound its memory, about 10 MB an image."""


@dataclass(frozen=True, slots=True)
class YoloMasksOutputs(YoloOutputs):
    """What the network says of B images at A points, and what masks are made of.

    Args:
        kernels: [B, A, KERNEL_SIZE], of each point the weights of its object's network.
        features: [B, FEATURES, h, w], the map that all of these read.
    """

    kernels: Tensor
    features: Tensor


class YoloMasks(Yolo):
    """`Yolo` with a branch for masks beside its head. Boxes, scores and their losses are those of `Yolo`.

    Args: as `Yolo`, and
        mask_loss: a sum of `OBJECT_MASK_LOSSES` by name, see `weighted_names`.

    `forward`, `loss` and `predict` are the three verbs of every model; none depends on `self.training`.
    """

    says_masks: ClassVar[bool] = True
    """`loss` wants targets with masks, and `predict` says masks where it is asked to."""

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        neck_widths: Sequence[int] | None = None,
        weights: LossWeights | None = None,
        box_loss: str = "ciou",
        class_loss: str = "bce",
        mask_loss: str = "bce + dice",
    ) -> None:
        require_strides("yolo-masks", levels_of(backbone), (8, 16, 32))
        super().__init__(
            backbone, classes, neck_widths=neck_widths, weights=weights, box_loss=box_loss, class_loss=class_loss
        )
        self.mask = MaskKernels(self.neck.levels)
        self.loss_terms = weighted_names(mask_loss, OBJECT_MASK_LOSSES, "mask_loss")

    @property
    def units(self) -> tuple[Unit, ...]:
        """Those of `Yolo`, then the direct children of the mask branch: what `--freeze` counts."""
        return model_units(self, ("neck", "head", "mask"))

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Those of `Yolo`, then those of the masks."""
        return (*super().loss_names, *map(_loss_name, self.loss_terms))

    def forward(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]] | None = None,
        targets: Sequence[Target] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> YoloMasksOutputs:
        """u8 or float images [B, 3, H, W] in 0..255 -> raw outputs.

        Args:
            sizes, targets, proposals: ignored.

        Raises:
            UsageError: H or W is not divisible by the coarsest stride.
        """
        require_input_size(images, self.stride)
        maps = self.neck(self.backbone(self.normalize(images)))
        said: YoloOutputs = self.head(maps)
        kernels, features = self.mask(maps)
        return YoloMasksOutputs(said.class_logits, said.side_logits, said.points, said.strides, kernels, features)

    def loss(self, outputs: YoloOutputs, targets: Sequence[Target]) -> Losses:
        """The losses of `Yolo`, and of the masks those that are named: binary cross-entropy and Dice, both of weight 1.

        A positive point learns the mask of its truth in the box that it says itself, as it will be asked for it. Each
        counts as much as its match is good, as for boxes. Of a truth whose mask is not known none is learnt.
        Binary cross-entropy is that of Mask R-CNN, Dice that of CondInst (section 3.3).

        Args:
            targets: with masks.
        """
        assert isinstance(outputs, YoloMasksOutputs)
        return Losses({**super().loss(outputs, targets).parts, **self._mask_losses(outputs, targets)})

    def _mask_losses(self, outputs: YoloMasksOutputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        masks = [target.masks for target in targets if target.masks is not None]
        assert len(masks) == len(targets), "a model of masks learns from masks"
        gt_masks, gt_boxes = torch.cat(masks), torch.cat([target.boxes for target in targets])
        learnt = _points_to_learn(outputs, targets, gt_masks.flatten(1).any(1))
        counts = torch.bincount(learnt.image, minlength=len(targets)).tolist()
        kernels = outputs.kernels[learnt.image, learnt.point].split(counts)
        logits = torch.cat(
            [
                object_masks(of_image, self.mask.stride, own, boxes, CELLS)
                for of_image, own, boxes in zip(outputs.features, kernels, learnt.boxes.split(counts), strict=True)
            ]
        )
        wanted = region_masks(gt_masks[learnt.truth], gt_boxes[learnt.truth], learnt.boxes, CELLS)
        share = learnt.quality / global_count(learnt.quality.sum()).clamp(min=1)
        return {
            _loss_name(name): (factor * OBJECT_MASK_LOSSES[name](logits, wanted) * share).sum()
            for name, factor in self.loss_terms.items()
        }

    @torch.no_grad()
    def predict(
        self,
        outputs: YoloOutputs,
        *,
        score: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        masks: bool = True,
        candidates: int = 3000,
    ) -> list[Detections]:
        """Decisions, one Detections an image: those of `Yolo`, and the mask of each, of its point's kernel in its box.

        Args:
            score, iou, max_det, candidates: as for `Yolo`.
            masks: whether there are masks.
        """
        if not masks:
            return super().predict(outputs, score=score, iou=iou, max_det=max_det, candidates=candidates)
        assert isinstance(outputs, YoloMasksOutputs)
        found = []
        for boxes, scores, kernels, features in zip(
            outputs.boxes(), outputs.class_logits.float().sigmoid(), outputs.kernels, outputs.features, strict=True
        ):
            # `multiclass_nms`, but the points have to be known.
            point, label, confidence = best_pairs(scores, score=score, candidates=candidates)
            keep = nms_per_class(boxes[point], confidence, label, iou)[:max_det]
            logits = object_masks(features, self.mask.stride, kernels[point[keep]], boxes[point[keep]], CELLS)
            found.append(Detections(boxes[point[keep]], confidence[keep], label[keep], logits.sigmoid()))
        return found


def _loss_name(term: str) -> str:
    """What a term of `mask_loss` is called among the parts of `loss`."""
    return "mask" if term == "bce" else term


@dataclass(frozen=True, slots=True)
class _Learnt:
    """The M points of a batch that learn masks, image by image.

    Args:
        image, point: i64 [M], where.
        boxes: [M, 4], which they say themselves.
        truth: i64 [M], the place of each one's truth among those of all images, one after another.
        quality: [M], of their matches.
    """

    image: Tensor
    point: Tensor
    boxes: Tensor
    truth: Tensor
    quality: Tensor


@torch.no_grad()
def _points_to_learn(outputs: YoloOutputs, targets: Sequence[Target], known: Tensor) -> _Learnt:
    """The positive points whose truth has a mask that is known, bool [G]; of too many the best of each truth."""
    gt_boxes, gt_labels, gt_ignore = (
        torch.cat([getattr(target, name) for target in targets]) for name in ("boxes", "labels", "ignore")
    )
    counts = torch.tensor([len(target.labels) for target in targets], device=gt_boxes.device)
    gt_image = torch.arange(len(targets), device=gt_boxes.device).repeat_interleave(counts)
    boxes = outputs.boxes()
    scores = outputs.class_logits.float().sigmoid()
    matches = match_task_aligned(
        scores, boxes, outputs.points, outputs.strides, gt_boxes, gt_labels, gt_ignore, gt_image
    )
    image, point = (matches.label == POSITIVE).nonzero().unbind(1)
    learnt = known[matches.gt_index[image, point]].nonzero().squeeze(1)
    image, point = image[learnt], point[learnt]
    truth, quality = matches.gt_index[image, point], matches.quality[image, point]
    kept = best_of_each(truth, quality, MOST_LEARNT * len(targets))
    image, point = image[kept], point[kept]
    return _Learnt(image, point, boxes[image, point], truth[kept], quality[kept])


def best_of_each(truth: Tensor, quality: Tensor, most: int) -> Tensor:
    """Which of M points to take, i64 ascending, `most` of them or all: the best of each truth first, then the second of
    each, and so on; of the same place those of higher quality.

    Args:
        truth: i64 [M], which one a point belongs to.
        quality: [M] in [0, 1].

    >>> best_of_each(torch.tensor([0, 0, 0, 1]), torch.tensor([0.8, 0.9, 0.7, 0.2]), 3).tolist()
    [0, 1, 3]
    """
    order = quality.argsort(descending=True, stable=True)
    order = order[truth[order].argsort(stable=True)]  # truth by truth, the best first
    place = torch.arange(len(order), device=order.device) - torch.searchsorted(truth[order], truth[order])
    return order[(place - quality[order]).argsort(stable=True)[:most]].sort().values
