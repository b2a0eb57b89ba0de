"""Muon: momentum whose matrices are made orthogonal, so that no direction of a layer learns much faster than another.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". Its steps have the size
of AdamW's, so that AdamW's learning rates and weight decay hold for both: Liu et al. 2025, "Muon is Scalable for LLM
Training", section 2.2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan et al.'s polynomial a x + b x^3 + c x^5: five times applied, it takes whatever lies in [0.003, 1] near 1."""

_RMS_OF_ADAMW = 0.2
"""Root mean square of AdamW's steps in units of the learning rate, as Liu et al. found it."""


class Muon(torch.optim.Optimizer):
    """Muon for the groups that say `orthogonal`, AdamW for the others, in one optimizer with one state.

    Args:
        groups: each with `params`, `weight_decay` and `orthogonal`. Of a parameter with more than two dimensions, such
            as a convolution's [out, in, height, width], the matrix is [out, in * height * width].
        lr: learning rate, AdamW's.
        momentum: of the orthogonal groups; Nesterov's.
        betas: of the others.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "betas": betas, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                (self._orthogonal_step if group["orthogonal"] else self._adamw_step)(params, group)

    def _orthogonal_step(self, params: list[Tensor], group: dict[str, Any]) -> None:
        moments = self._states(params, "momentum")
        grads = _gradients(params)
        torch._foreach_lerp_(moments, grads, 1 - group["momentum"])
        updates = torch._foreach_lerp(grads, moments, group["momentum"])
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])

        # Matrices of one shape in one go: a light network has many small ones.
        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, update in enumerate(updates):
            by_shape[update.shape[0], update[0].numel()].append(i)
        for shape, members in by_shape.items():
            directions = orthogonalised(torch.stack([updates[i].flatten(1) for i in members]))
            step = group["lr"] * _RMS_OF_ADAMW * max(shape) ** 0.5
            for i, direction in zip(members, directions, strict=True):
                params[i].sub_(direction.view(params[i].shape), alpha=step)

    def _adamw_step(self, params: list[Tensor], group: dict[str, Any]) -> None:
        for p in params:
            self.state[p].setdefault("step", torch.zeros((), device=p.device))
        beta1, beta2 = group["betas"]
        adamw(
            params,
            _gradients(params),
            self._states(params, "exp_avg"),
            self._states(params, "exp_avg_sq"),
            [],
            [self.state[p]["step"] for p in params],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )

    def _states(self, params: list[Tensor], name: str) -> list[Tensor]:
        for p in params:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in params]


def _gradients(params: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in params if p.grad is not None]


def orthogonalised(matrices: Tensor, steps: int = 5) -> Tensor:
    """The matrices [N, R, C] with all singular values brought near 1 (0.7 to 1.2) and singular vectors kept.

    A Newton-Schulz iteration: with X's singular values, an odd polynomial of X changes nothing else. It is an even
    polynomial of X X^T times X; X X^T is only [R, R], so the iteration runs on that and touches a wide matrix only at
    both ends.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonalised(matrices.mT, steps).mT
    a, b, c = _QUINTIC
    # First to a largest element of 1: the squares of a gradient that fades away vanish long before itself.
    x = matrices.float()
    x = x / x.abs().amax((-2, -1), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1)
    gram = x @ x.mT
    total: Tensor | None = None
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        total = factor if total is None else factor @ total
        if step + 1 < steps:
            gram = factor @ gram @ factor
    assert total is not None
    result: Tensor = total @ x
    return result
