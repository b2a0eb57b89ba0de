"""What R-CNN is fitted on: the features of the regions of all training images, and how they lie to the objects."""

from __future__ import annotations

import torch
from torch import Tensor

from visionkit.ops.box_coding import encode_deltas
from visionkit.ops.boxes import box_iou
from visionkit.ops.iou_matching import match_by_iou
from visionkit.ops.matching import IGNORE, POSITIVE
from visionkit.types import Target

NEAR = 0.6
"""From this IoU with an object on a proposal is near enough to learn the way to it from (appendix C)."""


class TrainingRegions:
    """The regions of image after image; features are kept in half precision.

    Args:
        classes: K.

    Attributes:
        features: f16 [N, D] of each image's proposals.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.features: list[Tensor] = []
        self._overlaps: list[Tensor] = []  # f32 [N, K], the best IoU with an object of each class; -1 in a crowd
        self._objects: list[tuple[Tensor, Tensor]] = []  # features f16 [G, D], labels [G]
        self._near: list[tuple[Tensor, Tensor, Tensor]] = []  # of an image: proposals [M], their labels and deltas

    @property
    def images(self) -> int:
        return len(self.features)

    @property
    def proposals(self) -> int:
        return sum(len(features) for features in self.features)

    @property
    def truths(self) -> int:
        return sum(len(labels) for _, labels in self._objects)

    def add(self, boxes: Tensor, target: Target, features: Tensor) -> None:
        """Take in an image.

        Args:
            boxes: [N, 4], its proposals.
            features: [N + G, D], of these and then of the objects of `target` that are not ignored.
        """
        kept = features.half()
        self.features.append(kept[: len(boxes)])
        real = ~target.ignore
        labels = target.labels[real]
        self._objects.append((kept[len(boxes) :], labels))

        iou = box_iou(boxes[:, None], target.boxes[real][None])  # [N, G]
        overlaps = iou.new_zeros(len(boxes), self.classes)
        for label in labels.unique():
            overlaps[:, label] = iou[:, labels == label].amax(1)
        truth, kind = match_by_iou(boxes, target.boxes, target.ignore, positive=NEAR, background=NEAR)
        overlaps[kind == IGNORE] = -1
        self._overlaps.append(overlaps)
        near = (kind == POSITIVE).nonzero().squeeze(1)
        deltas = encode_deltas(target.boxes[truth[near]], boxes[near])
        self._near.append((near, target.labels[truth[near]], deltas))

    def standardise(self, length: float) -> tuple[Tensor, Tensor]:
        """Take from all features the proposals' mean, which all share and which tells nothing, then scale them until
        this is the mean length of the proposals'; the mean [D] and the scale, a scalar."""
        total = torch.stack([features.double().sum(0) for features in self.features]).sum(0)
        mean = (total / max(1, self.proposals)).float()
        lengths = torch.cat([(features.float() - mean).norm(dim=1) for features in self.features])
        scale = length / lengths.mean().clamp(min=1e-6) if len(lengths) else lengths.new_ones(())
        for features in (*self.features, *(features for features, _ in self._objects)):
            features.copy_(scale * (features.float() - mean))  # in place: they may be most of the memory
        return mean, scale

    def objects(self, label: int) -> Tensor:
        """Features of the objects of a class, f16 [P, D]."""
        return torch.cat([features[labels == label] for features, labels in self._objects])

    def negatives(self, label: int, iou: float) -> Tensor:
        """Which proposals overlap no object of a class by so much, bool [R]; none that lies in a crowd."""
        overlap = self._overlap(label)
        return (overlap >= 0) & (overlap < iou)

    def overlapping(self, label: int, iou: float) -> Tensor:
        """Which proposals overlap an object of a class by at least so much, bool [R]."""
        return self._overlap(label) >= iou

    def _overlap(self, label: int) -> Tensor:
        return torch.cat([overlaps[:, label] for overlaps in self._overlaps])

    def box_regressor(self, label: int, ridge: float) -> tuple[Tensor, Tensor]:
        """The weights [4, D] and biases [4] that lead from features of a near proposal to its deltas, by least squares.

        Args:
            ridge: what the squares of the weights, but not of the biases, are multiplied by and added.
        """
        rows = [
            (features[near[labels == label]].double(), deltas[labels == label].double())
            for features, (near, labels, deltas) in zip(self.features, self._near, strict=True)
        ]
        x, y = (torch.cat(columns) for columns in zip(*rows, strict=True))
        if not len(x):
            return x.new_zeros(4, x.shape[1]), x.new_zeros(4)
        x_mean, y_mean = x.mean(0), y.mean(0)
        x -= x_mean
        gram = x.T @ x
        gram.diagonal().add_(ridge)
        weight = torch.linalg.solve(gram, x.T @ (y - y_mean)).T
        return weight, y_mean - weight @ x_mean
