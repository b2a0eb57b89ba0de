"""Processes that are started again meet where nobody has been, whatever those before them left in the store."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from torch.distributed import HashStore
from torch.distributed.distributed_c10d import Store

from visionkit.engine.meeting import MissingProcessesError, fresh_store

PATIENCE = timedelta(seconds=20)


def meet(store: Store, world_size: int, order: list[int]) -> list[bytes]:
    """What each process reads under one name after the first has written it there, by rank; threads are processes."""

    def process(rank: int) -> bytes:
        mine = fresh_store(store, rank, world_size, PATIENCE)
        if rank == 0:
            assert not mine.check(["address of 0"])  # whatever starts before left
            mine.set("address of 0", uuid4().hex)
        mine.wait(["address of 0"], PATIENCE)
        return bytes(mine.get("address of 0"))

    with ThreadPoolExecutor(world_size) as pool:
        came = {rank: pool.submit(process, rank) for rank in order}
        return [came[rank].result() for rank in range(world_size)]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_each_start_has_a_place_of_its_own(order: list[int]) -> None:
    store = HashStore()
    starts = [meet(store, 3, order) for _ in range(3)]
    assert all(len(set(start)) == 1 for start in starts)  # all of a start read the same
    assert len({start[0] for start in starts}) == 3  # and nothing that a start before had written


def test_a_question_of_a_dead_process_keeps_nobody_waiting() -> None:
    store = HashStore()
    with pytest.raises(MissingProcessesError):
        fresh_store(store, 1, 2, timedelta(seconds=0.05))  # asked, and died before an answer
    with pytest.raises(MissingProcessesError) as error:
        fresh_store(store, 0, 2, timedelta(seconds=0.1))  # answers it, and nobody comes
    assert str(error.value) == (
        "process 0 of 2 waited 0 s for the others and not all came; see what ended them, and start all again"
    )
    assert len(set(meet(store, 2, [0, 1]))) == 1


def test_a_world_may_shrink() -> None:
    store = HashStore()
    meet(store, 3, [0, 1, 2])
    assert len(set(meet(store, 2, [1, 0]))) == 1
