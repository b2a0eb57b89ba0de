"""The batch that training broke at, in a file, so that it can be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from visionkit.engine.checkpoint import load_weights, save_weights
from visionkit.imaging.letterbox import Frame
from visionkit.types import Batch, Target

FORMAT = "visionkit.batch/1"


def save_batch(path: Path, batch: Batch) -> None:
    """Write a batch as safetensors: images u8 [B, 3, H, W], and the targets of all images end to end: boxes f32 [G, 4],
    labels i64 [G], ignore bool [G], counts i64 [B] of objects an image; semantic maps, masks and proposals where there
    are any."""
    targets = batch.targets
    tensors: dict[str, Tensor] = {
        "images": batch.images,
        "boxes": torch.cat([target.boxes for target in targets]),
        "labels": torch.cat([target.labels for target in targets]),
        "ignore": torch.cat([target.ignore for target in targets]),
        "counts": _counts([target.labels for target in targets]),
    }
    semantic = [target.semantic for target in targets if target.semantic is not None]
    masks = [target.masks for target in targets if target.masks is not None]
    if semantic:
        tensors["semantic"] = torch.stack(semantic)
    if masks:
        tensors["masks"] = torch.cat(masks)
    if batch.proposals is not None:
        tensors["proposals"] = torch.cat(batch.proposals)
        tensors["proposal_counts"] = _counts(batch.proposals)
    card = {"format": FORMAT, "image_ids": list(batch.image_ids), "frames": [asdict(frame) for frame in batch.frames]}
    save_weights(path, tensors, card)


def put_together(parts: Sequence[Batch]) -> Batch:
    """The parts that several processes have of a batch, at least one and all on a CPU, as one batch in their order."""
    proposals = [boxes for part in parts for boxes in part.proposals or ()]
    return Batch(
        torch.cat([part.images for part in parts]),
        tuple(target for part in parts for target in part.targets),
        tuple(frame for part in parts for frame in part.frames),
        tuple(image_id for part in parts for image_id in part.image_ids),
        None if parts[0].proposals is None else tuple(proposals),
    )


def _counts(parts: Sequence[Tensor]) -> Tensor:
    return torch.tensor([len(part) for part in parts])


def load_batch(path: Path) -> Batch:
    """The batch that `save_batch` wrote.

    Raises:
        CheckpointError: the file is missing, damaged or holds something else.
    """
    tensors, card = load_weights(path)
    counts = tensors["counts"].tolist()
    boxes, labels, ignore = (tensors[name].split(counts) for name in ("boxes", "labels", "ignore"))
    targets = tuple(Target(*parts) for parts in zip(boxes, labels, ignore, strict=True))
    if "semantic" in tensors:
        targets = tuple(replace(t, semantic=m) for t, m in zip(targets, tensors["semantic"], strict=True))
    if "masks" in tensors:
        targets = tuple(replace(t, masks=m) for t, m in zip(targets, tensors["masks"].split(counts), strict=True))
    proposals = None
    if "proposals" in tensors:
        proposals = tensors["proposals"].split(tensors["proposal_counts"].tolist())
    # JSON has no tuples; files of earlier versions have no corner.
    frames = tuple(Frame(**{**frame, "corner": tuple(frame.get("corner", (0, 0)))}) for frame in card["frames"])
    return Batch(tensors["images"], targets, frames, tuple(card["image_ids"]), proposals)
