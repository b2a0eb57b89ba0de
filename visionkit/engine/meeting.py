"""Where the processes of one start meet: a corner of torchrun's store that no start before has written into.

Processes tell each other their addresses in a store that torchrun keeps over its restarts, and PyTorch (2.15) writes
and reads them under the same names every time. So a process that is started again may read the address of one that
has died, and try it until its patience ends. The number of the restart would not tell the starts apart everywhere: a
machine that joined late counts fewer of them. So the first process draws a name, and gives it to those who ask now: a
question holds a word of its own, which nobody has answered before.
"""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import uuid4

from torch.distributed.distributed_c10d import PrefixStore, Store

from visionkit.errors import VisionkitError

_POLL_SECONDS = 0.02


class MissingProcessesError(VisionkitError):
    """Processes of a run did not come."""


def fresh_store(store: Store, rank: int, world_size: int, patience: timedelta) -> PrefixStore:
    """A part of a store that is the same for all processes of this start, and empty.

    Args:
        store: one that all of them reach; it may hold what earlier starts left.
        patience: how long to wait for the others.

    Raises:
        MissingProcessesError: not all of them came.
    """
    deadline = time.monotonic() + patience.total_seconds()

    def wait() -> None:
        if time.monotonic() > deadline:
            raise MissingProcessesError(
                f"process {rank} of {world_size} waited {patience.total_seconds():.0f} s for the others and not all "
                f"came; see what ended them, and start all again"
            )
        time.sleep(_POLL_SECONDS)

    if rank == 0:
        name = uuid4().hex
        missing = set(range(1, world_size))
        while missing:
            for other in sorted(missing):
                if store.check([_arrival(name, other)]):
                    missing.discard(other)
                elif store.check([_question(other)]):  # of a process that lives, or of one that has died
                    store.set(_answer(store.get(_question(other)).decode()), name)
            if missing:
                wait()
    else:
        word = uuid4().hex
        store.set(_question(rank), word)
        while not store.check([_answer(word)]):
            wait()
        name = store.get(_answer(word)).decode()
        store.set(_arrival(name, rank), "here")
    return PrefixStore(name, store)


def _question(rank: int) -> str:
    return f"visionkit/where does process {rank} meet the others"


def _answer(word: str) -> str:
    return f"visionkit/{word}"


def _arrival(name: str, rank: int) -> str:
    return f"visionkit/{name}/{rank}"
