"""The head of the R-CNN family: what is in a region of interest, and where exactly.

Source: Girshick 2015, Fast R-CNN, sections 2.1 to 2.3.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visionkit.models.explanation import KEPT, Assigned, Candidates, Explanation, assigned_by
from visionkit.nn.activations import ACTIVATIONS
from visionkit.nn.conv import conv_layers
from visionkit.nn.norms import Norm
from visionkit.ops.box_coding import DeltaWeights, decode_deltas
from visionkit.ops.boxes import clip_boxes
from visionkit.ops.delta_losses import DELTA_LOSSES
from visionkit.ops.global_count import global_count
from visionkit.ops.iou_matching import match_by_iou
from visionkit.ops.losses import CLASS_LOSSES, named_loss
from visionkit.ops.matching import IGNORE, POSITIVE
from visionkit.ops.nms import best_pairs, multiclass_nms
from visionkit.ops.roi import Pooling, assign_levels, roi_features
from visionkit.ops.sampling import balanced_sample, step_key
from visionkit.types import ClassRows, Detections, Level, Target

DELTA_WEIGHTS: DeltaWeights = (10.0, 10.0, 5.0, 5.0)
"""Over the deviations of a proposal's deltas, so that they vary as a normalised output should."""

LEAST_SIDE = 1e-2
"""Boxes with a shorter side, in pixels, are never detections: nothing of them is in the image."""

SAMPLING_STAGE = 1
"""Tells the random draws of this stage from those of the proposals."""

NO_CLASS = -1
"""Stands for the class of an ignored region."""


@dataclass(frozen=True, slots=True)
class RoiSettings:
    """Which regions are learnt from, and how features are read.

    Args:
        sampled: regions an image that the loss counts.
        positive_share: most of them that are positive.
        positive: IoU with a truth from which on a region is positive; below it is background.
        size: bins on each side of a region.
        sampling, pooling: as `roi_features` takes them.
        box_loss: a name of `DELTA_LOSSES`.
        class_loss: a name of `CLASS_LOSSES`.
    """

    sampled: int = 512
    positive_share: float = 0.25
    positive: float = 0.5
    size: int = 7
    sampling: int = 2
    pooling: Pooling = "align"
    box_loss: str = "smooth-l1"
    class_loss: str = "cross-entropy"


@dataclass(frozen=True, slots=True)
class RoiOutputs:
    """What the head says of R regions of the images of a batch.

    Args:
        boxes: f32 [R, 4], the regions in pixels.
        image: i64 [R], which image each is in.
        class_logits: [R, K + 1]; the last is that of background.
        deltas: [R, K, 4], from the region to the box of each class.
    """

    boxes: Tensor
    image: Tensor
    class_logits: Tensor
    deltas: Tensor


def light_tower(width: int, size: int, features: int = 256) -> nn.Sequential:
    """Two fully connected layers, narrow, each with a norm over its features.

    The two layers of 1024 of Feature Pyramid Networks on 512 regions are most of the time that such a detector takes to
    learn. Layer normalisation rather than batch normalisation: a quarter of the regions are objects while learning and
    few while predicting.
    """
    act = ACTIVATIONS["hard-swish"]
    layers: list[nn.Module] = [nn.Flatten()]
    for in_features in (width * size * size, features):
        layers += [nn.Linear(in_features, features, bias=False), nn.LayerNorm(features), act(features)]
    return nn.Sequential(*layers)


def two_layer_tower(width: int, size: int, features: int = 1024) -> nn.Sequential:
    """Two wide fully connected layers. Source: Lin et al. 2017, Feature Pyramid Networks, section 4.2."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc6=nn.Linear(width * size * size, features),
            act6=nn.ReLU(inplace=True),
            fc7=nn.Linear(features, features),
            act7=nn.ReLU(inplace=True),
        )
    )


def convolution_tower(width: int, size: int, norm: Norm, depth: int = 4, features: int = 1024) -> nn.Sequential:
    """3x3 convolutions, then one fully connected layer. Source: Wu and He 2018, Group Normalization, section 4.2."""
    relu = ACTIVATIONS["relu"]
    tower = nn.Sequential(
        *(nn.Sequential(*conv_layers(width, width, 3, norm=norm, activation=relu)) for _ in range(depth)),
        nn.Flatten(),
        nn.Linear(width * size * size, features),
        nn.ReLU(inplace=True),
    )
    for module in tower.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return tower


class RoiHead(nn.Module):
    """Features of regions through a tower into a class predictor, with background, and a box predictor a class.

    Args:
        levels: of the maps that regions are read from, all of one width, fine to coarse.
        classes: K, without background.
        tower: features [R, C, size, size] -> [R, `features`].
        features: what the tower returns for a region.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        classes: int,
        tower: nn.Module,
        features: int,
        *,
        settings: RoiSettings | None = None,
    ) -> None:
        super().__init__()
        self.strides = tuple(level.stride for level in levels)
        self.tower = tower
        self.class_predictor = nn.Linear(features, classes + 1)
        self.box_predictor = nn.Linear(features, 4 * classes)
        self.settings = settings or RoiSettings()
        self.box_loss = named_loss(DELTA_LOSSES, self.settings.box_loss, "box_loss of the R-CNN head")
        self.class_loss = named_loss(CLASS_LOSSES, self.settings.class_loss, "class_loss of the R-CNN head")
        # Fast R-CNN, section 2.3, "SGD hyper-parameters".
        for predictor, deviation in ((self.class_predictor, 0.01), (self.box_predictor, 0.001)):
            nn.init.normal_(predictor.weight, std=deviation)
            nn.init.zeros_(predictor.bias)

    @property
    def class_rows(self) -> dict[str, ClassRows]:
        """By name, the tensors with rows for each class."""
        rows = {"class_predictor": ClassRows(after=1), "box_predictor": ClassRows(each=4)}
        return {f"{predictor}.{name}": where for predictor, where in rows.items() for name in ("weight", "bias")}

    @torch.no_grad()
    def sample(self, proposals: Sequence[Tensor], targets: Sequence[Target]) -> list[Tensor]:
        """Of each image's proposals and true boxes a random few to learn from, [M, 4] each.

        The true boxes are among them, so that a fresh network has something to learn from.
        """
        settings, sampled = self.settings, []
        for b, (proposed, target) in enumerate(zip(proposals, targets, strict=True)):
            boxes = torch.cat((proposed, target.boxes[~target.ignore]))
            _, label = self._match(boxes, target)
            key = step_key(SAMPLING_STAGE, b)
            sampled.append(boxes[balanced_sample(label, settings.sampled, settings.positive_share, key)])
        return sampled

    def forward(self, maps: Sequence[Tensor], regions: Sequence[Tensor]) -> RoiOutputs:
        """Maps [B, C, H, W], of which the first P are read, and regions [N, 4] of each image -> raw outputs."""
        counts = torch.tensor([len(boxes) for boxes in regions], device=maps[0].device)
        image = torch.arange(len(regions), device=maps[0].device).repeat_interleave(counts)
        boxes = torch.cat(list(regions))
        features = self.tower(self.features(maps, boxes, image))
        deltas = self.box_predictor(features).unflatten(1, (-1, 4))
        return RoiOutputs(boxes, image, self.class_predictor(features), deltas)

    def features(self, maps: Sequence[Tensor], boxes: Tensor, image: Tensor) -> Tensor:
        """What the tower is given: [R, C, size, size]."""
        settings = self.settings
        return roi_features(
            maps[: len(self.strides)],
            self.strides,
            boxes,
            image,
            size=settings.size,
            sampling=settings.sampling,
            pooling=settings.pooling,
        )

    def loss(self, outputs: RoiOutputs, targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
        """Class and box loss, each over the number of regions that are not ignored. Source: section 2.3, equation 1."""
        background = outputs.class_logits.shape[1] - 1
        gt_index, label = self.match(outputs.boxes, outputs.image, targets)
        positive = (label == POSITIVE).nonzero().squeeze(1)
        truth = gt_index[positive]
        classes = torch.where(label == IGNORE, NO_CLASS, background)
        classes[positive] = torch.cat([target.labels for target in targets])[truth]

        normaliser = global_count((classes != NO_CLASS).sum()).clamp(min=1)
        class_loss = self.class_loss(outputs.class_logits, classes, ignore_index=NO_CLASS).sum() / normaliser
        gt_boxes = torch.cat([target.boxes for target in targets])[truth]
        deltas, regions = outputs.deltas[positive, classes[positive]], outputs.boxes[positive]
        box_loss = self.box_loss(deltas, regions, gt_boxes, DELTA_WEIGHTS).sum() / normaliser
        return class_loss, box_loss

    @torch.no_grad()
    def match(self, boxes: Tensor, image: Tensor, targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
        """The truth of each region [R, 4] of the images `image` [R].

        Returns:
            gt_index i64 [R], its place among the truths of all images, those of the first before those of the second,
            0 where a region is not positive; label i64 [R], POSITIVE, BACKGROUND or IGNORE.
        """
        gt_index, label = torch.zeros_like(image), torch.zeros_like(image)
        start = 0
        for b, target in enumerate(targets):
            region = (image == b).nonzero().squeeze(1)
            own_index, label[region] = self._match(boxes[region], target)
            gt_index[region] = torch.where(label[region] == POSITIVE, own_index + start, 0)
            start += len(target.labels)
        return gt_index, label

    def _match(self, boxes: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        threshold = self.settings.positive
        return match_by_iou(boxes, target.boxes, target.ignore, positive=threshold, background=threshold)

    @torch.no_grad()
    def predict(
        self,
        outputs: RoiOutputs,
        sizes: Sequence[tuple[int, int]],
        *,
        score: float,
        iou: float,
        max_det: int,
        candidates: int,
    ) -> list[Detections]:
        """Decisions, one Detections an image: each region's box of each class, cut to the image, suppressed per class.

        Args:
            sizes: H and W of each image, without padding.
        """
        found = []
        for _, boxes, scores, large in self._said(outputs, sizes):
            fit = torch.where(large, scores[:, :-1], -1)
            decisions = multiclass_nms(
                boxes, fit, score=max(score, 0.0), iou=iou, max_det=max_det, candidates=candidates
            )
            found.append(Detections(*decisions))
        return found

    def _said(
        self, outputs: RoiOutputs, sizes: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Of each image which N regions are its own, i64 [N]; their boxes of each class, cut to the image, [N, K, 4];
        their scores f32 [N, K + 1], the last that of background; whether a box is large enough, bool [N, K]."""
        boxes = decode_deltas(outputs.deltas, outputs.boxes[:, None], DELTA_WEIGHTS)
        scores = outputs.class_logits.float().softmax(1)
        for b, size in enumerate(sizes):
            of_image = (outputs.image == b).nonzero().squeeze(1)
            cut = clip_boxes(boxes[of_image], size)
            large = ((cut[..., 2:] - cut[..., :2]) >= LEAST_SIDE).all(-1)
            yield of_image, cut, scores[of_image], large

    @torch.no_grad()
    def candidates(
        self,
        outputs: RoiOutputs,
        sizes: Sequence[tuple[int, int]],
        *,
        score: float,
        most: int,
        proposed: Sequence[tuple[Candidates, Explanation]] | None = None,
    ) -> list[Candidates]:
        """What `predict` decides on, with `most` candidates, and the proposal that each region is.

        Args:
            sizes: as for `predict`.
            proposed: of each image the candidates for its proposals and what became of them; what was kept are its
                regions, in their order. None where someone else proposed.
        """
        found = []
        for b, (of_image, boxes, scores, large) in enumerate(self._said(outputs, sizes)):
            fit = torch.where(large, scores[:, :-1], -1)
            entering = best_pairs(fit, score=max(score, 0.0), candidates=most)[:2]
            facts = {**self._facts(outputs.boxes[of_image]), "background": scores[:, -1]}
            if proposed is not None:
                told = proposed[b][1]
                kept = told.fate == KEPT
                facts |= {name: values[kept] for name, values in told.facts.items()}
            of_pairs = {"logit": outputs.class_logits[of_image, :-1]}
            found.append(
                Candidates(
                    boxes,
                    scores[:, :-1],
                    *entering,
                    too_small=~large,
                    of_boxes=facts,
                    of_pairs=of_pairs,
                    proposed=None if proposed is None else proposed[b],
                )
            )
        return found

    @torch.no_grad()
    def assigned(self, outputs: RoiOutputs, targets: Sequence[Target]) -> list[Assigned]:
        """Which regions learn each object, by the maps that they are read from."""
        found = []
        for b, target in enumerate(targets):
            regions = outputs.boxes[outputs.image == b]
            gt_index, label = self._match(regions, target)
            facts = self._facts(regions)
            proposals = assigned_by(
                gt_index,
                label,
                stride=facts["read_stride"],
                strides=self.strides,
                boxes=regions,
                gt_boxes=target.boxes,
                facts=facts,
                what="proposals",
                overlapping="proposals",
            )
            found.append(proposals)
        return found

    def _facts(self, regions: Tensor) -> dict[str, Tensor]:
        """What is told of each of an image's regions [N, 4]: which proposal it is, and which map it is read from."""
        strides = torch.tensor(self.strides, device=regions.device)
        return {
            "proposal": regions,
            "proposal_number": torch.arange(1, len(regions) + 1, device=regions.device),
            "read_stride": strides[assign_levels(regions, self.strides)],
        }
