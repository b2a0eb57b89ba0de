"""Several processes, on one machine or many, that learn from the same batches: each a part, all the same step.

torchrun starts them and says in environment variables who is who. Gradients are summed in one piece after the last
backward pass of a step, and every process then takes the step by itself, with the same numbers: so an optimizer that
looks at whole matrices, as Muon does, needs to know nothing of it.

That the sum waits for the end of the backward pass costs the time of one all-reduce a step; `docs/distributed.md` says
how to measure it. (Li et al. 2020, PyTorch Distributed, section 3.2, hides it behind the backward pass.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from visionkit.engine.meeting import fresh_store
from visionkit.errors import UsageError

T = TypeVar("T")

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others before it gives up: longer than a checkpoint or an evaluation's end takes,
short enough that a machine that has gone does not hold the others for the night."""

_PLACE = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class TorchProcesses:
    """The processes of the group that this one has joined."""

    rank: int
    world_size: int

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and words."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """See `visionkit.ops.global_count.Processes`."""
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total

    def any(self, mine: bool) -> bool:
        """Whether it is so in any of them."""
        return bool(self.sum(torch.tensor(float(mine))))

    def least(self, mine: int) -> int:
        """The least of the numbers that each has."""
        number = torch.tensor(mine)
        dist.all_reduce(number, dist.ReduceOp.MIN)
        return int(number)

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them.

        Raises: what making it raised, in all of them.
        """
        box: list[Any] = [None, None]
        if self.first:
            try:
                box[0] = make()
            except Exception as error:
                box[1] = error.with_traceback(None)
        dist.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise box[1]
        made: T = box[0]
        return made

    def gathered(self, mine: T) -> list[T] | None:
        """What each has, in the order of ranks, in the first; None in the others."""
        boxes: list[Any] | None = [None] * self.world_size if self.first else None
        dist.gather_object(mine, boxes, dst=0)
        return boxes


@contextmanager
def joined_processes(environment: Mapping[str, str] = os.environ) -> Iterator[TorchProcesses | None]:
    """The group of all processes of this run, joined and left again; None where this one is alone.

    Args:
        environment: where torchrun says which process this is.

    Raises:
        UsageError: some of what torchrun says is there and some is missing.
        MissingProcessesError: the others did not come.
    """
    if int(environment.get("WORLD_SIZE") or 1) < 2:
        yield None
        return
    missing = [name for name in _PLACE if not environment.get(name)]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is {environment['WORLD_SIZE']} but {', '.join(missing)} is not set; start the processes by "
            f"torchrun -m visionkit, or unset WORLD_SIZE"
        )
    # What is small is sent between CPUs, gradients on a GPU between GPUs.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank(environment) % torch.cuda.device_count())
    store, rank, world_size = next(rendezvous("env://", timeout=PATIENCE))
    dist.init_process_group(
        backend,
        store=fresh_store(store, rank, world_size, PATIENCE),
        rank=rank,
        world_size=world_size,
        timeout=PATIENCE,
    )
    try:
        yield TorchProcesses(dist.get_rank(), dist.get_world_size())
    finally:
        # Left open, a process that failed would keep the others waiting.
        dist.destroy_process_group()


def local_rank(environment: Mapping[str, str] = os.environ) -> int:
    """The number of this process among those of its machine; 0 where torchrun did not start it."""
    return int(environment.get("LOCAL_RANK") or 0)


def restarts(environment: Mapping[str, str] = os.environ) -> int:
    """How often torchrun has started these processes anew."""
    return int(environment.get("TORCHELASTIC_RESTART_COUNT") or 0)


def restarts_allowed(environment: Mapping[str, str] = os.environ) -> int:
    """How often torchrun starts the processes anew where one of them ends, at most."""
    return int(environment.get("TORCHELASTIC_MAX_RESTARTS") or 0)


@torch.no_grad()
def sum_gradients(parameters: Sequence[nn.Parameter], processes: TorchProcesses) -> None:
    """Let each parameter's gradient be the sum over all processes, in place, by one all-reduce.

    A parameter that has none in any process, because nothing that was learnt from depends on it, has none afterwards
    either: an optimizer lets it be. What has one in some gets it in all.
    """
    flat = [
        torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten().to(p.dtype)
        for p in parameters
    ]  # fmt: skip
    if not flat:
        return
    there = flat[0].new_tensor([float(p.grad is not None) for p in parameters])
    total = processes.sum(torch.cat([*flat, there]))
    *sums, found = total.split([*(len(part) for part in flat), len(there)])
    for p, part, count in zip(parameters, sums, found.tolist(), strict=True):
        if count and p.grad is None:
            p.grad = torch.zeros_like(p)
        if p.grad is not None:
            p.grad.copy_(part.view_as(p))


@torch.no_grad()
def take_over(models: Sequence[nn.Module], processes: TorchProcesses) -> None:
    """Give all processes the first one's tensors, so that not even machines that calculate differently begin apart."""
    for model in models:
        for tensor in (*model.parameters(), *model.buffers()):
            # A buffer of its own: a tensor in channels_last memory is not sent in the order in which it is read.
            sent = tensor.detach().contiguous()
            dist.broadcast(sent, src=0)
            if not processes.first:
                tensor.copy_(sent)


def by_first(processes: TorchProcesses | None, make: Callable[[], T]) -> T:
    """What is made once for all processes, by the first of them; or by this one, where it is alone."""
    return make() if processes is None else processes.from_first(make)
