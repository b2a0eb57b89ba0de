"""Pictures that are read while those before them are looked at."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def made_ahead(items: Iterable[T]) -> Generator[T, None, None]:
    """The items, each made by a thread of its own while the one before it is used; one at most waits.

    What making one raises is raised in its place. It gains time where making them lets other threads run, as decoding
    does.

    >>> list(made_ahead(number * number for number in range(4)))
    [0, 1, 4, 9]
    """
    making, end = iter(items), object()
    with ThreadPoolExecutor(1, "made-ahead") as thread:
        coming = thread.submit(next, making, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, making, end)
            yield item  # type: ignore[misc]
