"""The class table: label <-> dataset category id <-> name, made once from a dataset."""

from __future__ import annotations

from collections.abc import Iterable
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
