"""Sampling: which few of many boxes a step learns from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from visionkit.ops.matching import BACKGROUND, POSITIVE


def step_key(*place: int) -> int:
    """A key for everything random at one place of a model in one step, such as (stage, image).

    It depends on the place and on the seed torch was last given, which the training loop makes from (seed, epoch,
    batch) before each forward pass; not on what has been drawn since. So it depends neither on worker count nor on
    where a run stopped, and asking twice gives the same.
    """
    return int(np.random.SeedSequence([torch.initial_seed(), *place]).generate_state(1, np.uint64)[0] >> 1)


def balanced_sample(label: Tensor, count: int, positive_share: float, key: int) -> Tensor:
    """Up to `count` random boxes, positive ones up to a share, background for the rest.

    Source: Girshick 2015, Fast R-CNN, section 2.3; Ren et al. 2015, Faster R-CNN, section 3.1.3.

    Args:
        label: i64 [A] as matchers give it; ignored boxes are never drawn.
        positive_share: in 0..1; where there are fewer positive boxes, background takes their places.
        key: the same key draws the same boxes.

    Returns:
        i64 [M], M <= count: indices of the boxes, the positive ones first.
    """
    generator = torch.Generator().manual_seed(key)
    positive = _some((label == POSITIVE).nonzero().squeeze(1), int(count * positive_share), generator)
    background = _some((label == BACKGROUND).nonzero().squeeze(1), count - len(positive), generator)
    return torch.cat((positive, background))


def _some(indices: Tensor, most: int, generator: torch.Generator) -> Tensor:
    # Drawn on the CPU, so that every device draws the same.
    return indices[torch.randperm(len(indices), generator=generator)[:most].to(indices.device)]
