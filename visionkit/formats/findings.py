"""What is wrong with a dataset file, collected first and told in one message, grouped by the rule it breaks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionkit.errors import DataError

_RULES_TOLD = 3
_LONGEST_VALUE = 60


@dataclass(slots=True)
class Findings:
    """What reading one file has found so far.

    Args:
        source: the file.
        errors: rule and remedy -> the facts that break it, such as `annotation 7 of image 3 has bbox [0, 0, 0, 5]`.
        remarks: what was repaired or put up with, counted.
    """

    source: Path
    errors: dict[str, list[str]] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)

    def error(self, fact: str, rule: str) -> None:
        self.errors.setdefault(rule, []).append(fact)

    def remark(self, what: str, count: int = 1) -> None:
        self.remarks[what] += count

    def refuse_errors(self) -> None:
        """Raises DataError if there is any error: the first fact of the first rules, and how many more there are."""
        if not self.errors:
            return
        told = [
            f"{facts[0]}{_and_more(len(facts) - 1)}, {rule}" for rule, facts in list(self.errors.items())[:_RULES_TOLD]
        ]
        untold = sum(len(facts) for facts in list(self.errors.values())[_RULES_TOLD:])
        further = f" | and {untold} further problems" if untold else ""
        raise DataError(f"{self.source}: {' | '.join(told)}{further}")


def _and_more(count: int) -> str:
    return f" (and {count} more like it)" if count else ""


def shown(value: Any) -> str:
    """A value from a file as part of a message: on one line, without control characters, not too long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
