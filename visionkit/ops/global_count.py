"""What a loss is divided by, counted over all processes that share a batch.

A loss over a batch is a sum over what was matched in it, divided by how much that was. Where several processes each
have a part of the batch, all must divide by the count of the whole: then the gradients of their parts add up to that
of the whole batch, however unevenly objects are spread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

import torch
from torch import Tensor


class Processes(Protocol):
    """Processes that learn from one batch together, as this one of them sees it."""

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of this tensor over all processes, the same in each; without a gradient."""
        ...


_together: ContextVar[Processes | None] = ContextVar("together", default=None)

Count = TypeVar("Count", int, Tensor)


@contextmanager
def learning_together(processes: Processes | None) -> Iterator[None]:
    """A stretch in which all these processes go through the same steps, each with its part of every batch."""
    token = _together.set(processes)
    try:
        yield
    finally:
        _together.reset(token)


def together() -> Processes | None:
    """Those that learn together now; None where this process learns alone."""
    return _together.get()


def global_count(count: Count) -> Count:
    """A count over the whole batch, from that over this process's part; as it is where this process learns alone.

    All processes must ask for the same counts in the same order.

    Args:
        count: a number, or a tensor [] without a gradient, such as a sum of qualities.
    """
    processes = _together.get()
    if processes is None:
        return count
    if isinstance(count, Tensor):
        return processes.sum(count)
    return round(float(processes.sum(torch.tensor(count, dtype=torch.float64))))


def share_of_batch(count: int) -> float:
    """This process's share of a count over the whole batch; 1 where it learns alone. A mean over its own part times
    this is its part of the mean over all."""
    return count / max(1, global_count(count))
