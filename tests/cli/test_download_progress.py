"""One bar at a time: a download's in place of another, on a terminal only."""

import io

from rich.console import Console
from rich.progress import Progress

from visionkit.cli.download_progress import download_bar
from visionkit.engine.events import DownloadProgress


def shown(terminal: bool) -> tuple[str, list[bool]]:
    """What half a download and its end write, and whether the other bar was live before, amid and after."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80)
    live = []
    with (
        Progress(console=console, disable=not terminal) as other,
        download_bar(console, instead_of=other) as show,
    ):
        live.append(other.live.is_started)
        show(DownloadProgress(512_000, 1_024_000))
        live.append(other.live.is_started)
        show(DownloadProgress(1_024_000, 1_024_000))
        live.append(other.live.is_started)
    return stream.getvalue(), live


def test_on_a_terminal_the_bar_takes_the_place_of_the_other() -> None:
    text, live = shown(terminal=True)
    assert "1.0/1.0 MB" in text
    assert live == [True, False, True]


def test_elsewhere_there_is_none() -> None:
    text, live = shown(terminal=False)
    assert "MB" not in text
    assert live == [False, False, False]


def test_a_download_that_breaks_off_leaves_no_live_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with Progress(console=console) as other:
        with download_bar(console, instead_of=other) as show:
            show(DownloadProgress(1, 2))
        assert not other.live.is_started
        with Progress(console=console) as another:  # would raise if one were live still
            assert another.live.is_started
