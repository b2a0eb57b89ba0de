"""Muon: momentum whose matrices are made orthogonal, so that no direction of a layer learns much faster than another.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". Its steps have the size
of AdamW's, so that AdamW's learning rates and weight decay hold for both: Liu et al. 2025, "Muon is Scalable for LLM
Training", section 2.2.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.utils.hooks import RemovableHandle

_QUINTICS = ((8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526))
"""Of the odd polynomials a x + b x^3 + c x^5, each the one that brings what the one before left of [0.01, 1] nearest to
1: to [0.08, 1.92], [0.29, 1.71] and [0.73, 1.27]. Source: Amsel et al. 2025, "The Polar Express", section 3. Jordan et
al.'s one polynomial gets as near in four steps."""

BLOCK_ROWS = 96

BeforeStep = Callable[..., None]
"""Called with the optimizer; torch's add arguments that no one here wants."""

_FADED = 1e-15
"""Squares of much less vanish in 32 bits."""

_RMS_OF_ADAMW = 0.2
"""Root mean square of AdamW's steps in units of the learning rate, as Liu et al. found it."""


class Muon:
    """Muon for the groups that say `orthogonal`, AdamW for the others, in one optimizer with one state.

    It has what the training loop asks of torch's optimizers, in the same form, and is none: the first of those that a
    process makes imports torch's compiler, which takes three quarters of the time that importing torch takes.

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
        self.defaults: dict[str, Any] = {"lr": lr, "momentum": momentum, "betas": betas, "orthogonal": False}
        self.param_groups: list[dict[str, Any]] = []
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        self._before_steps: OrderedDict[int, BeforeStep] = OrderedDict()
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Learn these parameters too; what the group does not say is set to the defaults, in the group itself."""
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        group["params"] = list(group["params"])
        self.param_groups.append(group)

    def register_step_pre_hook(self, hook: BeforeStep) -> RemovableHandle:
        """Have a function called at the beginning of each step, until it is removed by the handle."""
        handle = RemovableHandle(self._before_steps)
        self._before_steps[handle.id] = hook
        return handle

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        assert set_to_none
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Groups and state, with parameters by their place among all: as torch's optimizers have it."""
        place = {p: i for i, p in enumerate(self._parameters())}
        groups = []
        for group in self.param_groups:
            settings = {name: value for name, value in group.items() if name != "params"}
            groups.append({**settings, "params": [place[p] for p in group["params"]]})
        return {"state": {place[p]: values for p, values in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` said of the same parameters in the same groups."""
        groups = saved["param_groups"]
        assert [len(group["params"]) for group in groups] == [len(group["params"]) for group in self.param_groups]
        self.param_groups = [
            {**copy.deepcopy(group), "params": own["params"]}
            for group, own in zip(groups, self.param_groups, strict=True)
        ]
        parameters = self._parameters()
        self.state = defaultdict(dict)
        for place, values in saved["state"].items():
            p = parameters[place]
            self.state[p] = {name: value.to(p.device) for name, value in values.items()}

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self) -> None:
        for before in tuple(self._before_steps.values()):
            before(self)
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

        # Channels last, as convolutions keep them: seen as a matrix without a copy. The order of columns is no matter.
        moved = [update.movedim(1, -1) for update in updates]
        directions = orthogonalised([update.flatten(1) for update in moved])
        for p, update, direction in zip(params, moved, directions, strict=True):
            step = group["lr"] * _RMS_OF_ADAMW * max(direction.shape) ** 0.5
            p.sub_(direction.view(update.shape).movedim(-1, 1), alpha=step)

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


def orthogonalised(matrices: list[Tensor]) -> list[Tensor]:
    """Each matrix [R, C] with all singular values brought near 1 (0.73 to 1.27) and singular vectors kept.

    A Newton-Schulz iteration: an odd polynomial of X changes its singular values and nothing else. It is an even
    polynomial of X X^T times X, and X X^T is only [R, R] (of a tall matrix X^T X, [C, C]). So the iteration runs on
    that, on all of one size at once, however wide they are: a light network has many small ones.

    Its time grows with the cube of R, so of a wide matrix with more than `BLOCK_ROWS` rows (of a tall one, columns)
    blocks are made orthogonal each by itself. Source: Khaled et al. 2025, MuonBP, which now and then takes the whole.

    What has faded below 1e-15, as the momentum of a layer that no object reaches, becomes zero.
    """
    wide = [matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T for matrix in matrices]
    blocks = [matrix.tensor_split(-(-len(matrix) // BLOCK_ROWS)) for matrix in wide]
    results = iter(_orthogonal_blocks([block for parts in blocks for block in parts]))
    whole = [torch.cat([next(results) for _ in parts]) if len(parts) > 1 else next(results) for parts in blocks]
    return [w if w.shape == matrix.shape else w.T for w, matrix in zip(whole, matrices, strict=True)]


def _orthogonal_blocks(blocks: list[Tensor]) -> list[Tensor]:
    by_rows: dict[int, list[int]] = defaultdict(list)
    for i, block in enumerate(blocks):
        by_rows[len(block)].append(i)
    results = list(blocks)
    for members in by_rows.values():
        factors = _polynomial(torch.stack([blocks[i] @ blocks[i].T for i in members]))
        for i, factor in zip(members, factors, strict=True):
            results[i] = factor @ blocks[i]
    return results


def _polynomial(gram: Tensor) -> Tensor:
    """What X [R, C] is to be multiplied by, for X X^T [N, R, R]."""
    norm = gram.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()[:, None, None]  # Frobenius' of X
    total = torch.where(norm > _FADED, 1 / norm, 0)
    gram = gram * total.square()
    for step, (a, b, c) in enumerate(_QUINTICS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        total = factor * total if step == 0 else factor @ total
        if step + 1 < len(_QUINTICS):
            gram = factor @ gram @ factor
    return total
