"""Decoded images and their halves kept in memory, once for all worker processes.

Decoding a JPEG takes longer than all that is done to its pixels afterwards, and bringing a picture down to where the
network's square needs it a third to a half of that.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from visionkit.counted import counted
from visionkit.data.memory import available_memory, processes_here
from visionkit.errors import UsageError
from visionkit.imaging.halving import halve

CacheName = Literal["auto", "ram", "off"]

SHARE = 4
"""`auto` takes at most this part, one in so many, of the memory that is available: the rest is for training."""

LEVELS = 3
"""An image, its half and its quarter; these two take a third of the room of the first."""

_LINE = 64
"""Images begin at multiples of this many bytes, a cache line: no two processes fill the same one at once."""


class CacheChoice(NamedTuple):
    """Whether images are cached, and what to say of it."""

    use: bool
    words: str


def cache_choice(
    name: str,
    sizes: NDArray[np.integer],
    available: int | None = None,
    *,
    maps: bool = False,
    processes: int | None = None,
) -> CacheChoice:
    """Decide whether images are kept decoded.

    Args:
        name: `ram`, `off`, or `auto`: where they take no more than a quarter of the memory that is available.
        sizes: [N, 2] width and height in pixels.
        available: bytes of memory; None asks the system.
        maps: whether a map of each image, a byte a pixel, is kept with it.
        processes: that share the memory, each with a cache of its own; None: those that torchrun started here.

    Raises:
        UsageError: an unknown name, or `ram` for more than there is.

    >>> cache_choice("auto", np.array([[640, 480]] * 205), available=10**9)
    CacheChoice(use=True, words='205 images cached in RAM, 0.25 GB')
    """
    if name not in get_args(CacheName):
        raise UsageError(f"unknown cache {name!r}; choose one of {', '.join(get_args(CacheName))}")
    if name == "off":
        return CacheChoice(False, "images not cached")
    available = available_memory() if available is None else available
    processes = processes_here() if processes is None else processes
    own = int(_starts(sizes)[-1]) + (int(_starts(sizes, channels=1, levels=1)[-1]) if maps else 0)
    needed, size = processes * own, _gigabytes(own) + (f" in each of {processes} processes" if processes > 1 else "")
    if name == "ram" and needed > available:
        raise UsageError(
            f"cache ram needs {size} for {counted(len(sizes), 'decoded image')}, "
            f"{_gigabytes(available)} of memory are available; use --cache auto or off"
        )
    if name == "auto" and needed > available // SHARE:
        return CacheChoice(
            False,
            f"images not cached: decoded they take {size}, more than a quarter of the "
            f"{_gigabytes(available)} of memory available",
        )
    words = f"{counted(len(sizes), 'image')}{' and their maps' * maps} cached in RAM, {size}"
    if sys.platform != "linux":  # where `training_loader` spawns its workers
        words += ", for this process; workers, which are spawned here, read files"
    return CacheChoice(True, words)


class ImageCache:
    """Room for the pixels of every image, filled by whichever process reads one first.

    The room is anonymous memory, taken page by page as it is filled. Forked workers share it, whatever the size of
    /dev/shm, and it goes when the last process does. Spawned workers cannot be handed it: see `DetectionDataset`.

    Args:
        sizes: [N, 2] width and height in pixels.
        channels: bytes of a pixel.
        levels: how often an image is kept: whole, its half, and so on.

    Raises:
        OSError: the system refuses so much memory, or has no locks to share.
    """

    def __init__(self, sizes: NDArray[np.integer], *, channels: int = 3, levels: int = LEVELS) -> None:
        self._starts = _starts(sizes, channels, levels)
        self._sizes = sizes
        self._channels, self._levels = channels, levels
        count = len(sizes)
        memory = mmap.mmap(-1, int(self._starts[-1]) + count)
        self._pixels = np.frombuffer(memory, np.uint8)
        self._filled = self._pixels[len(self._pixels) - count :]
        # What this process knows to be filled; after a fork each has its own.
        self._known = np.zeros(count, np.bool_)
        self._lock = multiprocessing.get_context("fork" if os.name == "posix" else "spawn").Lock()

    def read(self, index: int, load: Callable[[], NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Image `index`, u8 [H, W, C], its half and its quarter, as far as they have a pixel; not to be written to.
        `load` gives the image if nobody has read it yet."""
        levels = [room for level in range(self._levels) if (room := self._room(index, level)).size]
        if not self._known[index]:
            # Two processes may load an image at once; both write the same bytes. The lock is not held for that: it is
            # there so that who sees the mark sees the pixels too, on processors that reorder writes.
            with self._lock:
                filled = self._filled[index]
            if not filled:
                levels[0][:] = load()
                for larger, smaller in pairwise(levels):
                    smaller[:] = halve(larger, 2)
                with self._lock:
                    self._filled[index] = 1
            self._known[index] = True
        for level in levels:
            level.flags.writeable = False
        return levels

    def _room(self, index: int, level: int) -> NDArray[np.uint8]:
        width, height = (int(side) >> level for side in self._sizes[index])
        start = self._starts[self._levels * index + level]
        end = start + self._channels * width * height
        return self._pixels[start:end].reshape(height, width, self._channels)


def _starts(sizes: NDArray[np.integer], channels: int = 3, levels: int = LEVELS) -> NDArray[np.int64]:
    """Where each level of each image begins, and where the last ends: i64 [N * levels + 1]."""
    sides = sizes.astype(np.int64)[:, :, None] >> np.arange(levels)
    lengths = channels * sides.prod(axis=1).ravel()
    return np.concatenate(([0], np.cumsum(-(-lengths // _LINE) * _LINE)))


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
