"""From turns to medians, spreads and ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from contest import Turn


@dataclass(frozen=True)
class Row:
    """One contestant at one number of threads, over all rounds.

    Args:
        ratio: the median over the rounds of the first contestant's value divided by this one's, at the same threads in
            the same round; None for the first itself, and where a value is 0.
    """

    name: str
    threads: int
    values: tuple[float, ...]
    median: float
    low: float
    high: float
    ratio: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise(turns: Sequence[Turn], key: str) -> list[Row]:
    """A row a contestant and number of threads, in the order they first took their turn."""
    rows = []
    places = dict.fromkeys((turn.threads, turn.name) for turn in turns)
    first = turns[0].name
    for threads, name in places:
        theirs = {t.round: float(t.said[key]) for t in turns if (t.threads, t.name) == (threads, name)}
        ours = {t.round: float(t.said[key]) for t in turns if (t.threads, t.name) == (threads, first)}
        ratios = [ours[number] / value for number, value in theirs.items() if value and number in ours]
        values = tuple(theirs.values())
        ratio = median(ratios) if ratios and name != first else None
        rows.append(Row(name, threads, values, median(values), min(values), max(values), ratio))
    return rows


def table(rows: Sequence[Row], heading: str, digits: int) -> str:
    """The rows as aligned text, `digits` behind the point; with ratios where there is anyone to compare with."""
    cells = [["", "threads", heading, "lowest", "highest", f"{rows[0].name} / it"]]
    for row in rows:
        numbers = [f"{value:.{digits}f}" for value in (row.median, row.low, row.high)]
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        cells.append([row.name, str(row.threads or "default"), *numbers, ratio])
    if all(row.ratio is None for row in rows):
        cells = [line[:-1] for line in cells]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in cells
    )


def first_minutes(curve: Sequence[Sequence[float]], levels: Sequence[float]) -> list[float | None]:
    """When each AP was first reached.

    Args:
        curve: (minutes since the command began, AP) of each evaluation, in order.

    >>> first_minutes([(1, 0.1), (2, 0.4), (3, 0.3)], [0.2, 0.5])
    [2, None]
    """
    return [next((minutes for minutes, ap, *_ in curve if ap >= level), None) for level in levels]
