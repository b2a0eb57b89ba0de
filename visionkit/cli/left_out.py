"""Items that `--skip-bad` leaves out: the first are named, all are counted, and they make the exit code 3."""

from __future__ import annotations

import typer

from visionkit.cli.progress import say

MOST_NAMED = 20


class LeftOut:
    """Called with the line of each item that is left out; `finish` when the work is done."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, line: str) -> None:
        self.count += 1
        if self.count <= MOST_NAMED:
            say(f"left out: {line}")

    def finish(self, all_named: str = "") -> None:
        """Say how many there were, and exit with 3 if there was one.

        Args:
            all_named: where all are named, such as `RUN/log.txt`.
        """
        if not self.count:
            return
        items = "1 item was" if self.count == 1 else f"{self.count} items were"
        first = f"; the first {MOST_NAMED} are named above" if self.count > MOST_NAMED else ""
        where = f"; all are named in {all_named}" if all_named else ""
        say(f"{items} left out of the data{first}{where}")
        raise typer.Exit(3)
