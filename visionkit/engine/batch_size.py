"""How many images fit into memory at once, found by learning from a few of them, or from more and more."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch

from visionkit.data.memory import available_memory, peak_memory, processes_here, reset_peak_memory
from visionkit.engine.events import Event, StepDone
from visionkit.engine.settings import TrainSettings
from visionkit.engine.train import TrainingState, train
from visionkit.types import Batch

LEAST = 2
"""Images of the smallest trial: a norm over a batch has nothing to measure in one image whose map is one pixel."""

SHARE = 0.8
"""Of the memory that is available, what a step may take: loaders, evaluation and files take some of it too."""

_WORDS_OF_TORCH = ("out of memory", "DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on whichever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS_OF_TORCH)


@dataclass(frozen=True, slots=True)
class Fit:
    """What was found.

    Args:
        batch: images that fit, a power of two; 0 where not even the smallest trial did; None where this system does not
            say what a trial took.
        words: what it was judged by.
    """

    batch: int | None
    words: str


def largest_batch(trial: Callable[[int], None], most: int, device: torch.device, available: int | None = None) -> Fit:
    """The largest power of two, from `LEAST` to `most`, of images that fit.

    Beside a GPU each is tried, until one does not fit. On a CPU, where the system would sooner kill the process than
    say that memory is out, the memory of two small ones is measured, and the others follow from it: it grows by the
    same with each image.

    Args:
        trial: learns from a batch of so many images.
        most: at least `LEAST`.
        available: bytes of memory for a CPU; None asks the system for this process's share.
    """
    sizes = [size for size in (2**power for power in range(1, 31)) if size <= most]
    assert sizes
    if device.type == "cpu":
        # Processes of one machine share its memory, and try all at once.
        return _by_measuring(trial, sizes, available_memory() // processes_here() if available is None else available)
    return _by_trial(trial, sizes, device)


def _by_trial(trial: Callable[[int], None], sizes: list[int], device: torch.device) -> Fit:
    fits = 0
    for size in sizes:
        try:
            trial(size)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            break
        if device.type == "cuda" and not _leaves_some(device):
            break
        fits = size
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return Fit(fits, f"tried on {device}" if fits == sizes[-1] else f"tried on {device}, {2 * fits or LEAST} do not")


def _leaves_some(device: torch.device) -> bool:
    """Whether what was taken at most leaves the rest of `SHARE` of what this process could have."""
    free, _ = torch.cuda.mem_get_info(device)
    within = torch.cuda.max_memory_reserved(device) <= SHARE * (free + torch.cuda.memory_reserved(device))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return within


def _by_measuring(trial: Callable[[int], None], sizes: list[int], available: int) -> Fit:
    peaks: list[int] = []
    # The first time for what is only made once, the second for what is there without a step.
    for size in (LEAST, 0, LEAST, 2 * LEAST):
        try:
            peak = _peak_of(partial(trial, size) if size else lambda: None)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return Fit(LEAST if peaks else 0, f"{size} images do not")
        if peak is None:
            return Fit(None, "this system does not say what memory a step takes")
        peaks.append(peak)
    _, before, small, double = peaks
    each = max(1, (double - small) // LEAST)
    once = max(0, small - LEAST * each - before)
    room = SHARE * available
    fits = max((size for size in sizes if once + each * size <= room), default=0)
    return Fit(fits, f"{_gigabytes(each)} each and {_gigabytes(once)} once, of {_gigabytes(available)} available")


def _peak_of(action: Callable[[], None]) -> int | None:
    """The most memory in bytes that this process had while it did something."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).malloc_trim(0)  # what was freed before would be taken again, and not be seen
        except AttributeError:  # another libc, such as musl
            return None
    if not reset_peak_memory():
        return None
    action()
    return peak_memory()


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


class _EnoughError(Exception):
    """Ends the trial from within the loop."""


def two_steps(state: TrainingState, batch: Batch, settings: TrainSettings, device: torch.device) -> None:
    """Learn from a batch twice, as a run does: the second time all that an optimizer keeps is there.

    Args:
        state: of a model that is not needed afterwards.
    """
    steps = 0

    def listen(event: Event) -> None:
        nonlocal steps
        steps += isinstance(event, StepDone)
        if steps == 2:
            raise _EnoughError

    state.epoch = state.batch = 0  # it may have been used before
    quiet = {"epochs": 1, "accumulate": 1, "save_minutes": 1e9, "max_skipped": 3}
    with suppress(_EnoughError):
        train(
            state,
            _Same(batch),
            settings.model_copy(update=quiet),
            device=device,
            evaluate=_never,
            save_state=lambda state: None,
            save_epoch=_never,
            listen=listen,
        )


@dataclass(frozen=True, slots=True)
class _Same:
    """The same batch again and again."""

    batch: Batch
    batches_per_epoch: int = 3

    def start(self, epoch: int, batch: int) -> Iterator[Batch]:
        while True:
            yield self.batch


def _never(*_: Any) -> NoReturn:
    raise AssertionError("a trial ends before its epoch does")
