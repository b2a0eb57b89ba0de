"""What ends a training run, in a line: what it was, what is intact, what to do."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch.distributed as dist

from visionkit.api.batch_size import fitting_batch
from visionkit.api.prepare import Prepared
from visionkit.data.loader import BatchLoader, WorkerEndedError
from visionkit.engine.batch_size import LEAST, is_out_of_memory
from visionkit.engine.broken_batch import save_batch
from visionkit.engine.broken_steps import DivergedError
from visionkit.engine.checkpoint import previous_state
from visionkit.engine.run_folder import RunFolder
from visionkit.errors import DataError, VisionkitError

ONE_VALUE = "Expected more than 1 value per channel"
"""How torch's batch norm says that it has nothing to measure."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def explained(run: Prepared, folder: RunFolder, loaders: Sequence[BatchLoader]) -> Iterator[None]:
    """A stretch in which a run trains.

    Args:
        loaders: those that it has started until then; the list may grow meanwhile.

    Raises:
        VisionkitError: it ended by something that can be explained; other errors come as they are.
    """
    go_on = f"go on by --resume {folder.root}"
    try:
        yield
        return
    except DataError as error:  # an image that is damaged within its pixels, or was changed since it was checked
        raise VisionkitError(
            f"{error}; training stopped, its last state is saved: once the image is put right, {go_on}"
        ) from error
    except WorkerEndedError as error:
        raise VisionkitError(f"{error}; training stopped, its last state is saved: {go_on}") from error
    except DivergedError as error:
        if error.batch is None:
            raise
        save_batch(folder.broken_batch, error.batch)
        raise VisionkitError(f"{error}; the last batch is in {folder.broken_batch}") from error
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise VisionkitError(_no_room(folder, error, go_on)) from error
    except ValueError as error:
        if ONE_VALUE not in str(error):
            raise
        raise VisionkitError(
            "a batch norm measures each channel over its batch, and of a single image so small the last map is one "
            "pixel; start anew with --batch 2 or more, or a larger --imgsz"
        ) from error
    except (MemoryError, RuntimeError) as error:
        ended = _worker_ended(error, loaders)
        if ended is not None:
            raise VisionkitError(f"{ended}; training stopped, its last state is saved: {go_on}") from error
        if _others_gone(error):
            words = " ".join(str(error).split())
            raise VisionkitError(
                f"another process of this run has ended or is out of reach ({words}); its last state is saved: {go_on}"
            ) from error
        if not is_out_of_memory(error):
            raise
        # They hold the tensors that did not fit.
        traceback.clear_frames(error.__traceback__)
    raise VisionkitError(_out_of_memory(run))


def _worker_ended(error: MemoryError | RuntimeError, loaders: Sequence[BatchLoader]) -> WorkerEndedError | None:
    if not isinstance(error, RuntimeError):
        return None
    found = [ended for loader in loaders if (ended := loader.worker_ended(error)) is not None]
    # All recognise it, and one knows what was read.
    return max(found, key=lambda ended: len(str(ended)), default=None)


def _others_gone(error: MemoryError | RuntimeError) -> bool:
    """Whether an error is that of waiting for other processes in vain; gloo's have no type of their own."""
    if dist.is_available() and isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error)


def _no_room(folder: RunFolder, error: OSError, go_on: str) -> str:
    saved = folder.state.exists() or previous_state(folder.state).exists()
    intact = f"the last saved state is whole: make room, then {go_on}" if saved else "make room, and start anew"
    return f"no space is left to write into {folder.root} ({error.strerror}); {intact}"


def _out_of_memory(run: Prepared) -> str:
    """What fits, found on a copy of the model once all that the step held is gone."""
    batch = run.config.train.batch
    failed = f"out of memory with batches of {batch} images of {run.config.imgsz} px on {run.device}"
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
    if fits is None:
        return f"{failed}; start anew with --batch {batch // 2} --set train.accumulate=2"
    return f"{failed}; {fits} fit: start anew with --batch {fits} --set train.accumulate={round(batch / fits)}"
