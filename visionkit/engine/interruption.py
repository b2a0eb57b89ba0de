"""Asked to end: a run that is told to stop does so between two optimizer steps, with its state saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from visionkit.errors import VisionkitError


class InterruptedRunError(VisionkitError):
    """Training ended because it was asked to."""

    def __init__(self) -> None:
        super().__init__("training was asked to end; its last state is saved, go on by --resume")


class StopRequest:
    """Whether a run has been asked to end, as by a signal, and whether it is where it may end at once.

    A step that has begun is finished first: half of one is in no state that could be saved. While a run waits for
    images or evaluates, nothing of it changes, so it ends within that.

    Attributes:
        asked: whether it has been.
        heard: whether there is a run that would end.
    """

    def __init__(self) -> None:
        self.asked = False
        self.heard = False
        self._at_rest = False

    @contextmanager
    def heard_by_run(self) -> Iterator[None]:
        """While a run goes on."""
        self.heard = True
        try:
            yield
        finally:
            self.heard = False

    def ask(self) -> None:
        """Ask the run to end; a signal handler calls this, in the thread that trains.

        Raises:
            InterruptedRunError: the run is at rest; where it is not, it ends after its step.
        """
        self.asked = True
        if self._at_rest:
            self._at_rest = False
            raise InterruptedRunError

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """A stretch in which nothing of the run changes.

        Raises:
            InterruptedRunError: the run was asked to end before, or is asked meanwhile.
        """
        # In this order: a request between the two lines is not missed.
        self._at_rest = True
        try:
            if self.asked:
                raise InterruptedRunError
            yield
        finally:
            self._at_rest = False
