"""The class table: label <-> dataset category id <-> name, made once from a dataset; and two of them matched."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from visionkit.errors import DataError


@dataclass(frozen=True)
class ClassTable:
    """The classes of a dataset, in the order of their labels 0..K-1. There is no background class.

    Args:
        category_ids: the dataset's own ids, one a class; any distinct integers, gaps allowed.
        names: the dataset's own names, one a class.

    Raises:
        DataError: no class at all, an id or a name twice, or an empty name.

    >>> table = ClassTable(category_ids=(3, 17), names=("car", "cat"))
    >>> table.label(17), table.category_ids[1], table.names[1]
    (1, 17, 'cat')
    """

    category_ids: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.category_ids):
            raise DataError(
                f"a class table needs at least one class and one name an id, "
                f"got {len(self.category_ids)} ids and {len(self.names)} names"
            )
        for kind, values in (("category id", self.category_ids), ("category name", self.names)):
            twice = sorted({str(v) for v in values if list(values).count(v) > 1})
            if twice:
                raise DataError(f"each {kind} must occur once, {', '.join(twice)} occurs more often; rename or merge")
        if any(not name.strip() for name in self.names):
            raise DataError("a category has an empty name; give every category a name")

    @classmethod
    def of_categories(cls, categories: Iterable[tuple[int, str]]) -> ClassTable:
        """The table of (category id, name) pairs; labels follow ascending category ids."""
        ordered = sorted(categories)
        return cls(tuple(i for i, _ in ordered), tuple(n for _, n in ordered))

    @cached_property
    def _label_of(self) -> dict[int, int]:
        return {category_id: label for label, category_id in enumerate(self.category_ids)}

    def __len__(self) -> int:
        return len(self.names)

    def label(self, category_id: int) -> int:
        """The label of a dataset category id. Raises KeyError for an id that is not in the table."""
        return self._label_of[category_id]

    def to_json(self) -> list[dict[str, Any]]:
        """`[{"id": category id, "name": name}, ...]` in the order of labels."""
        return [{"id": i, "name": n} for i, n in zip(self.category_ids, self.names, strict=True)]

    @classmethod
    def from_json(cls, rows: list[dict[str, Any]]) -> ClassTable:
        """The inverse of `to_json`; keeps the order, and with it the labels."""
        return cls(tuple(int(r["id"]) for r in rows), tuple(str(r["name"]) for r in rows))


@dataclass(frozen=True)
class ClassMatch:
    """Which class of one table is which of another, by name.

    Args:
        wanted, given: the tables.
        labels: for each label of `wanted` the label in `given`, or None where it has no such class.
    """

    wanted: ClassTable
    given: ClassTable
    labels: tuple[int | None, ...]

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The (wanted label, given label) of each class that both tables have."""
        return tuple((label, found) for label, found in enumerate(self.labels) if found is not None)

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the classes that both have, as `wanted` writes them."""
        return tuple(self.wanted.names[label] for label, _ in self.pairs)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names that only `wanted` has."""
        return tuple(name for name, found in zip(self.wanted.names, self.labels, strict=True) if found is None)

    @property
    def unused(self) -> tuple[str, ...]:
        """Names that only `given` has."""
        used = {found for _, found in self.pairs}
        return tuple(name for label, name in enumerate(self.given.names) if label not in used)

    @property
    def respelled(self) -> tuple[tuple[str, str], ...]:
        """The names (wanted, given) of shared classes that the tables write differently."""
        names = ((self.wanted.names[label], self.given.names[found]) for label, found in self.pairs)
        return tuple((ours, theirs) for ours, theirs in names if ours != theirs)

    @property
    def same(self) -> bool:
        """Whether the tables have the same names, in whatever order."""
        return not (self.missing or self.unused or self.respelled)


def match_classes(wanted: ClassTable, given: ClassTable) -> ClassMatch:
    """Match classes by name: exactly, else but for case, spaces, hyphens and underscores, where that leaves no doubt.

    There is doubt where two classes of either table read alike then. Ids play no part.

    >>> match = match_classes(ClassTable((1, 2, 3), ("car", "Dining table", "zebra")),
    ...                       ClassTable((7, 9), ("diningtable", "car")))
    >>> match.labels, match.missing, match.respelled
    ((1, 0, None), ('zebra',), (('Dining table', 'diningtable'),))
    """
    exactly = {name: label for label, name in enumerate(given.names)}
    alike = {_bare(name): label for label, name in enumerate(given.names)}
    in_wanted, in_given = (Counter(map(_bare, table.names)) for table in (wanted, given))

    def label_of(name: str) -> int | None:
        bare = _bare(name)
        clear = bare and in_wanted[bare] == in_given[bare] == 1
        return exactly.get(name, alike[bare] if clear else None)

    return ClassMatch(wanted, given, tuple(map(label_of, wanted.names)))


def _bare(name: str) -> str:
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold())


NAMES_SHOWN = 8


def in_brackets(names: Sequence[str]) -> str:
    """` (cat, dog)`; of many the first, and how many more there are; nothing for none."""
    more = f", {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f" ({', '.join(names[:NAMES_SHOWN])}{more})" if names else ""


def listed_names(text: str) -> list[str]:
    """Names separated by commas, as a row of a CSV file: one that has a comma in it stands in double quotes.

    >>> listed_names('car, "table, small"')
    ['car', 'table, small']
    """
    try:
        (row,) = csv.reader([text], skipinitialspace=True)
    except csv.Error:  # of several lines, or very long: no such list, and whoever knows the names says so
        row = [text]
    return [name.strip() for name in row]
