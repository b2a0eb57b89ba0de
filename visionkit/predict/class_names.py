"""Names of classes where not every text can stand: on one line of a file, and as names of folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count

from visionkit.formats.dataset_files import is_one_line

_NOT_IN_NAMES = frozenset('/\\:*?"<>|')
"""What some file system does not take in a name, or takes for a path."""

_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
)
"""What Windows opens instead of a file, whatever suffix the name has."""

_LONGEST = 60
"""Letters: 240 bytes at most, of the 255 that file systems take."""


def one_line_names(names: Sequence[str]) -> list[str]:
    """The names without control characters, each once.

    >>> one_line_names(["two\\nlines", "two lines", "café"])
    ['two lines', 'two lines-2', 'café']
    """
    plain = ("".join(sign if is_one_line(sign) else " " for sign in name).strip() or "unnamed" for name in names)
    return _each_once(plain, str)


def folder_names(names: Sequence[str]) -> list[str]:
    """A folder's name for each class, that every file system takes and that leads nowhere else; each once, also where
    case does not count.

    >>> folder_names(["red blood cell", "AC/DC", "ac_dc", "..", "NUL", "Hund."])
    ['red blood cell', 'AC_DC', 'ac_dc-2', '_', 'NUL_', 'Hund']
    """
    return _each_once(map(_folder_name, one_line_names(names)), str.casefold)


def _folder_name(name: str) -> str:
    plain = "".join("_" if sign in _NOT_IN_NAMES else sign for sign in name)[:_LONGEST]
    # Windows drops points and blanks at the end; a point at the start hides.
    plain = plain.strip(" .") or "_"
    return f"{plain}_" if plain.split(".")[0].rstrip().casefold() in _DEVICES else plain


def _each_once(names: Iterable[str], same: Callable[[str], str]) -> list[str]:
    """The names, with a number behind each that was there before; `same` gives equal texts of names that are one."""
    given: list[str] = []
    taken: set[str] = set()
    for name in names:
        free = next(f for n in count(1) if same(f := name if n == 1 else f"{name}-{n}") not in taken)
        taken.add(same(free))
        given.append(free)
    return given
