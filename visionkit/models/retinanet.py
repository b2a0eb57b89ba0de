"""RetinaNet: every anchor of a pyramid classified at once, with a loss that the many easy ones do not drown.

Source: Lin et al. 2017, Focal Loss for Dense Object Detection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from visionkit.models.assembly import levels_of, model_units, require_input_size, unpadded_sizes
from visionkit.models.explanation import Assigned, Candidates, anchor_facts, assigned_by
from visionkit.nn.activations import ACTIVATIONS
from visionkit.nn.conv import conv_layers
from visionkit.nn.fpn import FeaturePyramid
from visionkit.nn.normalize import Normalize
from visionkit.nn.norms import Norm, group_norm
from visionkit.ops.anchors import anchor_boxes, anchor_shapes, rows_of_anchors
from visionkit.ops.box_coding import decode_deltas
from visionkit.ops.boxes import clip_boxes
from visionkit.ops.delta_losses import DELTA_LOSSES, UNWEIGHTED
from visionkit.ops.global_count import global_count
from visionkit.ops.iou_matching import match_by_iou
from visionkit.ops.losses import SCORE_LOSSES, named_loss
from visionkit.ops.matching import IGNORE, POSITIVE
from visionkit.ops.nms import nms_per_class
from visionkit.types import ClassRows, Detections, Level, Losses, Target, Task, Unit

RATIOS = (0.5, 1.0, 2.0)
OCTAVES = tuple(2 ** (third / 3) for third in range(3))
"""Sizes of a cell's anchors, in the smallest (section 4, "Anchors")."""

SIZE_IN_STRIDES = 4
POSITIVE_IOU, BACKGROUND_IOU = 0.5, 0.4
PRIOR = 0.01
LIGHT_WIDTH = 96
LIGHT_DEPTH = 2


@dataclass(frozen=True, slots=True)
class RetinaNetOutputs:
    """What the network says of A anchors of B images, before any decision.

    Args:
        class_logits: [B, A, K].
        deltas: [B, A, 4], from the anchor to its box.
        anchors: f32 [A, 4] in pixels, level by level.
        counts: how many of them each level has.
        sizes: H and W of each image in pixels, without padding.
    """

    class_logits: Tensor
    deltas: Tensor
    anchors: Tensor
    counts: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]


class RetinaNetHead(nn.Module):
    """Two towers of 3x3 convolutions over each map, the same for all, one to each 3x3 predictor.

    Args:
        levels: of the maps, all of one width.
        classes: K.
        sizes: of the anchors of a cell in pixels, for each level; as many in each.
        depth: convolutions in a tower.
        norm: after each of them.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        classes: int,
        sizes: Sequence[Sequence[float]],
        *,
        depth: int = 4,
        norm: Norm,
    ) -> None:
        super().__init__()
        width, self.anchors = levels[0].channels, len(sizes[0]) * len(RATIOS)
        self.class_tower = _tower(width, depth, norm)
        self.box_tower = _tower(width, depth, norm)
        self.class_predictor = nn.Conv2d(width, self.anchors * classes, 3, padding=1)
        self.box_predictor = nn.Conv2d(width, self.anchors * 4, 3, padding=1)
        self.classes = classes
        self.cells = tuple(anchor_shapes(level_sizes, RATIOS) for level_sizes in sizes)
        # Section 4.1, "Initialization".
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        assert self.class_predictor.bias is not None
        nn.init.constant_(self.class_predictor.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits [B, A, K] and deltas [B, A, 4] of the anchors of all maps."""
        logits = [rows_of_anchors(self.class_predictor(self.class_tower(x)), self.classes) for x in maps]
        deltas = [rows_of_anchors(self.box_predictor(self.box_tower(x)), 4) for x in maps]
        return torch.cat(logits, 1), torch.cat(deltas, 1)


def _tower(width: int, depth: int, norm: Norm) -> nn.Sequential:
    relu = ACTIVATIONS["relu"]
    return nn.Sequential(
        *(nn.Sequential(*conv_layers(width, width, 3, norm=norm, activation=relu)) for _ in range(depth))
    )


def octave_sizes(bases: Sequence[float], whole: bool = False) -> list[list[float]]:
    """The three sizes of the anchors of each level, from its smallest.

    Args:
        whole: rounded down to pixels, as torchvision has them.

    >>> octave_sizes([32], whole=True)
    [[32, 40, 50]]
    """
    return [[int(base * octave) if whole else base * octave for octave in OCTAVES] for base in bases]


class RetinaNet(nn.Module):
    """A backbone, a feature pyramid with two further levels, and the head.

    Where no parts are given they are light: narrow, with towers of two convolutions. The form of the paper is in
    `visionkit.models.torchvision_models`.

    Args:
        backbone: publishes `levels` and `units`; its forward returns one map a level.
        classes: K, number of classes.
        neck: publishes `levels`, all of one width.
        head: of the neck's levels.
        class_loss: a name of `SCORE_LOSSES`.
        box_loss: a name of `DELTA_LOSSES`.

    `forward`, `loss` and `predict` are the three verbs of every model; none depends on `self.training`.
    """

    task: ClassVar[Task] = "detect"
    says_masks: ClassVar[bool] = False
    wants_proposals: ClassVar[bool] = False
    weighs_classes: ClassVar[bool] = False
    snug: ClassVar[bool] = True
    loss_names: ClassVar[tuple[str, ...]] = ("class", "box")

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        neck: nn.Module | None = None,
        head: RetinaNetHead | None = None,
        class_loss: str = "focal",
        box_loss: str = "smooth-l1",
    ) -> None:
        super().__init__()
        levels = levels_of(backbone)
        self.normalize = Normalize()
        self.backbone = backbone
        self.neck = neck or FeaturePyramid(levels, LIGHT_WIDTH, norm=nn.BatchNorm2d, extra="convolve-p")
        self.head = head or _light_head(levels_of(self.neck), classes)
        self.classes = classes
        self.class_loss = named_loss(SCORE_LOSSES, class_loss, "class_loss of retinanet")
        self.box_loss = named_loss(DELTA_LOSSES, box_loss, "box_loss of retinanet")
        # Coarser maps than the backbone's end where they end; the backbone's own must fit.
        self.stride = max(level.stride for level in levels)
        """Image sides must be divisible by this many pixels."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """The backbone's units, then the direct children of neck and head that learn: what `--freeze` counts."""
        return model_units(self, ("neck", "head"))

    @property
    def class_rows(self) -> dict[str, ClassRows]:
        """By name, the tensors with rows for each class: a run of them an anchor of a cell."""
        rows = ClassRows(groups=self.head.anchors)
        return {f"head.class_predictor.{name}": rows for name in ("weight", "bias")}

    def forward(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]] | None = None,
        targets: Sequence[Target] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> RetinaNetOutputs:
        """u8 or float images [B, 3, H, W] in 0..255 -> raw outputs.

        Args:
            sizes: H and W of each image without padding, to which detections are cut; the whole where not given.
            targets, proposals: ignored.

        Raises:
            UsageError: H or W is not divisible by the backbone's coarsest stride.
        """
        require_input_size(images, self.stride)
        whole = (images.shape[-2], images.shape[-1])
        maps = self.neck(self.backbone(self.normalize(images)))
        class_logits, deltas = self.head(maps)
        shapes = [(x.shape[-2], x.shape[-1]) for x in maps]
        anchors = anchor_boxes(shapes, [cell.to(images.device) for cell in self.head.cells], whole)
        counts = tuple(len(of_level) for of_level in anchors)
        return RetinaNetOutputs(class_logits, deltas, torch.cat(anchors), counts, unpadded_sizes(images, sizes))

    def loss(self, outputs: RetinaNetOutputs, targets: Sequence[Target]) -> Losses:
        """Class loss of all anchors but the ignored and box loss of the positive, over the batch's positive anchors.

        Source: section 4, "Anchors", and 4.1, "Training".
        """
        indices, labels = zip(*(_match(outputs.anchors, target) for target in targets), strict=True)
        label = torch.stack(labels)
        classes = torch.zeros_like(outputs.class_logits)
        boxes = []
        for b, (target, gt_index) in enumerate(zip(targets, indices, strict=True)):
            anchor = (label[b] == POSITIVE).nonzero().squeeze(1)
            classes[b, anchor, target.labels[gt_index[anchor]]] = 1
            boxes.append(target.boxes[gt_index[anchor]])
        image, anchor = (label == POSITIVE).nonzero().unbind(1)
        normaliser = max(1, global_count(len(anchor)))
        counted = (label != IGNORE)[..., None]
        class_loss = (self.class_loss(outputs.class_logits, classes) * counted).sum() / normaliser
        deltas, anchors = outputs.deltas[image, anchor], outputs.anchors[anchor]
        box_loss = self.box_loss(deltas, anchors, torch.cat(boxes), UNWEIGHTED).sum() / normaliser
        return Losses({"class": class_loss, "box": box_loss})

    @torch.no_grad()
    def predict(
        self,
        outputs: RetinaNetOutputs,
        *,
        score: float = 0.05,
        iou: float = 0.5,
        max_det: int = 300,
        masks: bool = True,
        candidates: int = 1000,
    ) -> list[Detections]:
        """Decisions, one Detections an image: the best (anchor, class) pairs of each level, suppressed per class.

        Source: section 4.1, "Inference".

        Args:
            score: lowest score kept.
            iou: overlap above which the worse box of a class goes.
            max_det: most detections an image.
            masks: ignored: there are none.
            candidates: most (anchor, class) pairs of a level that enter suppression, best first; bounds the time.
        """
        found = []
        all_scores = outputs.class_logits.float().sigmoid()
        for scores, deltas, size in zip(all_scores, outputs.deltas, outputs.sizes, strict=True):
            anchor, label = _best_of_levels(scores, outputs.counts, score=score, candidates=candidates)
            boxes = clip_boxes(decode_deltas(deltas[anchor], outputs.anchors[anchor]), size)
            confidence = scores[anchor, label]
            keep = nms_per_class(boxes, confidence, label, iou)[:max_det]
            found.append(Detections(boxes[keep], confidence[keep], label[keep]))
        return found

    @torch.no_grad()
    def candidates(self, outputs: RetinaNetOutputs, *, score: float, most: int) -> list[Candidates]:
        """What `predict` decides on, with `most` candidates of a level, and the anchor that each is of."""
        strides = [level.stride for level in levels_of(self.neck)]
        of_anchors = anchor_facts(outputs.anchors, outputs.counts, strides)
        found = []
        all_scores = outputs.class_logits.float().sigmoid()
        for scores, logits, deltas, size in zip(
            all_scores, outputs.class_logits, outputs.deltas, outputs.sizes, strict=True
        ):
            boxes = clip_boxes(decode_deltas(deltas, outputs.anchors), size)
            entering = _best_of_levels(scores, outputs.counts, score=score, candidates=most)
            found.append(Candidates(boxes, scores, *entering, of_boxes=of_anchors, of_pairs={"logit": logits}))
        return found

    @torch.no_grad()
    def assigned(self, outputs: RetinaNetOutputs, targets: Sequence[Target]) -> list[tuple[Assigned, ...]]:
        """Which anchors learn each object."""
        strides = [level.stride for level in levels_of(self.neck)]
        facts = anchor_facts(outputs.anchors, outputs.counts, strides)
        found: list[tuple[Assigned, ...]] = []
        for target in targets:
            gt_index, label = _match(outputs.anchors, target)
            anchors = assigned_by(
                gt_index,
                label,
                stride=facts["stride"],
                strides=strides,
                boxes=outputs.anchors,
                gt_boxes=target.boxes,
                facts=facts,
                what="anchors",
                overlapping="anchors",
            )
            found.append((anchors,))
        return found


def _match(anchors: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """The truth of each anchor of an image, as `match_by_iou` gives it. Source: section 4, "Anchors"."""
    return match_by_iou(
        anchors, target.boxes, target.ignore, positive=POSITIVE_IOU, background=BACKGROUND_IOU, low_quality=True
    )


def _best_of_levels(scores: Tensor, counts: Sequence[int], *, score: float, candidates: int) -> tuple[Tensor, Tensor]:
    """The (anchor, class) pairs of an image that enter suppression: of those that score enough, the best of each level.

    Args:
        scores: f32 [A, K].
        counts: anchors of each level.

    Returns:
        i64 [M] anchor and i64 [M] class of each.
    """
    classes = scores.shape[1]
    pairs, start = [], 0
    for of_level in scores.split(tuple(counts)):
        flat = of_level.flatten()
        above = (flat >= score).nonzero().squeeze(1)
        best = flat[above].topk(min(candidates, len(above))).indices
        pairs.append(above[best] + start * classes)
        start += len(of_level)
    pair = torch.cat(pairs)
    return pair // classes, pair % classes


def _light_head(levels: Sequence[Level], classes: int) -> RetinaNetHead:
    sizes = octave_sizes([SIZE_IN_STRIDES * level.stride for level in levels])
    # Groups, not the batch: the towers see maps of all levels, whose statistics differ.
    return RetinaNetHead(levels, classes, sizes, depth=LIGHT_DEPTH, norm=group_norm)
