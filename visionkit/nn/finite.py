"""Whether weights are numbers: what is computed with a NaN or an infinity is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from visionkit.errors import CheckpointError


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity; None where none does. Whole numbers pass.

    A sum is finite only where all that it adds is, and to add reads each number once and copies none. A sum that is
    not may be of finite numbers too large for their type: then these are looked at one by one.

    >>> not_finite({"weight": torch.ones(2), "bias": torch.tensor([0.0, float("nan")])})
    'bias'
    """
    sums = {name: _wide(tensor).sum().float() for name, tensor in tensors.items() if tensor.is_floating_point()}
    # Together: a GPU is waited for once.
    if not sums or torch.stack(list(sums.values())).isfinite().all():
        return None
    return next((name for name in sums if not torch.isfinite(_wide(tensors[name])).all()), None)


def require_finite(tensors: Mapping[str, Tensor], path: Path, remedy: str) -> None:
    """Raises CheckpointError where tensors hold a NaN or an infinity.

    Args:
        path: of the file that they are from.
        remedy: what to do, for the message.
    """
    name = not_finite(tensors)
    if name is not None:
        values = _wide(tensors[name])
        broken = values.numel() - int(torch.isfinite(values).sum())
        raise CheckpointError(
            f"{path} has {broken} of {values.numel()} numbers in {name} that are NaN or infinite, weights must be "
            f"finite; {remedy}"
        )


def _wide(tensor: Tensor) -> Tensor:
    """In 32 bits at least: sums of fewer overflow soon, and of 8 there are none."""
    return tensor if tensor.element_size() >= 4 else tensor.float()
