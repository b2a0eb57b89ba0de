"""How far a video is: a bar on a terminal, lines now and then elsewhere, all on stderr. Pictures need neither."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING

from visionkit.cli.progress import say

if TYPE_CHECKING:
    from visionkit.predict.video_source import Moment

Show = Callable[["Moment"], None]
"""Told each frame when its result is there."""

LINE_EVERY = 10.0
"""Seconds between two lines."""


@contextmanager
def video_progress() -> Iterator[Show]:
    """What shows how far the video of each frame is. Where results run over the same terminal, they show it."""
    with ExitStack() as bars:
        if not sys.stderr.isatty():
            yield _lines()
        elif sys.stdout.isatty():
            yield lambda moment: None
        else:
            yield _bar(bars)


def _lines() -> Show:
    said, done, video = monotonic(), count(), None

    def show(moment: Moment) -> None:
        nonlocal said, done, video
        if moment.video is not video:
            video, done = moment.video, count(1)
        number = next(done)
        if monotonic() - said >= LINE_EVERY:
            said = monotonic()
            of_all = "" if video.frames is None else f" of {video.frames}"
            say(f"{video.name}: {number}{of_all} frames")

    return show


def _bar(bars: ExitStack) -> Show:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("left"))
    # Results go to a file or a pipe, and must not be taken for words above the bar.
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, redirect_stdout=False)
    task, video = bar.add_task("", total=None), None

    def show(moment: Moment) -> None:
        nonlocal task, video
        if moment.video is not video:
            if video is None:
                bars.enter_context(bar)
            video = moment.video
            bar.remove_task(task)
            task = bar.add_task(video.name.replace("[", r"\["), total=video.frames)
        bar.advance(task)

    return show
