"""Losses, by name. None weighs or normalises: each returns one value an element, and the caller weights, sums and
divides by what it counts.

Half precision is judged in single precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.errors import ConfigError
from visionkit.ops.boxes import box_iou, complete_iou, distance_iou, generalized_iou

Loss = Callable[[Tensor, Tensor], Tensor]
AnyLoss = TypeVar("AnyLoss", bound=Callable[..., Tensor])

IGNORE_INDEX = 255
"""The label of pixels that no one judges."""


def _full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


# Boxes: [N] from predicted and true boxes [N, 4] ----------------------------------------------------------------------


def iou_loss(boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """1 - IoU, in [0, 1]; without a gradient where the boxes do not meet.

    Source: Yu et al. 2016, UnitBox, which takes -log IoU; linear as in Rezatofighi et al. 2019, GIoU, section 3.
    """
    return 1 - box_iou(boxes, gt_boxes)


def giou_loss(boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """1 - GIoU, in [0, 2). Source: Rezatofighi et al. 2019, Generalized Intersection over Union, section 3."""
    return 1 - generalized_iou(boxes, gt_boxes)


def diou_loss(boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """1 - DIoU, in [0, 2). Source: Zheng et al. 2020, Distance-IoU Loss, equation 7."""
    return 1 - distance_iou(boxes, gt_boxes)


def ciou_loss(boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """1 - CIoU, in [0, 2.5). Source: Zheng et al. 2020, Distance-IoU Loss, equation 10."""
    return 1 - complete_iou(boxes, gt_boxes)


BOX_LOSSES: dict[str, Loss] = {"iou": iou_loss, "giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


# Numbers: [...] from predictions and targets [...] --------------------------------------------------------------------


def l1_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """|d| of the difference d, in [0, inf)."""
    return F.l1_loss(_full(predictions), targets, reduction="none")


def smooth_l1_loss(predictions: Tensor, targets: Tensor, beta: float = 1.0) -> Tensor:
    """d² / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere, in [0, inf). Source: Girshick 2015, Fast R-CNN,
    equation 3, with beta 1.

    Args:
        beta: where the parabola becomes a line, at least 0; 0 makes it `l1_loss`.
    """
    return F.smooth_l1_loss(_full(predictions), targets, reduction="none", beta=beta)


def mse_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """d² of the difference d, in [0, inf); its mean is the mean squared error."""
    return F.mse_loss(_full(predictions), targets, reduction="none")


NUMBER_LOSSES: dict[str, Loss] = {"l1": l1_loss, "smooth-l1": smooth_l1_loss, "mse": mse_loss}


# Yes or no: [...] from logits and targets [...], each class by itself -------------------------------------------------


def bce_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, -t log p - (1 - t) log(1 - p) with p = sigmoid(logit), in [0, inf).

    Args:
        targets: floats in 0..1, or 0 and 1.
    """
    full = _full(logits)
    return F.binary_cross_entropy_with_logits(full, targets.to(full), reduction="none")


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """-alpha (1 - p)^gamma log p where the target is 1, -(1 - alpha) p^gamma log(1 - p) where it is 0, with
    p = sigmoid(logit); in [0, inf). Source: Lin et al. 2017, Focal Loss for Dense Object Detection, equation 5.

    Args:
        targets: 0 and 1, nothing between.
        alpha: weight of the ones.
        gamma: how much less the easy ones count; 0 not at all.
    """
    full = _full(logits)
    sign = 2 * targets.to(full) - 1
    # By logarithms: 1 - p as a difference is 0 long before its logarithm is endless.
    log_right, log_wrong = F.logsigmoid(sign * full), F.logsigmoid(-sign * full)
    weight = 0.5 + (alpha - 0.5) * sign
    return -weight * (gamma * log_wrong).exp() * log_right


def quality_focal_loss(logits: Tensor, targets: Tensor, beta: float = 2.0) -> Tensor:
    """|t - p|^beta times binary cross-entropy, with p = sigmoid(logit): focal loss for targets that may lie between 0
    and 1, as the quality of a match does; in [0, inf). Source: Li et al. 2020, Generalized Focal Loss, equation 2.

    Args:
        targets: floats in 0..1, or 0 and 1.
        beta: how much less counts what is nearly right; 0 not at all.
    """
    full = _full(logits)
    return (targets.to(full) - full.sigmoid()).abs().pow(beta) * bce_loss(full, targets)


def varifocal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.75, gamma: float = 2.0) -> Tensor:
    """Binary cross-entropy times t where the target is above 0, times alpha p^gamma where it is 0, with
    p = sigmoid(logit): objects count by their quality however well they score, and easy background hardly; in [0, inf).

    Source: Zhang et al. 2021, VarifocalNet, equation 2.

    Args:
        targets: floats in 0..1, or 0 and 1.
        alpha: weight of the zeros.
        gamma: how much less the easy ones of these count; 0 not at all.
    """
    full = _full(logits)
    t = targets.to(full)
    # By a logarithm: the power of a p that is 0 may have no gradient.
    return torch.where(t > 0, t, alpha * (gamma * F.logsigmoid(full)).exp()) * bce_loss(full, t)


def hinge_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """max(0, 1 - y s) with y = 1 where the target is 1, -1 where it is 0; in [0, inf).

    Source: Cortes and Vapnik 1995, Support-Vector Networks, section 3: the slack of a soft margin of 1.

    Args:
        scores: unbounded; their sign decides.
        targets: 0 and 1.
    """
    full = _full(scores)
    return (1 - (2 * targets.to(full) - 1) * full).clamp(min=0)


QUALITY_LOSSES: dict[str, Loss] = {
    "bce": bce_loss,
    "quality-focal": quality_focal_loss,
    "varifocal": varifocal_loss,
}
"""Those that take any target in 0..1."""

SCORE_LOSSES: dict[str, Loss] = {**QUALITY_LOSSES, "focal": focal_loss, "hinge": hinge_loss}


# One of K classes: [N, ...] from logits [N, K, ...] and labels [N, ...] -----------------------------------------------


def cross_entropy_loss(
    logits: Tensor, labels: Tensor, ignore_index: int = IGNORE_INDEX, label_smoothing: float = 0.0
) -> Tensor:
    """-log softmax(logits) at the label, in [0, inf); 0, without a gradient, where the label is to be ignored.

    Source: Long et al. 2015, Fully Convolutional Networks, section 4; label smoothing: Szegedy et al. 2016, Rethinking
    the Inception Architecture, section 7.

    Args:
        labels: i64; the caller divides by how many are not `ignore_index`.
        label_smoothing: share of the target that is spread evenly over all K classes.
    """
    return F.cross_entropy(
        _full(logits), labels, ignore_index=ignore_index, reduction="none", label_smoothing=label_smoothing
    )


def softmax_focal_loss(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
    gamma: float = 2.0,
) -> Tensor:
    """(1 - p)^gamma times cross-entropy, with p the softmax at the label, in [0, inf): what is easy counts less.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, equation 4, over a softmax.

    Args:
        labels, ignore_index, label_smoothing: as `cross_entropy_loss`; p is that of the label, smoothed or not.
        gamma: how much less the easy ones count, 1 or more; 0 not at all.
    """
    losses = cross_entropy_loss(logits, labels, ignore_index)
    weight = (-torch.expm1(-losses)).pow(gamma)
    if label_smoothing:
        losses = cross_entropy_loss(logits, labels, ignore_index, label_smoothing)
    return weight * losses


ClassLoss = Callable[..., Tensor]
"""As `cross_entropy_loss` is called, with all of its options."""

CLASS_LOSSES: dict[str, ClassLoss] = {"cross-entropy": cross_entropy_loss, "softmax-focal": softmax_focal_loss}


# Masks: [N] from probabilities and targets [N, ...] -------------------------------------------------------------------


def dice_loss(probabilities: Tensor, targets: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - (2 sum(p t) + smooth) / (sum(p²) + sum(t²) + smooth), summed over the pixels of a mask; in [0, 1).

    Source: Milletari et al. 2016, V-Net, section 3, where `smooth` is 0. With it an empty mask that is predicted empty
    costs 0 rather than nothing defined.

    Args:
        probabilities: in 0..1, from a sigmoid or a softmax.
        targets: 0 and 1.
    """
    p = _full(probabilities).flatten(1)
    t = targets.to(p).flatten(1)
    return 1 - (2 * (p * t).sum(1) + smooth) / (p.square().sum(1) + t.square().sum(1) + smooth)


MASK_LOSSES: dict[str, Loss] = {"dice": dice_loss}

LOSSES: dict[str, Loss] = {**BOX_LOSSES, **NUMBER_LOSSES, **SCORE_LOSSES, **CLASS_LOSSES, **MASK_LOSSES}
"""All of them; those above a line each take and give the same shapes, so any of these can stand for another."""


def named_loss(losses: Mapping[str, AnyLoss], name: str, setting: str) -> AnyLoss:
    """One of a dict of losses.

    Raises:
        ConfigError: it has none of that name.
    """
    if name not in losses:
        raise ConfigError(f"{setting} must be one of {', '.join(losses)}, got {name}; choose one of these")
    return losses[name]


# Of dense detectors ---------------------------------------------------------------------------------------------------


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


def classification_loss(logits: Tensor, targets: Tensor, weights: Tensor, loss: Loss = bce_loss) -> Tensor:
    """A weighted loss with soft targets, summed over classes: [A] from logits and targets [A, K].

    Source: Feng et al. 2021, TOOD, equation 7: the target of a positive anchor is its match quality.

    Args:
        weights: [A]; 0 removes an anchor (ignored regions).
        loss: of `QUALITY_LOSSES`.
    """
    return loss(logits, targets).sum(-1) * weights
