"""What flows between the rooms as tensors; records without torch live in `formats`, `imaging` and `result`.

B images, H W pixels, G ground truths, N boxes, P levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visionkit import result
from visionkit.formats.outlines import Outlines
from visionkit.imaging.letterbox import Frame

Task = result.Task


@dataclass(frozen=True, slots=True)
class Level:
    """A feature map's channels and its stride: input pixels per feature pixel."""

    channels: int
    stride: int


@dataclass(frozen=True, slots=True)
class Unit:
    """A top-level block of a network, counted from the input; what `--freeze` counts.

    Args:
        name: what users read and type, such as `backbone.layer1.0`.
        modules: the submodules it consists of, by their names in the network (`("conv1", "bn1")` for a stem).
    """

    name: str
    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClassRows:
    """Where along one dimension a tensor of a model keeps what belongs to each class; a model names such tensors in its
    `class_rows`, so that weights can go from one class table to another.

    The dimension consists of `groups` runs alike: `before` rows that belong to no class, `each` rows a class in the
    order of labels, `after` rows that belong to no class. So an anchor is a group, or a cell of a fully connected grid;
    corners that a class has to itself are 4 rows `each`; the logit of background is a row `after`.

    >>> ClassRows(groups=2, after=1).rows([1], classes=3)
    [1, 3, 5, 7]
    """

    dim: int = 0
    groups: int = 1
    each: int = 1
    before: int = 0
    after: int = 0

    def length(self, classes: int) -> int:
        """Size of the dimension for so many classes."""
        return self.groups * (self.before + classes * self.each + self.after)

    def rows(self, labels: Sequence[int], classes: int) -> list[int]:
        """Where the rows of these labels lie, in their order and group by group, with those of no class around them."""
        size, classes_end = self.length(classes) // self.groups, self.before + classes * self.each
        of_labels = [self.before + label * self.each + i for label in labels for i in range(self.each)]
        of_group = [*range(self.before), *of_labels, *range(classes_end, size)]
        return [group * size + row for group in range(self.groups) for row in of_group]


@dataclass(frozen=True, slots=True)
class Target:
    """The truth about one image, in the pixels of whatever image it stands beside.

    Args:
        boxes: f32 [G, 4] x1 y1 x2 y2.
        labels: i64 [G] in 0..K-1.
        ignore: bool [G]; True where a detection is neither rewarded nor punished (crowd, difficult).
        semantic: u8 [H, W], a label for each pixel and 255 where no one judges; None where the data has no such map.
        masks: u8 [G, M, M], what of each object's mask lies in its box, 1 inside: M x M cells that divide the box
            evenly. All 0 where an object's mask is not known; None where no one asked for masks.
    """

    boxes: Tensor
    labels: Tensor
    ignore: Tensor
    semantic: Tensor | None = None
    masks: Tensor | None = None

    def to(self, device: torch.device) -> Target:
        semantic = None if self.semantic is None else self.semantic.to(device, non_blocking=True)
        return replace(
            self,
            boxes=self.boxes.to(device),
            labels=self.labels.to(device),
            ignore=self.ignore.to(device),
            semantic=semantic,
            masks=None if self.masks is None else self.masks.to(device, non_blocking=True),
        )

    @classmethod
    def of_arrays(cls, boxes: NDArray[Any], labels: NDArray[Any], ignore: NDArray[Any]) -> Target:
        return cls(
            torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.as_tensor(labels, dtype=torch.int64),
            torch.as_tensor(ignore, dtype=torch.bool),
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and its truth on the way to the network, still in NumPy; rewritten by augmentation.

    Args:
        image: u8 [H, W, 3] RGB.
        boxes: f32 [G, 4] x1 y1 x2 y2 in pixels of `image`.
        labels: i64 [G].
        ignore: bool [G].
        image_id: the dataset's image id.
        halves: the image brought down to a half, a quarter, ..., as far as someone has it at hand.
        semantic: u8 [H, W], a label for each pixel of `image` and 255 where no one judges; or None.
        outlines: of the G objects, where masks are learnt; or None.
        proposals: f32 [N, 4] x1 y1 x2 y2, where someone else said that objects may be; or None.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    image_id: int
    halves: tuple[NDArray[np.uint8], ...] = ()
    semantic: NDArray[np.uint8] | None = None
    outlines: Outlines | None = None
    proposals: NDArray[np.float32] | None = None

    def redrawn(self, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> Sample:
        """The same truth on another picture; a semantic map, outlines and proposals are the caller's to move."""
        return replace(self, image=image, boxes=boxes, halves=())

    def with_objects(self, keep: NDArray[Any]) -> Sample:
        """The same sample with the objects that `keep` selects (a mask or indices)."""
        outlines = None if self.outlines is None else self.outlines.take(keep)
        return replace(
            self, boxes=self.boxes[keep], labels=self.labels[keep], ignore=self.ignore[keep], outlines=outlines
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Letterboxed images and what belongs to them.

    Args:
        images: u8 [B, 3, H, W], RGB.
        targets: one an image, boxes in network pixels.
        frames: one an image: the way back to original pixels.
        image_ids: the dataset's ids, one an image.
        proposals: f32 [N, 4] of each image in network pixels, where a model is fed by them; or None.
    """

    images: Tensor
    targets: tuple[Target, ...]
    frames: tuple[Frame, ...]
    image_ids: tuple[int, ...]
    proposals: tuple[Tensor, ...] | None = None

    def to(self, device: torch.device) -> Batch:
        images = self.images.to(device, non_blocking=True)
        proposals = None if self.proposals is None else tuple(boxes.to(device) for boxes in self.proposals)
        return replace(self, images=images, targets=tuple(t.to(device) for t in self.targets), proposals=proposals)


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector finds in one image, in network pixels, highest score first.

    Args:
        boxes: f32 [N, 4] x1 y1 x2 y2.
        scores: f32 [N] in [0, 1].
        labels: i64 [N].
        masks: f32 [N, M, M], how sure it is that a place belongs to the object, on M x M cells that divide its box
            evenly; None where there are no masks, or no one asked for them.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None


@dataclass(frozen=True, slots=True)
class SegmentationMap:
    """What a semantic segmenter says of one image: how well each class fits every network pixel.

    Args:
        scores: [K, H, W], before the softmax. What is to be judged or shown is decided after they were brought to the
            pixels of the image.
    """

    scores: Tensor

    @property
    def labels(self) -> Tensor:
        """u8 [H, W] in 0..K-1, the class of the highest score."""
        return self.scores.argmax(0).to(torch.uint8)


@dataclass(frozen=True, slots=True)
class ClassScores:
    """What a classifier says of one image, highest score first, of equal scores the lower label.

    Args:
        scores: f32 [N] in [0, 1].
        labels: i64 [N], each once.
    """

    scores: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Losses:
    """Named scalar losses, already weighted; their sum is minimised."""

    parts: dict[str, Tensor]

    @property
    def total(self) -> Tensor:
        return torch.stack(tuple(self.parts.values())).sum()
