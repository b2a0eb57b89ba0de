"""Live sources: whoever is slower than a camera sees the newest picture, not a queue of old ones."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

# Waiting that no signal could end, as on Windows, is done in turns of so many seconds.
_TURN = 0.5
# How long a thread may take to let go of its source.
_PATIENCE = 1.0


def newest(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """Of items that come as time passes, each time the newest that has not been given yet; those before it are dropped.

    They are fetched by a thread of their own, which closes them at the end, so that one item is held at most. The last
    one always comes; what the items raise is raised behind it.
    """
    changed = threading.Condition()
    held: list[T] = []
    ends: list[BaseException | None] = []
    leave = threading.Event()

    def fetch() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                with changed:
                    held[:] = [item]
                    changed.notify()
                if leave.is_set():
                    break
            items.close()
        except BaseException as raised:  # whatever it is, it is for the thread that waits
            error = raised
        with changed:
            ends.append(error)
            changed.notify()

    thread = threading.Thread(target=fetch, name="newest", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                while not changed.wait_for(lambda: held or ends, _TURN):
                    pass
                if not held:
                    if ends[0] is not None:
                        raise ends[0]
                    return
                item = held.pop()
            yield item
    finally:
        leave.set()
        thread.join(_PATIENCE)
