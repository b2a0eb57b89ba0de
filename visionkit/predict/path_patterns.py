"""Paths that match a pattern of `*`, `?`, `[...]` and `**`, as the shell has them."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path


def matching_paths(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """What below a folder matches a pattern's parts, hidden files only where the pattern says so.

    `**` enters folders that are links, but not those that lead to a folder on the way to them: Python's own glob goes
    round in such a circle 40 times, and in two of them until the end of days.
    """
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if not glob.has_magic(part):
        if os.path.lexists(folder / part):
            yield from matching_paths(folder / part, rest)
        return
    names = sorted(_listed(folder))
    if part == "**":
        yield from matching_paths(folder, rest)
        for name in names:
            inside = folder / name
            if not name.startswith(".") and os.path.isdir(inside) and not _leads_back(inside):
                yield from matching_paths(inside, parts)
            elif not rest:
                yield inside
        return
    for name in fnmatch.filter(names, part):
        if part.startswith(".") or not name.startswith("."):
            yield from matching_paths(folder / name, rest)


def _listed(folder: Path) -> list[str]:
    """The names in a folder; none where it is no folder, or may not be looked into."""
    with suppress(OSError):
        return os.listdir(folder)
    return []


def _leads_back(folder: Path) -> bool:
    """Whether a folder is a link to one that it lies in."""
    return folder.is_symlink() and Path(os.path.realpath(folder.parent)).is_relative_to(os.path.realpath(folder))
