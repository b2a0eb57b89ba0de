"""The region proposal network: where objects of any class may be.

Source: Ren et al. 2015, Faster R-CNN, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visionkit.models.explanation import Assigned, Candidates, Explanation, anchor_facts, assigned_by, explain
from visionkit.nn.activations import ACTIVATIONS
from visionkit.nn.conv import conv_layers
from visionkit.nn.norms import Norm, no_norm
from visionkit.ops.anchors import anchor_boxes, anchor_shapes, rows_of_anchors
from visionkit.ops.box_coding import decode_deltas
from visionkit.ops.boxes import clip_boxes
from visionkit.ops.delta_losses import DELTA_LOSSES, UNWEIGHTED
from visionkit.ops.global_count import global_count
from visionkit.ops.iou_matching import match_by_iou
from visionkit.ops.losses import bce_loss, named_loss
from visionkit.ops.matching import POSITIVE
from visionkit.ops.nms import nms_per_class
from visionkit.ops.sampling import balanced_sample, step_key
from visionkit.types import Level, Target

RATIOS = (0.5, 1.0, 2.0)
LEAST_SIDE = 1e-3
"""Proposals with a shorter side, in pixels, are dropped: nothing of them is in the image."""

SAMPLING_STAGE = 0
"""Tells the random draws of this stage from those of later ones."""


@dataclass(frozen=True, slots=True)
class ProposalSettings:
    """How proposals are made of anchors, and which anchors are learnt from.

    Args:
        before_nms: best anchors a level that enter suppression, while learning and while predicting.
        after_nms: proposals an image that leave it, likewise.
        iou: overlap above which the worse of two proposals of a level goes.
        score: lowest objectness of a proposal.
        positive, background: IoU with a truth from which on an anchor is positive, and below which it is background.
        sampled: anchors an image that the loss counts.
        positive_share: most of them that are positive.
        box_loss: a name of `DELTA_LOSSES`.
    """

    before_nms: tuple[int, int] = (2000, 1000)
    after_nms: tuple[int, int] = (2000, 1000)
    iou: float = 0.7
    score: float = 0.0
    positive: float = 0.7
    background: float = 0.3
    sampled: int = 256
    positive_share: float = 0.5
    box_loss: str = "smooth-l1"


@dataclass(frozen=True, slots=True)
class RpnOutputs:
    """What the network says of A anchors of B images.

    Args:
        logits: [B, A], whether there is an object.
        deltas: [B, A, 4], from the anchor to its box.
        anchors: f32 [A, 4] in pixels, level by level.
        counts: how many of them each level has.
    """

    logits: Tensor
    deltas: Tensor
    anchors: Tensor
    counts: tuple[int, ...]


class RegionProposals(nn.Module):
    """A small tower over each map of a pyramid, the same for all, and two 1x1 predictors an anchor.

    Args:
        levels: of the maps, all of one width.
        sizes: of the anchors of a cell in pixels, for each level; as many in each.
        ratios: of these anchors, height / width.
        depth: 3x3 convolutions in the tower.
        norm: after each of them.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        sizes: Sequence[Sequence[float]],
        *,
        ratios: Sequence[float] = RATIOS,
        depth: int = 1,
        norm: Norm = no_norm,
        settings: ProposalSettings | None = None,
    ) -> None:
        super().__init__()
        width = levels[0].channels
        relu = ACTIVATIONS["relu"]
        self.tower = nn.Sequential(
            *(nn.Sequential(*conv_layers(width, width, 3, norm=norm, activation=relu)) for _ in range(depth))
        )
        anchors = len(sizes[0]) * len(ratios)
        self.objectness_predictor = nn.Conv2d(width, anchors, 1)
        self.box_predictor = nn.Conv2d(width, 4 * anchors, 1)
        self.cells = tuple(anchor_shapes(level_sizes, ratios) for level_sizes in sizes)
        self.strides = tuple(level.stride for level in levels)
        self.settings = settings or ProposalSettings()
        self.box_loss = named_loss(DELTA_LOSSES, self.settings.box_loss, "box_loss of region proposals")
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor], image_size: tuple[int, int]) -> RpnOutputs:
        """Maps of images of H, W pixels, padding included -> raw outputs."""
        logits, deltas = [], []
        for x in maps:
            features = self.tower(x)
            logits.append(rows_of_anchors(self.objectness_predictor(features), 1).squeeze(-1))
            deltas.append(rows_of_anchors(self.box_predictor(features), 4))
        shapes = [(x.shape[-2], x.shape[-1]) for x in maps]
        anchors = anchor_boxes(shapes, [cell.to(maps[0].device) for cell in self.cells], image_size)
        counts = tuple(len(of_level) for of_level in anchors)
        return RpnOutputs(torch.cat(logits, 1), torch.cat(deltas, 1), torch.cat(anchors), counts)

    @torch.no_grad()
    def propose(self, outputs: RpnOutputs, sizes: Sequence[tuple[int, int]], *, learning: bool) -> list[Tensor]:
        """Proposals f32 [N, 4] in pixels for each image, best first: the best anchors of each level, moved, cut to the
        image and suppressed within their level.

        Args:
            sizes: H and W of each image, without padding.
            learning: which of the settings' two limits hold.
        """
        settings, number = self.settings, 0 if learning else 1
        proposals = []
        for _, boxes, score, level in self._entering(outputs, sizes, number):
            keep = nms_per_class(boxes, score, level, settings.iou)[: settings.after_nms[number]]
            proposals.append(boxes[keep])
        return proposals

    def _entering(
        self, outputs: RpnOutputs, sizes: Sequence[tuple[int, int]], number: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """What enters suppression of each image: M anchors i64 [M], their boxes [M, 4], scores [M] and levels i64 [M].

        Args:
            number: which of the settings' two limits hold.
        """
        settings = self.settings
        best, level, start = [], [], 0
        for p, count in enumerate(outputs.counts):
            top = outputs.logits[:, start : start + count].float().topk(min(settings.before_nms[number], count), dim=1)
            best.append(top.indices + start)
            level.append(top.indices.new_full((top.indices.shape[1],), p))
            start += count
        chosen, levels = torch.cat(best, 1), torch.cat(level)
        scores = outputs.logits.gather(1, chosen).float().sigmoid()
        deltas = outputs.deltas.gather(1, chosen[..., None].expand(-1, -1, 4))
        moved = decode_deltas(deltas, outputs.anchors[chosen])
        for anchor, own, score, size in zip(chosen, moved, scores, sizes, strict=True):
            boxes = clip_boxes(own, size)
            large = ((boxes[:, 2:] - boxes[:, :2]) >= LEAST_SIDE).all(1)
            fit = (large & (score >= settings.score)).nonzero().squeeze(1)
            yield anchor[fit], boxes[fit], score[fit], levels[fit]

    @torch.no_grad()
    def explained(self, outputs: RpnOutputs, sizes: Sequence[tuple[int, int]]) -> list[tuple[Candidates, Explanation]]:
        """All anchors of each image as candidates of one class, and what became of them while predicting: what is kept
        are the proposals, in their order."""
        of_anchors = anchor_facts(outputs.anchors, outputs.counts, self.strides)
        settings, found = self.settings, []
        for b, (anchor, own, score, level) in enumerate(self._entering(outputs, sizes, 1)):
            boxes = clip_boxes(decode_deltas(outputs.deltas[b], outputs.anchors), sizes[b])
            scores = outputs.logits[b].float().sigmoid()
            # To the last bit what `propose` was given: where they lie in memory decides how they were rounded.
            boxes[anchor], scores[anchor] = own, score
            small = ((boxes[:, 2:] - boxes[:, :2]) < LEAST_SIDE).any(1)
            given = Candidates(
                boxes,
                scores[:, None],
                anchor,
                torch.zeros_like(anchor),
                group=level,
                too_small=small[:, None],
                of_boxes={**of_anchors, "objectness": scores, "objectness_logit": outputs.logits[b]},
            )
            limits = {"score": settings.score, "iou": settings.iou, "max_det": settings.after_nms[1]}
            found.append((given, explain(given, **limits)))  # type: ignore[arg-type]
        return found

    @torch.no_grad()
    def assigned(self, outputs: RpnOutputs, targets: Sequence[Target]) -> list[Assigned]:
        """Which anchors learn to propose each object."""
        facts = anchor_facts(outputs.anchors, outputs.counts, self.strides)
        found = []
        for target in targets:
            gt_index, label = self._match(outputs.anchors, target)
            anchors = assigned_by(
                gt_index,
                label,
                stride=facts["stride"],
                strides=self.strides,
                boxes=outputs.anchors,
                gt_boxes=target.boxes,
                facts=facts,
                what="anchors",
                overlapping="anchors",
            )
            found.append(anchors)
        return found

    def _match(self, anchors: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """The truth of each anchor of an image, as `match_by_iou` gives it."""
        settings = self.settings
        return match_by_iou(
            anchors,
            target.boxes,
            target.ignore,
            positive=settings.positive,
            background=settings.background,
            low_quality=True,
        )

    def loss(self, outputs: RpnOutputs, targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
        """Objectness and box loss of a random few anchors of each image, over the number of all those.

        Source: section 3.1.2, equation 1, with both terms over the number of anchors.
        """
        settings = self.settings
        chosen, image, objectness, boxes = [], [], [], []
        for b, target in enumerate(targets):
            gt_index, label = self._match(outputs.anchors, target)
            key = step_key(SAMPLING_STAGE, b)
            drawn = balanced_sample(label, settings.sampled, settings.positive_share, key)
            chosen.append(drawn)
            image.append(torch.full_like(drawn, b))
            objectness.append(label[drawn] == POSITIVE)
            boxes.append(target.boxes[gt_index[drawn[objectness[-1]]]])
        anchor, of, is_object = torch.cat(chosen), torch.cat(image), torch.cat(objectness)
        normaliser = max(1, global_count(len(anchor)))
        objectness_loss = bce_loss(outputs.logits[of, anchor], is_object).sum() / normaliser
        positive = anchor[is_object]
        deltas, anchors = outputs.deltas[of[is_object], positive], outputs.anchors[positive]
        box_loss = self.box_loss(deltas, anchors, torch.cat(boxes), UNWEIGHTED).sum() / normaliser
        return objectness_loss, box_loss
