"""Paths that match a pattern of `*`, `?`, `[...]` and `**`, as the shell has them."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path


def matching_paths(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """What below a folder matches a pattern's parts, hidden files only where the pattern says so.

    `**` enters each folder once, also those that links lead to, but not one that such a link lies in: Python's own glob
    goes round in such a circle 40 times, and in two of them until the end of days.
    """
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if not glob.has_magic(part):
        if os.path.lexists(folder / part):
            yield from matching_paths(folder / part, rest)
        return
    if part == "**":
        if not rest:
            yield folder
        for inside in _folders_from(folder):
            yield from matching_paths(inside, rest) if rest else (inside / name for name in sorted(_listed(inside)))
        return
    for name in fnmatch.filter(sorted(_listed(folder)), part):
        if part.startswith(".") or not name.startswith("."):
            yield from matching_paths(folder / name, rest)


def _folders_from(folder: Path) -> Iterator[Path]:
    """A folder and those below it that are not hidden, each once: by its own name where it has one there, else by that
    of the first link to it."""
    entered: set[str] = set()
    links, stack = deque([folder]), list[Path]()
    while links or stack:
        inside = stack.pop() if stack else links.popleft()
        place = os.path.realpath(inside)
        if place in entered:
            continue
        entered.add(place)
        yield inside
        names = sorted(name for name in _listed(inside) if not name.startswith("."))
        below = [inside / name for name in names if os.path.isdir(inside / name)]
        links += [path for path in below if path.is_symlink() and not _leads_back(path)]
        stack += [path for path in reversed(below) if not path.is_symlink()]


def _listed(folder: Path) -> list[str]:
    """The names in a folder; none where it is no folder, or may not be looked into."""
    with suppress(OSError):
        return os.listdir(folder)
    return []


def _leads_back(folder: Path) -> bool:
    """Whether a link to a folder leads to one that it lies in, as itself or behind other links."""
    target, parents = os.path.realpath(folder), Path(os.path.abspath(folder)).parents
    return any(Path(os.path.realpath(parent)).is_relative_to(target) for parent in parents)
