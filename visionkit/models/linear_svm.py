"""Linear support vector machines with hard negative mining, and probabilities of their margins.

Sources: Chapelle 2007, Training a Support Vector Machine in the Primal (the solver); Girshick et al. 2014, Rich feature
hierarchies, section 2.3 (mining); Platt 1999, Probabilistic Outputs for Support Vector Machines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BIAS = 10.0
"""The constant that stands behind every sample's features: its weight, times this, is the bias. Large, so that the bias
is hardly held down."""

MOST_STEPS = 50
MOST_ROUNDS = 20
START = 1000
"""Negatives that mining begins with, evenly spread."""

MOST_HARD = 5000
"""Negatives that a round of mining adds at most, the hardest."""

SLACK = 1e-3
"""A negative this little within the margin is not worth another round."""

LEAST_SLOPE = 1e-3
"""Of a sigmoid, so that scores rank as margins do."""


def svm_loss(weight: Tensor, samples: Tensor, sign: Tensor, cost: float) -> Tensor:
    """|weight|^2 / 2 + cost * sum of max(0, 1 - sign * samples @ weight)^2, a scalar.

    Args:
        weight: [D].
        samples: [N, D].
        sign: [N], 1 or -1.
    """
    lacking = (1 - sign * (samples @ weight)).clamp(min=0)
    return weight.square().sum() / 2 + cost * lacking.square().sum()


def fit_svm(samples: Tensor, sign: Tensor, cost: float, start: Tensor | None = None) -> Tensor:
    """The weight [D] that minimises `svm_loss`. Of the squared hinge there is one, and Newton's method finds it.

    A step solves for the samples within the margin as if these stayed the same; it is halved until the loss falls. When
    they do stay the same, the weight is the minimum itself.

    Args:
        samples: f64 [N, D]; N may be 0.
        sign: [N], 1 or -1.
        start: a weight near the solution, which saves steps.
    """
    weight: Tensor = samples.new_zeros(samples.shape[1]) if start is None else start
    loss = svm_loss(weight, samples, sign, cost)
    for _ in range(MOST_STEPS):
        lacking = sign * (samples @ weight) < 1
        within = samples[lacking]
        hessian = 2 * cost * within.T @ within
        hessian.diagonal().add_(1)
        wanted: Tensor = torch.linalg.solve(hessian, 2 * cost * within.T @ sign[lacking])
        step, length = wanted - weight, 1.0
        while length > 1e-6:
            weight_next = weight + length * step
            loss_next = svm_loss(weight_next, samples, sign, cost)
            if loss_next <= loss:
                break
            length /= 2
        else:
            return weight
        settled = length == 1.0 and torch.equal(sign * (samples @ weight_next) < 1, lacking)
        weight, loss = weight_next, loss_next
        if settled:
            return weight
    return weight


def mine(positives: Tensor, regions: Sequence[Tensor], negative: Tensor, cost: float) -> Tensor:
    """The machine that tells positives from all negatives, fitted on those of them that are hard to tell.

    It is fitted on some negatives, then again with those among all that lie within its margin, until no more are found.
    What lies beyond the margin adds nothing to the loss, so this is the machine that all negatives together would give,
    as far as `SLACK` and `MOST_ROUNDS` go. The original adds the hard negatives of one image after another, for want of
    memory; here all features are at hand.

    Args:
        positives: [P, D].
        regions: features [N, D] of one image after another, in any precision.
        negative: bool [R], which of all these regions are negatives.

    Returns:
        f64 [D + 1]: the weights, and the bias last.
    """
    samples, weight = _with_constant(positives), None
    left = negative.clone()
    candidates = left.nonzero().squeeze(1)
    hard = candidates[:: max(1, -(-len(candidates) // START))]
    for _ in range(MOST_ROUNDS):
        left[hard] = False
        samples = torch.cat((samples, _with_constant(_rows(regions, hard))))
        sign = torch.where(torch.arange(len(samples), device=samples.device) < len(positives), 1.0, -1.0).double()
        weight = fit_svm(samples, sign, cost, weight)
        found = margins(regions, weight[:-1], BIAS * weight[-1])
        hard = (left & (found > SLACK - 1)).nonzero().squeeze(1)
        if len(hard) > MOST_HARD:
            hard = hard[found[hard].topk(MOST_HARD).indices]
        if not len(hard):
            break
    assert weight is not None
    return torch.cat((weight[:-1], BIAS * weight[-1:]))


def margins(regions: Sequence[Tensor], weight: Tensor, bias: Tensor) -> Tensor:
    """regions @ weight + bias, f32 [R], of features [N, D] of one image after another."""
    found = [features.float() @ weight.float() for features in regions]
    return torch.cat(found) + bias.float()


def _with_constant(features: Tensor) -> Tensor:
    """f64 [N, D + 1], `BIAS` last."""
    return torch.cat((features.double(), features.new_full((len(features), 1), BIAS, dtype=torch.float64)), 1)


def _rows(regions: Sequence[Tensor], places: Tensor) -> Tensor:
    """Features of the regions that stand at these places [M] among all, in ascending order, [M, D]."""
    places = places.sort().values
    parts, start = [], 0
    for features in regions:
        within = (places >= start) & (places < start + len(features))
        parts.append(features[places[within] - start])
        start += len(features)
    return torch.cat(parts)


def fit_sigmoid(margin: Tensor, positive: Tensor) -> tuple[float, float]:
    """The slope and offset with which sigmoid(slope * margin + offset) is the probability that a sample is positive.

    By maximum likelihood, with the truth drawn in a little from 0 and 1 as if one more sample of each kind had been
    seen (Platt 1999, section 2.2). The slope is above 0: a larger margin never means less. Where there are no positives
    a margin of -1, which everything has then, means one in N + 2.

    Args:
        margin: [N].
        positive: bool [N].
    """
    margin, count = margin.double(), len(margin)
    of_kind = int(positive.sum()), count - int(positive.sum())
    if not of_kind[0]:
        return 1.0, 1.0 - math.log(count + 1)
    wanted = torch.where(positive, (of_kind[0] + 1) / (of_kind[0] + 2), 1 / (of_kind[1] + 2)).double()
    columns = torch.stack((margin, torch.ones_like(margin)), 1)
    line = margin.new_tensor([1.0, math.log((of_kind[0] + 1) / (of_kind[1] + 1))])

    def loss_of(line: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(columns @ line, wanted, reduction="sum")

    loss = loss_of(line)
    for _ in range(MOST_STEPS):
        share = (columns @ line).sigmoid()
        hessian = columns.T @ (columns * (share * (1 - share))[:, None])
        hessian.diagonal().add_(1e-9)
        step, length = torch.linalg.solve(hessian, columns.T @ (wanted - share)), 1.0
        while length > 1e-6 and not (loss_of(line + length * step) <= loss):
            length /= 2
        line = line + length * step
        loss_next = loss_of(line)
        if loss - loss_next < 1e-9 * loss:
            break
        loss = loss_next
    return max(line[0].item(), LEAST_SLOPE), line[1].item()
