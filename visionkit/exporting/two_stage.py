"""Graphs of the detectors that propose regions and look at each: faster-rcnn and mask-rcnn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.exporting.decisions import OUT, best_of_images, best_rows, suppressed
from visionkit.exporting.frames import anchors_on, channels_first, cut, edges, rows_of
from visionkit.exporting.one_stage import Decisions
from visionkit.models.faster_rcnn import FasterRcnn
from visionkit.models.mask_head import SIZE
from visionkit.models.mask_rcnn import MaskRcnn
from visionkit.models.roi_head import DELTA_WEIGHTS
from visionkit.models.roi_head import LEAST_SIDE as LEAST_SIDE_DETECTED
from visionkit.models.rpn import LEAST_SIDE as LEAST_SIDE_PROPOSED
from visionkit.models.rpn import RegionProposals
from visionkit.ops.box_coding import decode_deltas
from visionkit.ops.boxes import box_area
from visionkit.ops.roi import CANONICAL_LEVEL, CANONICAL_SIDE

SPARE = 2
"""Regions more than there are, of no image: no tensor of regions is ever empty, which not every operator takes, nor of
one row, which tracing would have to tell apart."""


class RegionGraph(nn.Module):
    """Images u8 [B, H, W, 3] and thresholds in, decisions out; those of a model with masks have masks.

    As in `YoloGraph`, `predict`'s bound on the pairs that enter suppression is not in it, which adds to the tail alone.
    """

    def __init__(self, model: FasterRcnn | MaskRcnn) -> None:
        super().__init__()
        # Their shapes are registered by the import, not by loading the operators.
        import torchvision.ops  # noqa: F401, PLC0415

        self.model = model
        settings = model.rpn.settings
        for level, cell in enumerate(model.rpn.cells):
            self.register_buffer(f"cell{level}", cell)
        self.register_buffer("proposed_iou", torch.tensor([settings.iou]))
        self.register_buffer("proposed_score", torch.tensor([OUT / 2]))
        self.register_buffer("proposed_most", torch.tensor([settings.after_nms[1]]))
        self.register_buffer("spare", torch.tensor([[0.0, 0.0, 1.0, 1.0]] * SPARE))
        self.register_buffer("no_image", torch.tensor([-1] * SPARE))

    def forward(self, images: Tensor, score: Tensor, iou: Tensor, max_det: Tensor) -> Decisions:
        model, head = self.model, self.model.head
        maps = model.neck(model.backbone(model.normalize(channels_first(images))))
        regions, image = self._proposed(maps, images)
        settings = head.settings
        pooled = region_features(
            maps[: len(head.strides)], head.strides, regions, image, settings.size, settings.sampling
        )
        features = head.tower(pooled)
        scores = head.class_predictor(features).softmax(1)[:, :-1]  # without that of background
        deltas = head.box_predictor(features).unflatten(1, (-1, 4))
        boxes = cut(decode_deltas(deltas, regions[:, None], DELTA_WEIGHTS), edges(images))  # [R, K, 4]
        large = ((boxes[..., 2:] - boxes[..., :2]) >= LEAST_SIDE_DETECTED).all(-1)
        scores = torch.where(large, scores, OUT)
        # Each class has boxes of its own, so classes are the groups here, and images take the place of classes.
        own = image == torch.arange(images.shape[0])[:, None]  # [B, R]
        by_class = torch.where(own, scores.T[:, None], OUT)  # [K, B, R]
        label, of, region = suppressed(boxes.transpose(0, 1), by_class, max_det, iou, score).unbind(1)
        confidence = scores[region, label]
        kept = best_of_images(of, confidence, max_det, images.shape[0])
        label, of, region, confidence = label[kept], of[kept], region[kept], confidence[kept]
        found = boxes[region, label]
        if isinstance(model, MaskRcnn):
            return found, confidence, label, of, self._masks(maps, found, label, of)
        return found, confidence, label, of

    def _proposed(self, maps: Sequence[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """`RegionProposals.propose`: regions f32 [R, 4] and the image of each, i64 [R], -1 of the spare ones."""
        rpn: RegionProposals = self.model.rpn
        settings, limits = rpn.settings, edges(images)
        most = settings.before_nms[1]
        boxes, scores = [], []
        for level, x in enumerate(maps):
            features = rpn.tower(x)
            logits = rows_of(rpn.objectness_predictor(features), 1).squeeze(2)
            deltas = F.pad(rows_of(rpn.box_predictor(features), 4), (0, 0, 0, most))
            anchors = F.pad(anchors_on(x, self.get_buffer(f"cell{level}"), images), (0, 0, 0, most))
            best, anchor = best_rows(logits, most)
            moved = decode_deltas(deltas.gather(1, anchor[..., None].expand(-1, -1, 4)), anchors[anchor])
            of_level = cut(moved, limits)
            confidence = best.sigmoid()
            large = ((of_level[..., 2:] - of_level[..., :2]) >= LEAST_SIDE_PROPOSED).all(-1)
            boxes.append(of_level)
            scores.append(torch.where(large & (confidence >= settings.score), confidence, OUT))
        # Suppression is within a level: each level of each image is a group.
        groups, of_groups = torch.stack(boxes, 1).flatten(0, 1), torch.stack(scores, 1).flatten(0, 1)
        group, _, place = suppressed(
            groups,
            of_groups[:, None],
            self.get_buffer("proposed_most"),
            self.get_buffer("proposed_iou"),
            self.get_buffer("proposed_score"),
        ).unbind(1)
        image = group // len(maps)
        kept = best_of_images(image, of_groups[group, place], self.get_buffer("proposed_most"), images.shape[0])
        regions = torch.cat((groups[group[kept], place[kept]], self.get_buffer("spare")))
        return regions, torch.cat((image[kept], self.get_buffer("no_image")))

    def _masks(self, maps: Sequence[Tensor], boxes: Tensor, label: Tensor, image: Tensor) -> Tensor:
        """The masks of decisions f32 [N, M, M], each read from its final box."""
        assert isinstance(self.model, MaskRcnn)
        mask = self.model.mask
        boxes = torch.cat((boxes, self.get_buffer("spare")))
        image = torch.cat((image, self.get_buffer("no_image")))
        pooled = region_features(maps[: len(mask.strides)], mask.strides, boxes, image, SIZE, mask.sampling)
        logits = mask.predictor(mask.enlarge(mask.tower(pooled)).relu())
        said: Tensor = logits[torch.arange(label.shape[0]), label].sigmoid()
        return said


def region_features(
    maps: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, image: Tensor, size: int, sampling: int
) -> Tensor:
    """[R, C, size, size]: `visionkit.ops.roi.roi_features` by alignment, with every region's place known beforehand.

    ONNX's RoiAlign of the mode `output_half_pixel` is torchvision's `roi_align` of `aligned=False`.

    Args:
        image: i64 [R]; -1 of regions in none, which read the first.
    """
    rois = torch.cat((image.clamp(min=0)[:, None].to(boxes.dtype), boxes), 1)
    level = levels_read(boxes, strides)
    parts = []
    for p, (x, stride) in enumerate(zip(maps, strides, strict=True)):
        of_level = rois[(level == p).nonzero().squeeze(1)]
        parts.append(torch.ops.torchvision.roi_align(x, of_level, 1 / stride, size, size, sampling, False))
    # A region lies behind those of finer levels and the earlier ones of its own.
    own = (level[:, None] == torch.arange(len(maps))).to(torch.int64)
    before = own.sum(0).cumsum(0) - own.sum(0)
    return torch.cat(parts)[((own.cumsum(0) - 1 + before) * own).sum(1)]


def levels_read(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """i64 [R]: `visionkit.ops.roi.assign_levels`, by comparing sides: `floor(log2)` of a box is more than an exponent
    where its side reaches the next power of two."""
    side = box_area(boxes).sqrt()
    exponents = [stride.bit_length() - 1 for stride in strides]
    below = [exponent for exponent in exponents if exponent < max(exponents)]
    level = torch.zeros_like(side, dtype=torch.int64)
    for exponent in below:
        level = level + (side >= CANONICAL_SIDE * 2 ** (exponent + 1 - CANONICAL_LEVEL - 1e-6)).to(torch.int64)
    return level
