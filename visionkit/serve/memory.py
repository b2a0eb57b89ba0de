"""Memory of requests that are over, given back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import sys

SECONDS = 10.0


async def keep_giving_back() -> None:
    """Until it is cancelled: glibc keeps what is free between blocks in use, in pieces that pictures of ever other
    sizes hardly fit, and so would hold a little more after every thousand of them."""
    while True:
        await asyncio.sleep(SECONDS)
        await asyncio.to_thread(give_back)


def give_back() -> None:
    """Return the free pages of all heaps, in a few milliseconds; nothing where the C library is another than glibc."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
