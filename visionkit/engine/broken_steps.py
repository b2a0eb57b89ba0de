"""Steps that cannot be taken: their loss or gradient is not finite. They are skipped, and leave nothing behind."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from visionkit.errors import VisionkitError
from visionkit.nn.finite import not_finite
from visionkit.ops.global_count import Processes
from visionkit.types import Batch


class DivergedError(VisionkitError):
    """Training stopped because it could go on no more.

    Args:
        batch: the last one that could not be learnt from; None where the weights are what broke.
    """

    def __init__(self, message: str, batch: Batch | None = None) -> None:
        super().__init__(message)
        self.batch = batch


def all_finite(values: Iterable[Mapping[str, float]], norm: float) -> bool:
    """Whether the loss values of a step's batches and the norm of its gradient are."""
    return math.isfinite(norm) and all(math.isfinite(value) for batch in values for value in batch.values())


def require_finite_weights(model: nn.Module, epoch: int) -> None:
    """Raises DivergedError where a parameter or a running statistic is not finite: such weights are not to be saved."""
    if not_finite(model.state_dict()) is not None:
        raise DivergedError(
            f"the weights are no longer finite in epoch {epoch}; the last saved state is intact, start anew with a "
            f"lower --lr"
        )


class Statistics:
    """The buffers of a model, such as running statistics, and what they were before a step: a forward pass moves them
    before anybody knows what its loss is."""

    def __init__(self, model: nn.Module) -> None:
        self._now: list[Tensor] = list(model.buffers())
        self._before = [buffer.clone() for buffer in self._now]

    def keep(self) -> None:
        """Remember them as they are."""
        _copy(self._before, self._now)

    def restore(self) -> None:
        """Put back what was remembered."""
        _copy(self._now, self._before)

    @torch.no_grad()
    def average(self, processes: Processes) -> None:
        """Let all processes, which remembered the same, have the mean of what each of them has now.

        Of the changes, so that what did not move stays as it is to the last bit.
        """
        pairs = [(now, kept) for now, kept in zip(self._now, self._before, strict=True) if now.is_floating_point()]
        if not pairs:
            return
        changes = [(now - kept).flatten() for now, kept in pairs]
        mean = processes.sum(torch.cat(changes)) / processes.world_size
        for (now, kept), change in zip(pairs, mean.split([len(change) for change in changes]), strict=True):
            moved = change.view_as(now)
            now.copy_(torch.where(moved == 0, kept, kept + moved))  # -0 + 0 is 0


@torch.no_grad()
def _copy(to: list[Tensor], source: list[Tensor]) -> None:
    if to:
        torch._foreach_copy_(to, source)
