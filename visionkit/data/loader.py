"""Which samples make which batch, and the processes that prepare them.

The batches of a run are a function of (view, plan): not of the number of workers, nor of how workers are started, nor
of where the run was interrupted.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, get_worker_info

from visionkit.data.augment import keyed_generator
from visionkit.data.collate import PackedBatch, pack
from visionkit.data.views import EvaluationView, Samples, TrainingView
from visionkit.errors import UsageError, VisionkitError
from visionkit.imaging.letterbox import Frame
from visionkit.types import Batch, Sample

StartMethod = Literal["fork", "spawn"]


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The order in which a run draws its samples.

    Every batch is full: the last of an epoch is filled up with the epoch's first images once more, varied anew. So
    BatchNorm never meets a batch of one, and each step weighs the same.

    Args:
        length: images in the dataset.
        batch: samples by step, over all processes together.
        epochs: of the whole run.
        seed: at least 0.
        rank, world_size: which of how many processes this is. Whatever their number, a step's samples are the same.

    Raises:
        UsageError: `batch` cannot be shared evenly by `world_size` processes.
    """

    length: int
    batch: int
    epochs: int
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        assert self.length > 0
        assert 0 <= self.rank < self.world_size
        if self.batch < 1 or self.batch % self.world_size:
            fitting = max(1, round(self.batch / self.world_size)) * self.world_size
            raise UsageError(
                f"batch must be a positive multiple of the number of processes, {self.world_size}, got {self.batch}; "
                f"use {fitting}"
            )

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.length // self.batch)

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.epochs * self.steps_per_epoch

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The epoch's draws over all processes, i64 [steps_per_epoch * batch].

        First each image once, in random order; then, where the last batch needs filling, the same order again with
        `length` added: see `TrainingView.__getitem__`.
        """
        once = keyed_generator(self.seed, epoch).permutation(self.length)
        draws = self.steps_per_epoch * self.batch
        rounds = -(-draws // self.length)
        return np.concatenate([once + i * self.length for i in range(rounds)])[:draws]

    def batches(self, epoch: int) -> Iterator[list[tuple[int, int]]]:
        """This process's share of each of the epoch's batches, as (epoch, draw) pairs."""
        share = self.batch // self.world_size
        for whole in self.order(epoch).reshape(-1, self.batch):
            yield [(epoch, int(draw)) for draw in whole[self.rank * share : (self.rank + 1) * share]]

    def batches_from(self, step: int) -> Iterator[list[tuple[int, int]]]:
        """The batches of the run from `step`, counted from 0, to its end; epochs follow one another."""
        first_epoch, skip = divmod(step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            batches = list(self.batches(epoch))
            yield from batches[skip:]
            skip = 0


class WorkerEndedError(VisionkitError):
    """A process that prepares batches was ended from outside, such as by a system that is out of memory."""


class BatchLoader:
    """Batches, prepared by worker processes ahead of time. Each `iter()` starts from the beginning of the loader.

    Args:
        reading: what the workers note of what they read.

    Raises, from its iterator: the VisionkitError that reading a sample raised, as it was; torch would wrap it in the
    worker's traceback. And WorkerEndedError, where a worker was killed.
    """

    def __init__(self, loader: DataLoader[Any], reading: _Reading) -> None:
        self._loader = loader
        self._reading = reading

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self._loader)
        while True:
            try:
                packed = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                ended = self.worker_ended(error)
                if ended is None:
                    raise
                raise ended from error
            if isinstance(packed, VisionkitError):
                raise packed
            yield packed.unpack()

    def worker_ended(self, error: RuntimeError) -> WorkerEndedError | None:
        """What to say where one of this loader's workers has ended, with the file it was reading; None where `error` is
        something else. torch may raise it anywhere in the main process, not only where a batch is waited for."""
        found = re.match(r"DataLoader worker \(pid(?:\(s\))? ([0-9, ]+)\) (.*)", str(error), re.DOTALL)
        if found is None:
            return None
        read = self._reading.last_by({int(pid) for pid in found[1].split(",")})
        while_reading = f" while it was reading {read}" if read else ""
        how = found[2].splitlines()[0].removeprefix("is ").strip(" .")
        return WorkerEndedError(
            f"a process that prepares batches has ended{while_reading} ({how}); if memory ran out, use fewer --workers "
            f"or --cache off, if the file is at fault, put it right"
        )


def training_loader(
    view: TrainingView,
    plan: BatchPlan,
    *,
    workers: int,
    start_step: int = 0,
    start_method: StartMethod | None = None,
    pin_memory: bool = False,
) -> BatchLoader:
    """All remaining batches of a run, one epoch after the other: workers start once, and prepare the next epoch while
    the last batches of this one are used. The images of a batch have one size, `TrainingView.batch_image_size`.

    Args:
        workers: processes; 0 prepares batches in this one.
        start_step: steps already done, to resume a run.
        start_method: how workers start. Everything here can be spawned; by default Linux forks, which saves each
            worker seconds of imports and asks no `if __name__ == "__main__"` of a user's script.
        pin_memory: for copying to a GPU.

    Raises:
        UsageError: the start method is unknown.
    """
    assert 0 <= start_step <= plan.steps
    return _batch_loader(view, _Remaining(view, plan, start_step), workers, start_method, pin_memory, persistent=False)


def evaluation_loader(
    view: EvaluationView,
    *,
    batch: int,
    workers: int,
    start_method: StartMethod | None = None,
    pin_memory: bool = False,
) -> BatchLoader:
    """Every image once, in dataset order, those of one size in the view after another; the last batch of each may be
    smaller. Workers stay for the next iteration.

    Args and raises as `training_loader`.
    """
    of_sides: dict[tuple[int, int], list[int]] = {}
    for index, sides in enumerate(view.sides()):
        of_sides.setdefault(sides, []).append(index)
    tasks = [
        _Task(indices[i : i + batch], view.image_size, sides)
        for sides, indices in of_sides.items()
        for i in range(0, len(indices), batch)
    ]
    return _batch_loader(view, tasks, workers, start_method, pin_memory, persistent=workers > 0)


class _Task(NamedTuple):
    """One batch to prepare: keys of the view, the side of the square in pixels, and the sides of the images in it."""

    keys: Sequence[Any]
    size: int
    sides: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Remaining:
    """A plan's batches from `start_step` on, as often as asked for."""

    view: TrainingView
    plan: BatchPlan
    start_step: int

    def __len__(self) -> int:
        return self.plan.steps - self.start_step

    def __iter__(self) -> Iterator[_Task]:
        for step, keys in enumerate(self.plan.batches_from(self.start_step), self.start_step):
            size = self.view.batch_image_size(*divmod(step, self.plan.steps_per_epoch))
            yield _Task(keys, size, (size, size))


class _View(Protocol):
    @property
    def dataset(self) -> Samples: ...

    def render(self, key: Any, size: int, out: NDArray[np.uint8], /) -> tuple[Sample, Frame]: ...


@dataclass(frozen=True, slots=True)
class _Batches:
    """A view, whole batches at a time: the DataLoader calls `__getitems__` with one `_Task`."""

    view: _View
    reading: _Reading

    def __getitems__(self, task: _Task) -> PackedBatch | VisionkitError:
        images = np.empty((len(task.keys), *task.sides, 3), np.uint8)
        try:
            return pack([self.view.render(key, task.size, images[i]) for i, key in enumerate(task.keys)], images)
        except VisionkitError as error:
            return error
        finally:
            self.reading.note(None)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A dataset that notes which sample each worker is reading, in memory that the main process sees: a worker that is
    killed cannot say it any more.

    Args:
        places: of each worker its process id, and the number of the sample that it reads, counted from 1; 0 for none.
    """

    dataset: Samples
    places: Any

    @classmethod
    def of(cls, dataset: Samples, workers: int, method: StartMethod) -> _Reading:
        context = multiprocessing.get_context(method)
        return cls(dataset, context.RawArray(ctypes.c_int64, 2 * workers) if workers else ())

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> Sample:
        self.note(index)
        return self.dataset.read(index)

    def note(self, index: int | None) -> None:
        worker = get_worker_info()
        if worker is not None:
            self.places[2 * worker.id] = os.getpid()
            self.places[2 * worker.id + 1] = 0 if index is None else index + 1

    def last_by(self, processes: set[int]) -> Path | None:
        """The file that one of these processes was reading last."""
        places = list(self.places)
        for process, number in zip(places[::2], places[1::2], strict=True):
            if process in processes and number:
                path: Path | None = self.dataset.path(number - 1) if hasattr(self.dataset, "path") else None
                return path
        return None


def _batch_loader(
    view: _View, batches: Any, workers: int, start_method: StartMethod | None, pin_memory: bool, *, persistent: bool
) -> BatchLoader:
    if start_method not in (None, "fork", "spawn"):
        raise UsageError(f"unknown start method {start_method!r}; choose fork or spawn")
    method = start_method or ("fork" if sys.platform == "linux" else "spawn")
    if workers:
        # This process's folder, which goes with it, is then its workers' too. Each would make one of its own for the
        # socket by which it hands over tensors, and leave it behind where it is killed.
        get_temp_dir()
    reading = _Reading.of(view.dataset, workers, method)
    return BatchLoader(
        DataLoader(
            _Batches(replace(view, dataset=reading), reading),  # type: ignore[arg-type,type-var]
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_prepare_worker,
            multiprocessing_context=method if workers else None,
            persistent_workers=persistent,
            pin_memory=pin_memory,
            # Of its own, because the DataLoader draws from it: torch's global generator stays untouched.
            generator=torch.Generator(),
        ),
        reading,
    )


def _as_it_is(packed: Any) -> Any:
    return packed


def _prepare_worker(_worker: int) -> None:
    # One thread each: the workers are the parallelism.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # Ctrl-C reaches every process of the terminal; the main one decides, and stops its workers by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
