"""YOLO: one-stage detection on a grid of cells at several scales, anchor-free, trained end to end.

The grid of cells is Redmon et al. 2016, You Only Look Once. What each cell predicts and how it learns is later work:
distances to the four sides (Tian et al. 2019, FCOS) as distributions (Li et al. 2020, Generalized Focal Loss), a head
whose classification and localisation are apart (Ge et al. 2021, YOLOX, section 2.1), and task-aligned assignment
(Feng et al. 2021, TOOD).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from visionkit.models.assembly import levels_of, model_units, require_input_size, require_strides
from visionkit.models.explanation import Assigned, Candidates, assigned_by
from visionkit.nn.conv import ConvNormAct
from visionkit.nn.normalize import Normalize
from visionkit.nn.pan import PathAggregation
from visionkit.ops.anchors import anchor_points
from visionkit.ops.box_coding import decode_distances, encode_distances, expected_distances
from visionkit.ops.global_count import global_count
from visionkit.ops.losses import (
    BOX_LOSSES,
    QUALITY_LOSSES,
    classification_loss,
    distribution_focal_loss,
    named_loss,
)
from visionkit.ops.matching import IGNORE, POSITIVE, match_task_aligned
from visionkit.ops.nms import best_pairs, multiclass_nms
from visionkit.types import ClassRows, Detections, Level, Losses, Target, Task, Unit

BINS = 16
"""Whole numbers of the distance distributions: a side is at most 15 strides from its point."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What each loss counts in the sum. Source: Xu et al. 2022, PP-YOLOE, equation 4."""

    classes: float = 1.0
    box: float = 2.5
    distribution: float = 0.5


@dataclass(frozen=True, slots=True)
class YoloOutputs:
    """What the network says of B images at A points, before any decision.

    Args:
        class_logits: [B, A, K].
        side_logits: [B, A, 4 * BINS], left, top, right, bottom.
        points: f32 [A, 2], x y in network pixels.
        strides: f32 [A].
    """

    class_logits: Tensor
    side_logits: Tensor
    points: Tensor
    strides: Tensor

    def boxes(self) -> Tensor:
        """f32 [B, A, 4] x1 y1 x2 y2 in network pixels."""
        return decode_distances(expected_distances(self.side_logits), self.points, self.strides)


class YoloHead(nn.Module):
    """Two towers of convolutions a level, one for the class and one for the sides, each ending in a 1x1 predictor."""

    def __init__(self, levels: Sequence[Level], classes: int, width: int = 64) -> None:
        super().__init__()
        self.class_towers = nn.ModuleList(_separable_tower(level.channels, width) for level in levels)
        self.side_towers = nn.ModuleList(_dense_tower(level.channels, width) for level in levels)
        self.class_predictors = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in levels)
        self.side_predictors = nn.ModuleList(nn.Conv2d(width, 4 * BINS, 1) for _ in levels)
        self.strides = tuple(level.stride for level in levels)
        self.reset_predictors()

    def reset_predictors(self) -> None:
        """Start as a fresh predictor should: every class rare, every box some strides wide."""
        # Focal Loss (Lin et al. 2017), section 4.1: begin at a low prior, or background swamps the first steps.
        prior = 0.01
        for predictor in (*self.class_predictors, *self.side_predictors):
            nn.init.normal_(cast(nn.Conv2d, predictor).weight, std=0.01)
        for predictor in self.class_predictors:
            nn.init.constant_(cast(Tensor, predictor.bias), math.log(prior / (1 - prior)))
        for predictor in self.side_predictors:
            nn.init.zeros_(cast(Tensor, predictor.bias))

    def forward(self, maps: Sequence[Tensor]) -> YoloOutputs:
        class_logits, side_logits = [], []
        for level, x in enumerate(maps):
            class_map = self.class_predictors[level](self.class_towers[level](x))
            side_map = self.side_predictors[level](self.side_towers[level](x))
            class_logits.append(class_map.flatten(2).transpose(1, 2))
            side_logits.append(side_map.flatten(2).transpose(1, 2))
        shapes = [(x.shape[-2], x.shape[-1]) for x in maps]
        points, strides = anchor_points(shapes, self.strides, maps[0].device)
        return YoloOutputs(torch.cat(class_logits, 1), torch.cat(side_logits, 1), points, strides)


def _dense_tower(in_channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(ConvNormAct(in_channels, width, 3), ConvNormAct(width, width, 3))


def _separable_tower(in_channels: int, width: int) -> nn.Sequential:
    """Narrow, then look around by a depthwise 3x3 and a pointwise 1x1: telling classes apart needs less position than
    finding sides. Source: Howard et al. 2017, MobileNets, section 3.1. (A 5x5 takes 25 times as long to learn from on
    a CPU, for which oneDNN has no quick weight gradient.)"""
    return nn.Sequential(
        ConvNormAct(in_channels, width),
        ConvNormAct(width, width, 3, groups=width),
        ConvNormAct(width, width),
    )


class Yolo(nn.Module):
    """A backbone, a path aggregation neck and the two-tower head.

    Args:
        backbone: publishes `levels` and `units`; its forward returns one map a level.
        classes: K, number of classes.
        neck_widths: channels of the neck's levels; the backbone's own, up to 64, 128, 256, where not given.
        box_loss: a name of `BOX_LOSSES`.
        class_loss: a name of `QUALITY_LOSSES`.

    `forward`, `loss` and `predict` are the three verbs of every model; none depends on `self.training`.
    """

    task: ClassVar[Task] = "detect"
    says_masks: ClassVar[bool] = False
    wants_proposals: ClassVar[bool] = False
    weighs_classes: ClassVar[bool] = False
    snug: ClassVar[bool] = True

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        neck_widths: Sequence[int] | None = None,
        weights: LossWeights | None = None,
        box_loss: str = "ciou",
        class_loss: str = "bce",
    ) -> None:
        super().__init__()
        levels = levels_of(backbone)
        require_strides("yolo", levels, (8, 16, 32))
        widths = neck_widths or [min(level.channels, 64 * 2**p) for p, level in enumerate(levels)]
        self.normalize = Normalize()
        self.backbone = backbone
        self.neck = PathAggregation(levels, widths)
        self.head = YoloHead(self.neck.levels, classes)
        self.classes = classes
        self.weights = weights or LossWeights()
        self.box_loss = named_loss(BOX_LOSSES, box_loss, "box_loss of yolo")
        self.class_loss = named_loss(QUALITY_LOSSES, class_loss, "class_loss of yolo")

    @property
    def units(self) -> tuple[Unit, ...]:
        """The backbone's units, then the direct children of neck and head that learn: what `--freeze` counts."""
        return model_units(self, ("neck", "head"))

    @property
    def loss_names(self) -> tuple[str, ...]:
        """What the parts of `loss` are called."""
        return ("class", "box", "distribution")

    @property
    def class_rows(self) -> dict[str, ClassRows]:
        """By name, the tensors with rows for each class: of each level's predictor."""
        predictors = self.head.class_predictors.state_dict()
        return {f"head.class_predictors.{name}": ClassRows() for name in predictors}

    @property
    def stride(self) -> int:
        """Image sides must be divisible by this many pixels."""
        return max(self.head.strides)

    def forward(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]] | None = None,
        targets: Sequence[Target] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> YoloOutputs:
        """u8 or float images [B, 3, H, W] in 0..255 -> raw outputs.

        Args:
            sizes, targets, proposals: ignored.

        Raises:
            UsageError: H or W is not divisible by the coarsest stride.
        """
        require_input_size(images, self.stride)
        outputs: YoloOutputs = self.head(self.neck(self.backbone(self.normalize(images))))
        return outputs

    def loss(self, outputs: YoloOutputs, targets: Sequence[Target]) -> Losses:
        """Class, box and distribution losses of a batch, normalised by the total quality of its matches."""
        truth = _match_batch(outputs, targets)
        class_loss = classification_loss(outputs.class_logits, truth.soft_classes, truth.weights, self.class_loss).sum()

        # Only positive points learn sides: decoding the others with gradients would be most of the work.
        image, point = truth.positive
        points, strides = outputs.points[point], outputs.strides[point]
        side_logits = outputs.side_logits[image, point]
        boxes = decode_distances(expected_distances(side_logits), points, strides)
        box_loss = (self.box_loss(boxes, truth.boxes) * truth.quality).sum()
        distances = encode_distances(truth.boxes, points, strides)
        side_loss = (distribution_focal_loss(side_logits, distances) * truth.quality).sum()

        normaliser = global_count(truth.quality.sum()).clamp(min=1)
        return Losses(
            {
                "class": self.weights.classes * class_loss / normaliser,
                "box": self.weights.box * box_loss / normaliser,
                "distribution": self.weights.distribution * side_loss / normaliser,
            }
        )

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
        """Decisions, one Detections an image: every (point, class) of at least `score`, suppressed per class.

        Args:
            score: lowest score kept.
            iou: overlap above which the worse box of a class goes.
            max_det: most detections an image.
            masks: ignored: there are none.
            candidates: most (point, class) pairs that enter suppression, best first; bounds the time.
        """
        all_scores = outputs.class_logits.float().sigmoid()
        return [
            Detections(*multiclass_nms(boxes, scores, score=score, iou=iou, max_det=max_det, candidates=candidates))
            for boxes, scores in zip(outputs.boxes(), all_scores, strict=True)
        ]

    @torch.no_grad()
    def candidates(self, outputs: YoloOutputs, *, score: float, most: int) -> list[Candidates]:
        """What `predict` decides on, with `most` candidates, and which cell of which level each point is of."""
        of_points = _facts_of_points(outputs)
        return [
            Candidates(
                boxes,
                scores,
                *best_pairs(scores, score=score, candidates=most)[:2],
                of_boxes=of_points,
                of_pairs={"logit": logits},
            )
            for boxes, scores, logits in zip(
                outputs.boxes(), outputs.class_logits.float().sigmoid(), outputs.class_logits, strict=True
            )
        ]

    @torch.no_grad()
    def assigned(self, outputs: YoloOutputs, targets: Sequence[Target]) -> list[tuple[Assigned, ...]]:
        """Which points learn each object; what a point says of it now decides that, too."""
        found: list[tuple[Assigned, ...]] = []
        for target, boxes, logits in zip(targets, outputs.boxes(), outputs.class_logits, strict=True):
            matches = match_task_aligned(
                logits[None].float().sigmoid(),
                boxes[None],
                outputs.points,
                outputs.strides,
                target.boxes,
                target.labels,
                target.ignore,
                torch.zeros_like(target.labels),
            )
            points = assigned_by(
                matches.gt_index[0],
                matches.label[0],
                stride=outputs.strides,
                strides=self.head.strides,
                boxes=boxes,
                gt_boxes=target.boxes,
                facts=_facts_of_points(outputs),
                what="points",
                overlapping="predicted boxes",
            )
            found.append((points,))
        return found


def _facts_of_points(outputs: YoloOutputs) -> dict[str, Tensor]:
    """Which cell of which level each point is of."""
    return {
        "stride": outputs.strides.long(),
        "cell": (outputs.points / outputs.strides[:, None]).floor().long(),
    }


@dataclass(frozen=True, slots=True)
class _BatchTruth:
    """What the matches of a batch ask for: class targets f32 [B, A, K] and their weights [B, A]; and for the M positive
    points their (image, point) indices, true boxes [M, 4] and quality [M]."""

    soft_classes: Tensor
    weights: Tensor
    positive: tuple[Tensor, Tensor]
    boxes: Tensor
    quality: Tensor


@torch.no_grad()
def _match_batch(outputs: YoloOutputs, targets: Sequence[Target]) -> _BatchTruth:
    scores = outputs.class_logits.float().sigmoid()
    gt_boxes, gt_labels, gt_ignore = (
        torch.cat([getattr(target, name) for target in targets]) for name in ("boxes", "labels", "ignore")
    )
    counts = torch.tensor([len(target.labels) for target in targets], device=scores.device)
    gt_image = torch.arange(len(targets), device=scores.device).repeat_interleave(counts)
    matches = match_task_aligned(
        scores, outputs.boxes(), outputs.points, outputs.strides, gt_boxes, gt_labels, gt_ignore, gt_image
    )
    image, point = (matches.label == POSITIVE).nonzero().unbind(1)
    gt_index, quality = matches.gt_index[image, point], matches.quality[image, point]
    soft_classes = torch.zeros_like(scores)
    soft_classes[image, point, gt_labels[gt_index]] = quality
    weights = (matches.label != IGNORE).float()
    return _BatchTruth(soft_classes, weights, (image, point), gt_boxes[gt_index], quality)
