"""What a user sees while something long is going on: a bar on a terminal, plain lines otherwise. All on stderr.

rich is imported by the bars alone: a line of words, such as a single detection ends with, does without.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from visionkit.engine.events import DownloadProgress, Event, Listener


def say(line: str) -> None:
    """One line of words; above a bar where there is one."""
    print(line, file=sys.stderr, flush=True)


@cache
def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def image_bar(instead_of: Progress) -> Iterator[Listener]:
    """A listener that counts the images of a single pass; while it lasts, in place of another bar: a terminal has room
    for one."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from visionkit.engine.events import ImagesDone

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("left"))
    bar = Progress(*columns, TimeRemainingColumn(), console=_stderr(), transient=True)
    task = bar.add_task("", total=None)

    def listen(event: Event) -> None:
        if not isinstance(event, ImagesDone) or not _stderr().is_terminal:
            return
        if not bar.live.is_started:
            instead_of.stop()
            bar.reset(task)
            bar.start()
        bar.update(task, description=event.what, completed=event.done, total=event.total)
        if event.done >= event.total:
            bar.stop()
            instead_of.start()

    try:
        yield listen
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def proposal_progress() -> Iterator[Listener]:
    """A listener that counts the images that proposals were made for."""
    from rich.progress import Progress

    with image_bar(instead_of=Progress(console=_stderr(), disable=True)) as listen:
        yield listen


@contextmanager
def training_progress() -> Iterator[Listener]:
    """A listener that draws how far a training run is: loss, metric, images a second, time left."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from visionkit.cli.download_progress import download_bar
    from visionkit.engine.events import DownloadProgress, EpochDone, ImagesDone, StepDone
    from visionkit.metrics.task_scores import scores_by_name

    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[score]}  {task.fields[speed]} images/s"),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with (
        Progress(*columns, console=_stderr(), transient=True, disable=not _stderr().is_terminal) as progress,
        download_bar(_stderr(), instead_of=progress) as show_download,
        image_bar(instead_of=progress) as show_images,
    ):
        task = progress.add_task("train", total=None, epoch="", loss=0.0, score="", speed="-")

        def listen(event: Event) -> None:
            if isinstance(event, StepDone):
                progress.update(
                    task,
                    total=event.epochs * event.batches,
                    completed=(event.epoch - 1) * event.batches + event.batch,
                    epoch=f"{event.epoch}/{event.epochs}",
                    loss=sum(event.losses.values()),
                )
            elif isinstance(event, EpochDone):
                progress.update(task, speed=f"{event.images_per_second:.0f}")
                if event.scores is not None:
                    metric, value = next(iter(scores_by_name(event.scores).items()))
                    if value is not None:
                        progress.update(task, score=f"{metric} {value:.4f}")
            elif isinstance(event, DownloadProgress):
                show_download(event)
            elif isinstance(event, ImagesDone):
                show_images(event)

        yield listen


@contextmanager
def loading_progress() -> Iterator[Listener]:
    """A listener that shows the download of a model, where there is one; only then is it made ready."""
    show_download: Callable[[DownloadProgress], None] | None = None

    def listen(event: Event) -> None:
        from rich.progress import Progress

        from visionkit.cli.download_progress import download_bar
        from visionkit.engine.events import DownloadProgress

        nonlocal show_download
        if isinstance(event, DownloadProgress):
            if show_download is None:
                bar = download_bar(_stderr(), instead_of=Progress(console=_stderr(), disable=True))
                show_download = bars.enter_context(bar)
            show_download(event)

    with ExitStack() as bars:
        yield listen


@contextmanager
def image_progress(what: str) -> Iterator[Listener]:
    """A listener that counts evaluated images, after the download of a model where there is one."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from visionkit.cli.download_progress import download_bar
    from visionkit.engine.events import DownloadProgress, EvaluationProgress

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=_stderr(), transient=True, disable=not _stderr().is_terminal) as progress,
        download_bar(_stderr(), instead_of=progress) as show_download,
    ):
        task = progress.add_task(what, total=None)

        def listen(event: Event) -> None:
            if isinstance(event, EvaluationProgress):
                progress.update(task, completed=event.done, total=event.total)
            elif isinstance(event, DownloadProgress):
                show_download(event)

        yield listen
