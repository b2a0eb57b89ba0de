"""What ends a training run, in a line: what it was, what is intact, what to do."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist

from visionkit.api.batch_size import fitting_batch
from visionkit.api.prepare import Prepared
from visionkit.data.loader import BatchLoader, WorkerEndedError
from visionkit.engine.batch_size import LEAST, is_out_of_memory
from visionkit.engine.broken_batch import put_together, save_batch
from visionkit.engine.broken_steps import DivergedError
from visionkit.engine.distributed import TorchProcesses
from visionkit.engine.run_folder import RunFolder, resume_flags
from visionkit.errors import DataError, VisionkitError
from visionkit.types import Batch

ONE_VALUE = "Expected more than 1 value per channel"
"""How torch's batch norm says that it has nothing to measure."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def steps_explained(run: Prepared, processes: TorchProcesses | None = None) -> Iterator[None]:
    """A stretch in which the model of a run learns from batches of it, as when it is measured.

    Args:
        processes: who else learns from each batch.

    Raises:
        VisionkitError: memory is out, or a batch of one is too small for its norms; other errors come as they are.
    """
    try:
        yield
        return
    except ValueError as error:
        if ONE_VALUE not in str(error):
            raise
        raise VisionkitError(
            "a batch norm measures each channel over its batch, and of a single image so small the last map is one "
            "pixel; start anew with --batch 2 or more, or a larger --imgsz"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        # They hold the tensors that did not fit.
        traceback.clear_frames(error.__traceback__)
    raise VisionkitError(_out_of_memory(run, processes))


@contextmanager
def explained(
    run: Prepared, folder: RunFolder, loaders: Sequence[BatchLoader], processes: TorchProcesses | None = None
) -> Iterator[None]:
    """A stretch in which a run trains.

    Args:
        loaders: those that it has started until then; the list may grow meanwhile.
        processes: who else learns from each batch; the first of them writes.

    Raises:
        VisionkitError: it ended by something that can be explained; other errors come as they are.
    """
    go_on = f"go on by {resume_flags(folder.root)}"
    try:
        with steps_explained(run, processes):
            yield
    except DataError as error:  # an image that is damaged within its pixels, or was changed since it was checked
        raise VisionkitError(
            f"{error}; training stopped, its last state is saved: once the image is put right, {go_on}"
        ) from error
    except WorkerEndedError as error:
        raise VisionkitError(f"{error}; training stopped, its last state is saved: {go_on}") from error
    except DivergedError as error:
        batch = _of_all(error.batch, processes)
        if batch is None:
            raise
        save_batch(folder.broken_batch, batch)
        raise VisionkitError(f"{error}; the last batch is in {folder.broken_batch}") from error
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise VisionkitError(_no_room(folder, error, go_on)) from error
    except RuntimeError as error:
        ended = _worker_ended(error, loaders)
        if ended is not None:
            raise VisionkitError(f"{ended}; training stopped, its last state is saved: {go_on}") from error
        if _others_gone(error):
            words = " ".join(str(error).split())
            raise VisionkitError(
                f"another process of this run has ended or is out of reach ({words}); its last state is saved: {go_on}"
            ) from error
        raise


def _of_all(own: Batch | None, processes: TorchProcesses | None) -> Batch | None:
    """A batch that was learnt from, with the parts of all processes, who break at the same one; None where there is
    none, and in all but the first."""
    if own is None or processes is None:
        return own
    parts = processes.gathered(own.to(torch.device("cpu")))
    return None if parts is None else put_together(parts)


def _worker_ended(error: RuntimeError, loaders: Sequence[BatchLoader]) -> WorkerEndedError | None:
    found = [ended for loader in loaders if (ended := loader.worker_ended(error)) is not None]
    # All recognise it, and one knows what was read.
    return max(found, key=lambda ended: len(str(ended)), default=None)


def _others_gone(error: RuntimeError) -> bool:
    """Whether an error is that of waiting for other processes in vain; gloo's have no type of their own."""
    if dist.is_available() and isinstance(error, dist.DistError):
        return True
    return "gloo" in str(error)


def _no_room(folder: RunFolder, error: OSError, go_on: str) -> str:
    whole = f"the last saved state is whole: make room, then {go_on}"
    intact = whole if folder.has_state else "make room, and start anew"
    return f"no space is left to write into {folder.root} ({error.strerror}); {intact}"


def _out_of_memory(run: Prepared, processes: TorchProcesses | None) -> str:
    """What fits, found on a copy of the model once all that the step held is gone."""
    settings, share = run.config.train, 1 if processes is None else processes.world_size
    batch = settings.batch // share
    each = "" if share == 1 else f", {batch} a process,"
    failed = f"out of memory with batches of {settings.batch} images of {run.config.imgsz} px{each} on {run.device}"
    run.state.optimizer.zero_grad(set_to_none=True)
    if batch <= LEAST:
        return f"{failed}; start anew with a smaller --imgsz or model"
    try:
        fits = fitting_batch(run, batch - 1).batch
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        fits = 0
    if fits == 0:
        return f"{failed}, and {LEAST} do not fit either; start anew with a smaller --imgsz or model"
    fitting = batch // 2 if fits is None else fits
    known = "" if fits is None else f"{fits} fit: "
    # As many images a step of the optimizer as before.
    accumulate = settings.accumulate * round(batch / fitting)
    return f"{failed}; {known}start anew with --batch {fitting * share} --set train.accumulate={accumulate}"
