"""Regions of a batch by selective search, for models that do not learn to propose."""

from __future__ import annotations

import torch
from torch import Tensor

from visionkit.proposals.selective_search import MOST_PROPOSALS, selective_search


def searched_regions(images: Tensor) -> list[Tensor]:
    """Where objects may be in images [B, 3, H, W] in 0..255: f32 [N, 4] x1 y1 x2 y2 of each, in pixels.

    Raises:
        UsageError: scikit-image is not installed.
    """
    found = []
    for image in images.to("cpu", torch.uint8):
        boxes = selective_search(image.permute(1, 2, 0).contiguous().numpy(), most=MOST_PROPOSALS)
        found.append(torch.from_numpy(boxes).to(images.device))
    return found
