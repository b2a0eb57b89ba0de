"""What is wrong with a dataset file, collected first and told in one message, grouped by the rule it breaks.

Or, where bad items are to be skipped, a line each, and the items left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from visionkit.errors import DataError

Mark = tuple[int, Counter[str]]

SKIP_BAD = " | --skip-bad leaves them out"
"""How a refusal ends that this would help."""

_RULES_TOLD = 3
_LONGEST_VALUE = 60


@dataclass(slots=True)
class Findings:
    """What reading one file has found so far.

    Args:
        source: the file.
        skip_bad: an error leaves its item out instead of refusing the file; the reader drops the item.
        errors: rule and remedy -> the facts that break it, such as `annotation 7 of image 3 has bbox [0, 0, 0, 5]`.
        remarks: what was repaired or put up with, counted.
        left_out: with `skip_bad`, a line of file, fact and rule for each item left out, in file order.

    A reader that can find several errors in one item takes a `mark` before it and asks `is_bad` after it.
    """

    source: Path
    skip_bad: bool = False
    errors: dict[str, list[str]] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)

    def error(self, fact: str, rule: str) -> None:
        self.errors.setdefault(rule, []).append(fact)
        if self.skip_bad:
            self.left_out.append(f"{self.source}: {fact}, {rule}")

    def remark(self, what: str, count: int = 1) -> None:
        self.remarks[what] += count

    def mark(self) -> Mark:
        """Where the next item begins."""
        return len(self.left_out), self.remarks.copy() if self.skip_bad else self.remarks

    def is_bad(self, mark: Mark) -> bool:
        """Whether the item since `mark` is to be left out. Its errors become one line, its remarks are forgotten."""
        known, remarks = mark
        if len(self.left_out) == known:
            return False
        del self.left_out[known + 1 :]
        self.remarks = remarks
        return True

    def refuse_errors(self) -> None:
        """Raises DataError if there is any error and bad items are not skipped: the first fact of the first rules, and
        how many more there are."""
        if self.errors and not self.skip_bad:
            raise DataError(f"{self.source}: {self._told()}{SKIP_BAD}")

    def refuse_emptied(self, **sound: Sized) -> None:
        """Raises DataError if there are errors and, of items by their name, such as `images`, none was left."""
        for items, left in sound.items():
            if self.errors and not left:
                self.refuse_nothing_left(items)

    def refuse_nothing_left(self, items: str) -> NoReturn:
        """Raises DataError: of `items`, such as `images`, all were left out."""
        raise DataError(f"{self.source}: no {items} would be left without those in error: {self._told()}")

    def _told(self) -> str:
        told = [
            f"{facts[0]}{_and_more(len(facts) - 1)}, {rule}" for rule, facts in list(self.errors.items())[:_RULES_TOLD]
        ]
        untold = sum(len(facts) for facts in list(self.errors.values())[_RULES_TOLD:])
        return " | ".join(told) + (f" | and {untold} further problems" if untold else "")


def _and_more(count: int) -> str:
    return f" (and {count} more like it)" if count else ""


def shown(value: Any) -> str:
    """A value from a file as part of a message: on one line, without control characters, not too long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
