"""Batch normalisation whose batch is that of all processes that learn together."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from visionkit.ops.global_count import Processes, together


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with the statistics of the whole batch, where several processes each have a part of it.

    Alone, and in eval, it is `nn.BatchNorm2d`. Tensor names are the same, so the weights of each fit the other. torch's
    own `nn.SyncBatchNorm` does this on GPUs alone.

    Source: Zhang et al. 2018, Context Encoding for Semantic Segmentation, section 3.2. The parts' means and variances
    are put together as in Chan et al. 1983, Algorithms for Computing the Sample Variance, equation 2.1, rather than as
    a difference of squares, which can be negative.
    """

    def forward(self, x: Tensor) -> Tensor:
        processes = together()
        if processes is None or not self.training:
            return super().forward(x)
        full = x.to(torch.promote_types(x.dtype, torch.float32))
        own_count = full.new_tensor([x.numel() / x.shape[1]])
        variance, mean = torch.var_mean(full, (0, 2, 3), correction=0)
        rows = _AllRows.apply(torch.cat((mean, variance, own_count)), processes)
        means, variances, counts = rows.split([self.num_features, self.num_features, 1], 1)
        count = counts.sum()
        share = counts / count
        mean = (share * means).sum(0)
        variance = (share * (variances + (means - mean).square())).sum(0)
        self._follow(mean.detach(), variance.detach() * (count / (count - 1).clamp(min=1)))
        scale = (variance + self.eps).rsqrt() * self.weight
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], full, scale[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Take a batch's statistics into the running ones, as `nn.BatchNorm2d` does: with the unbiased variance."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(variance.to(self.running_var), momentum)


class _AllRows(torch.autograd.Function):
    """The vectors [N] of all processes, [world_size, N]; their gradients are summed over the processes on the way
    back, because each one's loss depends on all of them."""

    @staticmethod
    def forward(ctx: Any, row: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        rows = row.new_zeros(processes.world_size, len(row))
        rows[processes.rank] = row
        return processes.sum(rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.sum(grad)[ctx.processes.rank], None


def sync_batch_norms(model: nn.Module) -> int:
    """Let every `nn.BatchNorm2d` in a model count the batch of all processes; its tensors stay the ones they are.

    Call it before freezing: what freezing holds in eval are the modules that are there then.

    Returns:
        How many there are.
    """
    count = 0
    for module in list(model.modules()):
        for name, child in module.named_children():
            # Exactly this: a subclass has its own way.
            if type(child) is nn.BatchNorm2d and child.affine:
                setattr(module, name, _synced(child))
                count += 1
    return count


def _synced(norm: nn.BatchNorm2d) -> SyncBatchNorm2d:
    synced = SyncBatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name in ("weight", "bias"):
        setattr(synced, name, getattr(norm, name))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        synced.register_buffer(name, cast(Tensor, getattr(norm, name)))
    return synced.train(norm.training)
