"""What a user sees while something long is going on: a bar on a terminal, plain lines otherwise. All on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from visionkit.cli.download_progress import download_bar

if TYPE_CHECKING:
    from visionkit.engine.events import Event, Listener

stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """One line of words."""
    stderr.print(line, markup=False)


@contextmanager
def image_bar(instead_of: Progress) -> Iterator[Listener]:
    """A listener that counts the images of a single pass; while it lasts, in place of another bar: a terminal has room
    for one."""
    from visionkit.engine.events import ImagesDone

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("left"))
    bar = Progress(*columns, TimeRemainingColumn(), console=stderr, transient=True)
    task = bar.add_task("", total=None)

    def listen(event: Event) -> None:
        if not isinstance(event, ImagesDone) or not stderr.is_terminal:
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
    with image_bar(instead_of=Progress(console=stderr, disable=True)) as listen:
        yield listen


@contextmanager
def training_progress() -> Iterator[Listener]:
    """A listener that shows a training run: loss, metric, images a second, time left."""
    from visionkit.api.training_run import epoch_line
    from visionkit.engine.events import DownloadProgress, EpochDone, ImagesDone, StepDone, Stopped, Thawed
    from visionkit.metrics.task_scores import scores_by_name

    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[score]}  {task.fields[speed]} images/s"),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with (
        Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress,
        download_bar(stderr, instead_of=progress) as show_download,
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
                say(epoch_line(event))
            elif isinstance(event, DownloadProgress):
                show_download(event)
            elif isinstance(event, ImagesDone):
                show_images(event)
            elif isinstance(event, Thawed):
                say(event.sentence())
            elif isinstance(event, Stopped):
                say(f"Stopped after epoch {event.epoch}: no better {event.metric} since epoch {event.best_epoch}")

        yield listen


@contextmanager
def loading_progress() -> Iterator[Listener]:
    """A listener that shows the download of a model, where there is one."""
    from visionkit.engine.events import DownloadProgress

    with download_bar(stderr, instead_of=Progress(console=stderr, disable=True)) as show_download:

        def listen(event: Event) -> None:
            if isinstance(event, DownloadProgress):
                show_download(event)

        yield listen


@contextmanager
def image_progress(what: str) -> Iterator[Listener]:
    """A listener that counts evaluated images, after the download of a model where there is one."""
    from visionkit.engine.events import DownloadProgress, EvaluationProgress

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress,
        download_bar(stderr, instead_of=progress) as show_download,
    ):
        task = progress.add_task(what, total=None)

        def listen(event: Event) -> None:
            if isinstance(event, EvaluationProgress):
                progress.update(task, completed=event.done, total=event.total)
            elif isinstance(event, DownloadProgress):
                show_download(event)

        yield listen
