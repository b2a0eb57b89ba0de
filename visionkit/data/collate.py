"""Samples of one size -> a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visionkit.imaging.letterbox import Frame
from visionkit.types import Batch, Sample, Target

MASK_CELLS = 56
"""On each side of a mask in its box: twice as many as a mask head says (Mask R-CNN, figure 4: 28)."""


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A batch on its way out of a worker process.

    Each tensor sent between processes costs an open file and a round trip: a batch of 16 with three tensors an image
    took 11.6 ms to arrive and 49 open files, of which many systems allow 1,024. So the images are the one tensor here
    and all targets lie end to end in arrays: 0.7 ms.

    Args:
        images: u8 [B, 3, H, W], RGB, in channels_last memory.
        boxes: f32 [G of all images, 4]; labels i64 and ignore bool likewise.
        counts: i64 [B], objects by image.
        semantic: u8 [B, H, W], labels of pixels; None where samples have none.
        masks: u8 [G of all images, M, M] as in `Target`; None where samples have no outlines.
        proposals: f32 [N of all images, 4], and i64 [B] by image; None where samples have none.
    """

    images: Tensor
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    counts: NDArray[np.int64]
    frames: tuple[Frame, ...]
    image_ids: tuple[int, ...]
    semantic: Tensor | None = None
    masks: NDArray[np.uint8] | None = None
    proposals: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None

    def pin_memory(self) -> PackedBatch:
        """With images in page-locked memory, from where a GPU copies without waiting. The DataLoader calls this."""
        semantic = None if self.semantic is None else self.semantic.pin_memory()
        return replace(self, images=self.images.pin_memory(), semantic=semantic)

    def unpack(self) -> Batch:
        stops = np.cumsum(self.counts)
        spans = [slice(stop - count, stop) for count, stop in zip(self.counts, stops, strict=True)]
        targets = tuple(Target.of_arrays(self.boxes[s], self.labels[s], self.ignore[s]) for s in spans)
        if self.semantic is not None:
            targets = tuple(replace(t, semantic=m) for t, m in zip(targets, self.semantic, strict=True))
        if self.masks is not None:
            targets = tuple(
                replace(t, masks=torch.from_numpy(self.masks[s])) for t, s in zip(targets, spans, strict=True)
            )
        proposals: tuple[Tensor, ...] | None = None
        if self.proposals is not None:
            boxes, counts = self.proposals
            proposals = torch.from_numpy(boxes).split(counts.tolist())
        return Batch(self.images, targets, self.frames, self.image_ids, proposals)


def pack(items: Sequence[tuple[Sample, Frame]], images: NDArray[np.uint8] | None = None) -> PackedBatch:
    """At least one sample, all images of one size; each with its frame.

    Args:
        images: u8 [B, H, W, 3], where the samples' images have been drawn; None copies them together.
    """
    samples, frames = zip(*items, strict=True)
    together = np.stack([s.image for s in samples]) if images is None else images
    maps = [s.semantic for s in samples if s.semantic is not None]
    assert len(maps) in (0, len(samples))
    masks = [s.outlines.box_masks(s.boxes, MASK_CELLS) for s in samples if s.outlines is not None]
    assert len(masks) in (0, len(samples))
    regions = [s.proposals for s in samples if s.proposals is not None]
    assert len(regions) in (0, len(samples))
    return PackedBatch(
        # [B, H, W, 3] seen as [B, 3, H, W] is channels_last memory, which convolutions like, without a copy.
        torch.from_numpy(together).permute(0, 3, 1, 2),
        boxes=np.concatenate([s.boxes for s in samples]),
        labels=np.concatenate([s.labels for s in samples]),
        ignore=np.concatenate([s.ignore for s in samples]),
        counts=np.array([len(s.labels) for s in samples], np.int64),
        frames=frames,
        image_ids=tuple(s.image_id for s in samples),
        semantic=torch.from_numpy(np.stack(maps)) if maps else None,
        masks=np.concatenate(masks) if masks else None,
        proposals=(np.concatenate(regions), np.array([len(r) for r in regions])) if regions else None,
    )


def collate(items: Sequence[tuple[Sample, Frame]]) -> Batch:
    """At least one sample with its frame, all images of one size [S, S, 3] -> Batch of images u8 [B, 3, S, S]."""
    return pack(items).unpack()
