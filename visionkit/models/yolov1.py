"""YOLO as it began: one grid of cells, a few boxes a cell, one class a cell, regressed by squared error.

Source: Redmon et al. 2016, You Only Look Once: Unified, Real-Time Object Detection. What differs here, and why:

- The paper's network ends in two fully connected layers, which fix the image to 448 px and S to 7. Here it ends in 1x1
  convolutions, so any image whose sides are divisible by 32 will do, and S is its side over 32, the stride of the
  backbone's coarsest map: 14 at 448 px. The paper halves that once more, to 7; a cell holds one object, so the finer
  grid loses fewer. The fully connected layers took the paper's dropout with them: batch normalisation, after every
  3x3 convolution here, does its work (Redmon and Farhadi 2017, YOLO9000, section 2).
- Three of the four 3x3 convolutions before them have a shortcut (He et al. 2015, Deep Residual Learning). The paper
  trains most of its network on ImageNet first; from scratch, one positive cell an object teaches a plain stack slowly.
- Widths and heights are shares of 448 px, the paper's image, whatever the size of ours. A convolution sees pixels, not
  shares of the image: the same object in a larger picture must mean the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from visionkit.models.assembly import levels_of, model_units, require_input_size, require_strides
from visionkit.models.explanation import Assigned, Candidates, assigned_by
from visionkit.nn.normalize import Normalize
from visionkit.ops.anchors import anchor_points
from visionkit.ops.boxes import box_area, box_iou
from visionkit.ops.global_count import global_count
from visionkit.ops.matching import BACKGROUND, POSITIVE
from visionkit.ops.nms import best_pairs, multiclass_nms
from visionkit.types import ClassRows, Detections, Level, Losses, Target, Task, Unit

BOXES_A_CELL = 2
IMAGE_SIDE = 448
"""Side of the paper's images in pixels: the unit of widths and heights."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What the terms of equation 3 count: coordinates more, or the many empty cells would drown them."""

    coordinates: float = 5.0
    background: float = 0.5


@dataclass(frozen=True, slots=True)
class YoloV1Outputs:
    """What the network says of B images on a grid of A = rows * columns cells, N boxes a cell.

    Args:
        class_scores: [B, A, K], the class probabilities of each cell given an object; regressed, so only about in 0..1.
        cell_boxes: [B, A, N, 5]: x y of the centre in the cell, from its upper left corner in strides; the square roots
            of width and height over 448 px; the confidence.
        points: f32 [A, 2], x y of the cells' centres in network pixels, row by row.
        stride: side of a cell in network pixels.
        size: H and W of the images.
    """

    class_scores: Tensor
    cell_boxes: Tensor
    points: Tensor
    stride: int
    size: tuple[int, int]

    def boxes(self) -> Tensor:
        """f32 [B, A, N, 4] x1 y1 x2 y2 in network pixels, not clipped to the image."""
        return decode_in_cells(self.cell_boxes[..., :4].float(), self.points[:, None], self.stride)

    def boxes_in_image(self) -> Tensor:
        """f32 [B, A * N, 4], the boxes of all cells one after another, cut to the image."""
        height, width = self.size
        boxes = self.boxes().flatten(1, 2)
        return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))

    def probabilities(self) -> tuple[Tensor, Tensor]:
        """What a box's score for a class is the product of, both cut to 0..1 (equation 1): its confidence
        f32 [B, A, N] and the class's probability in its cell f32 [B, A, K]."""
        return self.cell_boxes[..., 4].float().clamp(0, 1), self.class_scores.float().clamp(0, 1)

    def scores(self) -> Tensor:
        """f32 [B, A * N, K] in [0, 1]."""
        confidence, class_scores = self.probabilities()
        return (confidence[..., None] * class_scores[:, :, None]).flatten(1, 2)


def encode_in_cells(boxes: Tensor, points: Tensor, stride: int) -> Tensor:
    """Boxes as the cells with these centres must say them: x y in the cell, square roots of width and height.

    Source: section 2 (x y in the cell) and 2.2 (the roots, so that a pixel counts more in a small box than in a large).

    Args:
        boxes: [..., 4] x1 y1 x2 y2 in pixels.
        points: [..., 2] x y in pixels.

    Returns:
        [..., 4]; x and y in 0..1 where the box's centre is in the cell.
    """
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    sizes = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return torch.cat(((centres - points) / stride + 0.5, (sizes / IMAGE_SIDE).sqrt()), -1)


def decode_in_cells(codes: Tensor, points: Tensor, stride: int) -> Tensor:
    """The inverse of `encode_in_cells`: boxes [..., 4] in pixels; a negative root is an empty side."""
    centres = points + (codes[..., :2] - 0.5) * stride
    halves = codes[..., 2:].clamp(min=0).square() * (IMAGE_SIDE / 2)
    return torch.cat((centres - halves, centres + halves), -1)


class Tower(nn.Module):
    """The four 3x3 convolutions of section 2.2 in light form, all but the first, which changes the width, beside a
    shortcut."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.first = _convolution(in_channels, width)
        self.rest = nn.ModuleList(_convolution(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for convolution in self.rest:
            x = x + convolution(x)
        return x


class YoloV1Head(nn.Module):
    """The tower on the coarsest map, then a 1x1 convolution for the boxes and one for the classes, both linear."""

    def __init__(self, level: Level, classes: int, *, width: int = 128, boxes: int = BOXES_A_CELL) -> None:
        super().__init__()
        self.tower = Tower(level.channels, width)
        self.box_predictors = nn.Conv2d(width, 5 * boxes, 1)
        self.class_predictors = nn.Conv2d(width, classes, 1)
        self.stride = level.stride
        self.reset_predictors()

    def reset_predictors(self) -> None:
        """Start as a fresh predictor should: boxes in the middle of their cells, no object, every class as likely."""
        for predictor in (self.box_predictors, self.class_predictors):
            nn.init.normal_(predictor.weight, std=0.01)
        with torch.no_grad():
            assert self.box_predictors.bias is not None
            assert self.class_predictors.bias is not None
            # A root of 0.4 is a side of 72 px: wide enough to overlap most objects whose centre is in the cell.
            self.box_predictors.bias.view(-1, 5).copy_(torch.tensor([0.5, 0.5, 0.4, 0.4, 0.0]))
            self.class_predictors.bias.fill_(1 / self.class_predictors.out_channels)

    def forward(self, x: Tensor) -> YoloV1Outputs:
        x = self.tower(x)
        rows, columns = x.shape[-2:]
        points, _ = anchor_points([(rows, columns)], [self.stride], x.device)
        class_scores = self.class_predictors(x).flatten(2).transpose(1, 2)
        cell_boxes = self.box_predictors(x).flatten(2).transpose(1, 2).unflatten(2, (-1, 5))
        return YoloV1Outputs(class_scores, cell_boxes, points, self.stride, (rows * self.stride, columns * self.stride))


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    """3x3, with the paper's activation (equation 2)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.1, inplace=True),
    )


class YoloV1(nn.Module):
    """A backbone, of which only the coarsest map is used, and the head.

    Args:
        backbone: publishes `levels` and `units`; its forward returns one map a level.
        classes: K, number of classes.
        boxes: B, boxes a cell.

    `forward`, `loss` and `predict` are the three verbs of every model; none depends on `self.training`.
    """

    task: ClassVar[Task] = "detect"
    says_masks: ClassVar[bool] = False
    wants_proposals: ClassVar[bool] = False
    weighs_classes: ClassVar[bool] = False
    snug: ClassVar[bool] = False
    loss_names: ClassVar[tuple[str, ...]] = ("centre", "size", "object", "background", "class")

    def __init__(
        self, backbone: nn.Module, classes: int, *, boxes: int = BOXES_A_CELL, weights: LossWeights | None = None
    ) -> None:
        super().__init__()
        levels = levels_of(backbone)
        require_strides("yolov1", levels, (32,))
        self.normalize = Normalize()
        self.backbone = backbone
        self.head = YoloV1Head(levels[-1], classes, boxes=boxes)
        self.classes = classes
        self.weights = weights or LossWeights()

    @property
    def units(self) -> tuple[Unit, ...]:
        """The backbone's units, then the direct children of the head: what `--freeze` counts."""
        return model_units(self, ("head",))

    @property
    def class_rows(self) -> dict[str, ClassRows]:
        """By name, the tensors with rows for each class."""
        return {f"head.class_predictors.{name}": ClassRows() for name in ("weight", "bias")}

    @property
    def stride(self) -> int:
        """Image sides must be divisible by this many pixels."""
        return self.head.stride

    def forward(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]] | None = None,
        targets: Sequence[Target] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> YoloV1Outputs:
        """u8 or float images [B, 3, H, W] in 0..255 -> raw outputs.

        Args:
            sizes, targets, proposals: ignored.

        Raises:
            UsageError: H or W is not divisible by the stride.
        """
        require_input_size(images, self.stride)
        outputs: YoloV1Outputs = self.head(self.backbone(self.normalize(images))[-1])
        return outputs

    def loss(self, outputs: YoloV1Outputs, targets: Sequence[Target]) -> Losses:
        """The five sums of equation 3, averaged over the images.

        A cell that holds an object's centre asks for its class; of its boxes the one with the highest IoU, the
        responsible one (the first of equals), asks for the object's coordinates and for that IoU as its confidence. The
        confidence of all other boxes must be 0, but in cells of ignored objects.
        """
        truth = _assign_batch(outputs, targets)
        image, cell = truth.positive
        codes = outputs.cell_boxes[image, cell].float()
        with torch.no_grad():
            boxes = decode_in_cells(codes[..., :4], outputs.points[cell, None], outputs.stride)
            iou, responsible = box_iou(boxes, truth.boxes[:, None]).max(1)
        code = codes[torch.arange(len(codes), device=codes.device), responsible]
        error = (code[:, :4] - encode_in_cells(truth.boxes, outputs.points[cell], outputs.stride)).square()

        confidence = outputs.cell_boxes[..., 4].float()
        empty = truth.background[..., None].repeat(1, 1, confidence.shape[-1])
        empty[image, cell, responsible] = 0

        class_scores = outputs.class_scores[image, cell].float()
        one_hot = nn.functional.one_hot(truth.labels, class_scores.shape[-1])
        images = global_count(len(outputs.cell_boxes))
        return Losses(
            {
                "centre": self.weights.coordinates * error[:, :2].sum() / images,
                "size": self.weights.coordinates * error[:, 2:].sum() / images,
                "object": (code[:, 4] - iou).square().sum() / images,
                "background": self.weights.background * (confidence.square() * empty).sum() / images,
                "class": (class_scores - one_hot).square().sum() / images,
            }
        )

    @torch.no_grad()
    def predict(
        self,
        outputs: YoloV1Outputs,
        *,
        score: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        masks: bool = True,
        candidates: int = 3000,
    ) -> list[Detections]:
        """Decisions, one Detections an image: the score of a box for a class is the class's probability in the cell
        times the box's confidence (equation 1), both cut to 0..1; boxes are cut to the image.

        Args:
            score: lowest score kept.
            iou: overlap above which the worse box of a class goes.
            max_det: most detections an image.
            masks: ignored: there are none.
            candidates: most (box, class) pairs that enter suppression, best first; bounds the time.
        """
        all_boxes, all_scores = outputs.boxes_in_image(), outputs.scores()
        return [
            Detections(*multiclass_nms(boxes, scores, score=score, iou=iou, max_det=max_det, candidates=candidates))
            for boxes, scores in zip(all_boxes, all_scores, strict=True)
        ]

    @torch.no_grad()
    def candidates(self, outputs: YoloV1Outputs, *, score: float, most: int) -> list[Candidates]:
        """What `predict` decides on, with `most` candidates, and which box of which cell each is."""
        boxes_a_cell = outputs.cell_boxes.shape[2]
        of_cells = _facts_of_cells(outputs)
        number = torch.arange(boxes_a_cell, device=outputs.points.device)
        of_boxes = {
            **{name: values.repeat_interleave(boxes_a_cell, 0) for name, values in of_cells.items()},
            "box_of_cell": number.repeat(len(outputs.points)),
        }
        confidence, class_scores = outputs.probabilities()
        found = []
        for b, (boxes, scores) in enumerate(zip(outputs.boxes_in_image(), outputs.scores(), strict=True)):
            entering = best_pairs(scores, score=score, candidates=most)[:2]
            of_image = {**of_boxes, "confidence": confidence[b].flatten()}
            of_pairs = {"class_probability": class_scores[b].repeat_interleave(boxes_a_cell, 0)}
            found.append(Candidates(boxes, scores, *entering, of_boxes=of_image, of_pairs=of_pairs))
        return found

    @torch.no_grad()
    def assigned(self, outputs: YoloV1Outputs, targets: Sequence[Target]) -> list[tuple[Assigned, ...]]:
        """Which cells learn each object: the one with its centre, or none where a larger object has that."""
        found: list[tuple[Assigned, ...]] = []
        for target, boxes in zip(targets, outputs.boxes_in_image(), strict=True):
            cell, owner = _owners(_holds_centre(outputs, target.boxes), target)
            gt_index = torch.zeros(len(outputs.points), dtype=torch.int64, device=boxes.device)
            label = torch.full_like(gt_index, BACKGROUND)
            gt_index[cell], label[cell] = owner, POSITIVE
            cells = assigned_by(
                gt_index,
                label,
                stride=torch.full_like(gt_index, outputs.stride),
                strides=(outputs.stride,),
                boxes=boxes,
                gt_boxes=target.boxes,
                facts=_facts_of_cells(outputs),
                what="cells",
                overlapping="predicted boxes",
            )
            found.append((cells,))
        return found


def _facts_of_cells(outputs: YoloV1Outputs) -> dict[str, Tensor]:
    """Where each cell is."""
    cells = (outputs.points / outputs.stride).floor().long()
    return {"stride": torch.full_like(cells[:, 0], outputs.stride), "cell": cells}


@dataclass(frozen=True, slots=True)
class _BatchTruth:
    """What the cells of a batch answer for: of the M cells with an object the (image, cell) indices, its box [M, 4] and
    label [M]; of all cells whether an unused box is background, f32 [B, A]: 0 in the cells of ignored objects."""

    positive: tuple[Tensor, Tensor]
    boxes: Tensor
    labels: Tensor
    background: Tensor


@torch.no_grad()
def _assign_batch(outputs: YoloV1Outputs, targets: Sequence[Target]) -> _BatchTruth:
    """One object a cell: of several whose centres fall into it the largest, the first of equals."""
    images, cells, boxes, labels, background = [], [], [], [], []
    for b, target in enumerate(targets):
        home = _holds_centre(outputs, target.boxes)
        cell, owner = _owners(home, target)
        images.append(torch.full_like(cell, b))
        cells.append(cell)
        boxes.append(target.boxes[owner])
        labels.append(target.labels[owner])
        covered = (home | _covers_centre(outputs, target.boxes))[target.ignore].any(0)
        background.append((~covered).float())
    return _BatchTruth(
        (torch.cat(images), torch.cat(cells)), torch.cat(boxes), torch.cat(labels), torch.stack(background)
    )


def _owners(home: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """The cells of an image that hold an object's centre, i64 [M], and the object of each, i64 [M].

    Args:
        home: bool [G, A], which cell each object's centre is in.
    """
    area = torch.where(home & ~target.ignore[:, None], box_area(target.boxes)[:, None], -1)
    # One more row, of no object: neither an empty cell nor an empty image is a special case.
    best, owner = torch.cat((area, area.new_full((1, area.shape[1]), -0.5))).max(0)
    cell = (best >= 0).nonzero().squeeze(1)
    return cell, owner[cell]


def _holds_centre(outputs: YoloV1Outputs, boxes: Tensor) -> Tensor:
    """bool [G, A]: the one cell that each box's centre falls into; the nearest for a centre beyond the image."""
    height, width = outputs.size
    columns, rows = width // outputs.stride, height // outputs.stride
    column, row = ((boxes[:, :2] + boxes[:, 2:]) / (2 * outputs.stride)).floor().long().unbind(1)
    cell = row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1)
    return cell[:, None] == torch.arange(rows * columns, device=boxes.device)


def _covers_centre(outputs: YoloV1Outputs, boxes: Tensor) -> Tensor:
    """bool [G, A]: the cells whose own centre lies in the box."""
    points = outputs.points
    return ((boxes[:, None, :2] <= points) & (points < boxes[:, None, 2:])).all(-1)
