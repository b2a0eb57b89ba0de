"""Graphs of the detectors that decide in one step: yolo, yolo-masks, yolov1 and retinanet."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.exporting.decisions import OUT, decided
from visionkit.exporting.frames import anchors_on, channels_first, cut, edges, rows_of
from visionkit.models.mask_kernels import unpacked
from visionkit.models.retinanet import RetinaNet
from visionkit.models.yolo import Yolo
from visionkit.models.yolo_masks import CELLS, YoloMasks, YoloMasksOutputs
from visionkit.models.yolov1 import YoloV1
from visionkit.ops.box_coding import decode_deltas

Decisions = tuple[Tensor, ...]
"""boxes f32 [N, 4] in network pixels, scores f32 [N], labels i64 [N], and which image each is of, i64 [N]; best first.
Where there are masks, f32 [N, M, M] behind them."""

RETINANET_CANDIDATES = 1000
"""Pairs of anchor and class a level that enter suppression, as `RetinaNet.predict` takes them."""


class YoloGraph(nn.Module):
    """Images u8 [B, H, W, 3] and thresholds in, decisions out.

    `Yolo.predict` bounds the pairs that enter suppression, so as to bound its time. What it leaves out scores less than
    all that enter, and so removes none of them: but for the tail, decisions are the same without the bound.
    """

    def __init__(self, model: Yolo) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, score: Tensor, iou: Tensor, max_det: Tensor) -> Decisions:
        outputs = self.model(channels_first(images))
        boxes, scores = outputs.boxes(), outputs.class_logits.sigmoid().transpose(1, 2)
        image, label, box, confidence = decided(boxes, scores, score, iou, max_det)
        return boxes[image, box], confidence, label, image


class YoloMasksGraph(nn.Module):
    """The same, with the mask of each decision, f32 [N, M, M] in 0..1."""

    def __init__(self, model: YoloMasks) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, score: Tensor, iou: Tensor, max_det: Tensor) -> Decisions:
        outputs: YoloMasksOutputs = self.model(channels_first(images))
        boxes, scores = outputs.boxes(), outputs.class_logits.sigmoid().transpose(1, 2)
        image, label, box, confidence = decided(boxes, scores, score, iou, max_det)
        corners = boxes[image, box]
        logits = batch_masks(outputs.features, self.model.mask.stride, outputs.kernels[image, box], corners, image)
        return corners, confidence, label, image, logits.sigmoid()


def batch_masks(features: Tensor, stride: int, kernels: Tensor, boxes: Tensor, image: Tensor) -> Tensor:
    """Logits [N, CELLS, CELLS]: `visionkit.models.mask_kernels.object_masks` for objects of several images.

    Args:
        features: f32 [B, F, h, w].
        stride: of them, in pixels.
        kernels: f32 [N, KERNEL_SIZE].
        boxes: f32 [N, 4] in pixels.
        image: i64 [N], which one each object is in.
    """
    share = (torch.arange(CELLS, dtype=torch.float32) + 0.5) / CELLS
    points = boxes[:, None, :2] + share[:, None] * (boxes[:, None, 2:] - boxes[:, None, :2])  # [N, CELLS, 2]
    places = points / stride - 0.5  # a cell's value is that at its centre
    left, right, to_right = _neighbours(places[:, None, :, 0], features.shape[3])
    upper, lower, to_lower = _neighbours(places[:, :, None, 1], features.shape[2])
    # Not GridSample, which takes a map for each object: with hundreds of objects those would be hundreds of MB.
    pixels = features.permute(0, 2, 3, 1)  # [B, h, w, F]
    of = image[:, None, None]
    read = _between(
        _between(pixels[of, upper, left], pixels[of, upper, right], to_right),
        _between(pixels[of, lower, left], pixels[of, lower, right], to_right),
        to_lower,
    ).flatten(1, 2)  # [N, CELLS * CELLS, F]
    across = (2 * share - 1).expand(CELLS, CELLS)
    within = torch.stack((across, across.T), -1).flatten(0, 1)  # [CELLS * CELLS, 2]
    inputs = torch.cat((read, within.expand(boxes.shape[0], -1, -1)), 2)
    first, first_bias, last, last_bias = unpacked(kernels)
    hidden = (torch.bmm(first, inputs.transpose(1, 2)) + first_bias).relu()
    logits: Tensor = (torch.bmm(last, hidden) + last_bias).unflatten(2, (CELLS, CELLS)).squeeze(1)
    return logits


def _neighbours(places: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """The cells on both sides of each place, i64, and how far it is on the way from the first to the second; beyond
    the border that counts."""
    last = torch.full((1,), cells - 1, dtype=torch.float32)
    inside = places.clamp(min=0).minimum(last)
    first = inside.floor()
    return first.to(torch.int64), (first + 1).minimum(last).to(torch.int64), inside - first


def _between(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Values [..., F] a `share` [...] of the way from the first to the second."""
    return first * (1 - share)[..., None] + second * share[..., None]


class YoloV1Graph(nn.Module):
    """Images u8 [B, H, W, 3] and thresholds in, decisions out; without `predict`'s bound, as `YoloGraph`."""

    def __init__(self, model: YoloV1) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, score: Tensor, iou: Tensor, max_det: Tensor) -> Decisions:
        outputs = self.model(channels_first(images))
        boxes, scores = cut(outputs.boxes().flatten(1, 2), edges(images)), outputs.scores().transpose(1, 2)
        image, label, box, confidence = decided(boxes, scores, score, iou, max_det)
        return boxes[image, box], confidence, label, image


class RetinaNetGraph(nn.Module):
    """Images u8 [B, H, W, 3] and thresholds in, decisions out."""

    def __init__(self, model: RetinaNet) -> None:
        super().__init__()
        self.model = model
        for level, cell in enumerate(model.head.cells):
            self.register_buffer(f"cell{level}", cell)

    def forward(self, images: Tensor, score: Tensor, iou: Tensor, max_det: Tensor) -> Decisions:
        model, head = self.model, self.model.head
        maps = model.neck(model.backbone(model.normalize(channels_first(images))))
        parts = [self._best(level, x, images, head.classes) for level, x in enumerate(maps)]
        boxes, confidence, classes = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        boxes = cut(boxes, edges(images))
        own = classes[:, None] == torch.arange(head.classes)[:, None]  # [B, K, N]
        scores = torch.where(own, confidence[:, None], OUT)
        image, label, box, confidence = decided(boxes, scores, score, iou, max_det)
        return boxes[image, box], confidence, label, image

    def _best(self, level: int, x: Tensor, images: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of one map the best pairs of anchor and class: boxes f32 [B, N, 4], scores f32 [B, N] and classes i64 [B, N];
        where it has fewer, the rest score 0."""
        head = self.model.head
        logits = rows_of(head.class_predictor(head.class_tower(x)), classes)
        deltas = rows_of(head.box_predictor(head.box_tower(x)), 4)
        # So many anchors more, of which no one thinks anything, that there are always enough pairs.
        more = -(-RETINANET_CANDIDATES // classes)
        logits = F.pad(logits, (0, 0, 0, more), value=-torch.inf)
        deltas = F.pad(deltas, (0, 0, 0, more))
        anchors = F.pad(anchors_on(x, self.get_buffer(f"cell{level}"), images), (0, 0, 0, more))
        best, pair = logits.flatten(1).topk(RETINANET_CANDIDATES, dim=1)
        anchor = pair // classes
        moved = deltas.gather(1, anchor[..., None].expand(-1, -1, 4))
        return decode_deltas(moved, anchors[anchor]), best.sigmoid(), pair % classes
