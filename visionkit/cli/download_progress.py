"""The bar of a download, on a terminal; elsewhere the lines that announce it are enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

if TYPE_CHECKING:
    from visionkit.engine.events import DownloadProgress


@contextmanager
def download_bar(console: Console, instead_of: Progress) -> Iterator[Callable[[DownloadProgress], None]]:
    """What shows how far a download is; while it lasts, in place of another bar: a terminal has room for one."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TextColumn("left"), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("download", total=None)

    def show(event: DownloadProgress) -> None:
        if not console.is_terminal:
            return
        if not bar.live.is_started:
            instead_of.stop()
            bar.start()
        bar.update(task, completed=event.done, total=event.total)
        if event.done >= event.total:
            bar.stop()
            instead_of.start()

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()
