"""Ctrl-C and SIGTERM while a run trains: it ends after its step, its state saved, and says how to go on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from visionkit.cli.process import stop_process
from visionkit.cli.progress import say

if TYPE_CHECKING:
    from visionkit.engine.events import Event, Listener
    from visionkit.engine.interruption import StopRequest

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def patient_signals(listen: Listener) -> Iterator[tuple[Listener, StopRequest]]:
    """A listener that passes events on, and the request that the two signals make of a run.

    Before the first state is saved there is nothing to wait for, and a second signal has no patience either: then the
    process ends at once. It always ends by the usual codes, 130 and 143.
    """
    from visionkit.engine.events import Saved
    from visionkit.engine.interruption import InterruptedRunError, StopRequest
    from visionkit.engine.run_folder import resume_flags

    stop = StopRequest()
    folder: Path | None = None
    first = signal.SIGTERM  # where another process of the run was asked and not this one

    def note(event: Event) -> None:
        nonlocal folder
        if isinstance(event, Saved):
            folder = event.path.parent
        listen(event)

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if stop.asked or not stop.heard:
            stop_process(number, frame)
        first = signal.Signals(number)
        if hasattr(signal, "SIGCHLD"):
            # The signal may have ended the workers too, and torch would make an error of each, in the midst of a step.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        stop.ask()

    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield note, stop
    except (InterruptedRunError, SystemExit) as end:
        by_signal = isinstance(end, InterruptedRunError) or end.code in [128 + number for number in SIGNALS]
        if folder is not None and by_signal:
            say(f"Interrupted; the state is saved, go on by: visionkit finetune {resume_flags(folder)}")
        if isinstance(end, SystemExit):
            raise
        raise SystemExit(128 + first) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
