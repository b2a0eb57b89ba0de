"""A run's curves for TensorBoard, which is an optional extra: a listener that is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visionkit.engine.events import EpochDone, Event, Listener, StepDone
from visionkit.errors import UsageError
from visionkit.metrics.task_scores import scores_by_name


def summary_writer() -> Any:
    """torch's class that writes TensorBoard's files.

    Raises:
        UsageError: the extra is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415
    except ImportError:
        raise UsageError(
            "--tensorboard needs the package tensorboard, which is not installed; "
            "install it by: pip install 'visionkit[tensorboard]'"
        ) from None
    return SummaryWriter


@contextmanager
def tensorboard_log(folder: Path, listen: Listener) -> Iterator[Listener]:
    """A listener that passes events on and writes losses, learning rate, scores and speed into `folder`.

    All curves count batches since the run began. A resumed run writes on: what was written beyond the state that it
    goes on from is taken back.

    Raises:
        UsageError: the extra is not installed.
    """
    open_writer = summary_writer()
    writer: Any = None
    step = 0

    def write(event: Event) -> None:
        nonlocal writer, step
        if isinstance(event, StepDone):
            step = (event.epoch - 1) * event.batches + event.batch
            if writer is None:
                writer = open_writer(str(folder), purge_step=step)
            for name, value in event.losses.items():
                writer.add_scalar(f"batch/{name}", value, step)
            writer.add_scalar("lr", event.lr, step)
        elif isinstance(event, EpochDone) and writer is not None:
            for name, value in event.losses.items():
                writer.add_scalar(f"epoch/{name}", value, step)
            writer.add_scalar("images_per_second", event.images_per_second, step)
            scores = {} if event.scores is None else scores_by_name(event.scores)
            for name, score in scores.items():
                if score is not None:
                    writer.add_scalar(f"val/{name}", score, step)
            writer.flush()
        listen(event)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
