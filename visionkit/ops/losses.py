"""Losses of detectors. Each returns one value an element; the caller weights, sums and normalises."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from visionkit.ops.boxes import complete_iou


def ciou_loss(boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """1 - CIoU of predicted and true boxes, [N] from two [N, 4]. Source: Zheng et al. 2020, Distance-IoU Loss."""
    return 1 - complete_iou(boxes, gt_boxes)


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Cross-entropy of each side's distribution with the two whole numbers around the true distance, [N].

    Source: Li et al. 2020, Generalized Focal Loss, equation 6; averaged over the four sides.

    Args:
        logits: [N, 4 * R].
        distances: [N, 4], in strides; clipped to what R bins can say, [0, R - 1].
    """
    logits = logits.unflatten(-1, (4, -1)).float()
    bins = logits.shape[-1]
    distances = distances.clamp(0, bins - 1 - 1e-3)
    below = distances.floor().long()
    share_above = distances - below
    log_p = F.log_softmax(logits, -1)
    at_below = log_p.gather(-1, below[..., None]).squeeze(-1)
    at_above = log_p.gather(-1, below[..., None] + 1).squeeze(-1)
    return -(at_below * (1 - share_above) + at_above * share_above).mean(-1)


def classification_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted binary cross-entropy with soft targets, summed over classes: [A] from logits and targets [A, K].

    Source: Feng et al. 2021, TOOD, equation 7: the target of a positive anchor is its match quality.

    Args:
        weights: [A]; 0 removes an anchor (ignored regions).
    """
    loss = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return loss.sum(-1) * weights
