"""What the user typed, as image files: single files, folders, globs, list files."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from visionkit.errors import DataError, UsageError
from visionkit.imaging.header import IMAGE_SUFFIXES

LIST_SUFFIX = ".txt"
MAX_LIST_BYTES = 1_000_000_000
"""List files of more bytes are refused: ten million paths of a hundred letters."""


def find_images(sources: Sequence[str]) -> list[Path]:
    """The image files that sources name, in the order given; a file named twice comes once, at its first place.

    A path that exists is taken literally, so `a[1].jpg` is a file before it is a pattern. A file named outright is
    taken whatever its suffix: whether it is an image is for the reader to say. A folder gives its own images, not
    those of its subfolders; a glob (`*`, `?`, `[...]`, `**`) gives the images it matches. Both are sorted as people
    count, `img2` before `img10`, and leave out hidden files (macOS writes `._photo.jpg` beside `photo.jpg`).

    A file `*.txt` is a list: one image a line, its path relative to the folder of the list, in the order of the lines;
    empty lines and those that start with `#` count for nothing. Whether its images are there is for the reader to say,
    so that one missing among thousands is skipped by name, as a broken one is.

    Raises:
        UsageError: no source at all, or an empty one.
        DataError: a source that does not exist, that matches no image, a folder without images, or a list without
            paths.
    """
    if not sources:
        raise UsageError("no image is named, detection needs at least one; name a file, a folder, a glob or a list")
    found: dict[str, Path] = {}
    for source in sources:
        for path in _images_of(source):
            found.setdefault(_identity(path), path)
    return list(found.values())


def _images_of(source: str) -> list[Path]:
    if not source.strip():
        raise UsageError("a source is empty, it must name a file, a folder, a glob or a list; leave it out")
    if os.path.isfile(source):
        path = Path(source)
        return _images_listed(path) if path.suffix.lower() == LIST_SUFFIX else [path]
    if os.path.isdir(source):
        return _images_in(Path(source))
    if os.path.exists(source):
        raise DataError(
            f"{source} is a device, pipe or socket, images are read from plain files; save it to a file first"
        )
    if glob.has_magic(source):
        return _images_matching(source)
    raise DataError(f"{source} does not exist, a source is a file, a folder, a glob or a list; check the spelling")


def _images_in(folder: Path) -> list[Path]:
    try:
        images = [path for path in folder.iterdir() if _is_image_file(path)]
    except OSError as error:
        raise DataError(
            f"folder {folder} cannot be listed ({error.strerror}), its images are wanted; check its permissions"
        ) from error
    if not images:
        subfolders = os.path.join(glob.escape(str(folder)), "**", "*")
        raise DataError(
            f"folder {folder} holds no image ({_suffix_list()}), subfolders are not searched; "
            f"name another folder, or '{subfolders}' for its subfolders"
        )
    return sorted(images, key=natural_order)


def _images_listed(file: Path) -> list[Path]:
    try:
        if file.stat().st_size > MAX_LIST_BYTES:
            raise DataError(f"list {file} is larger than {MAX_LIST_BYTES:,} bytes, a path a line is wanted; split it")
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"list {file} cannot be read ({error.strerror}), a path a line is wanted; check its permissions"
        ) from error
    except UnicodeDecodeError:
        raise DataError(
            f"list {file} is not UTF-8 text, a path a line is wanted; name an image or save it anew"
        ) from None
    # Not `splitlines`, which also parts at letters that a file name may hold.
    lines = [line.strip() for line in text.split("\n")]
    images = [file.parent / line for line in lines if line and not line.startswith("#")]
    if not images:
        raise DataError(f"list {file} names no image, one path a line is wanted; fill it or leave it out")
    return images


def _images_matching(pattern: str) -> list[Path]:
    # As far as folders exist under the very name typed, it is a name: `photos [new]/*.jpg`.
    folder = next(parent for parent in Path(pattern).parents if parent.is_dir())
    safe = os.path.join(glob.escape(str(folder)), Path(pattern).relative_to(folder))
    images = [path for path in map(Path, glob.iglob(safe, recursive=True)) if _is_image_file(path)]
    if not images:
        raise DataError(
            f"{pattern} matches no image file ({_suffix_list()}), a glob must match at least one; check the pattern"
        )
    return sorted(images, key=natural_order)


def _is_image_file(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def natural_order(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """A sorting key that counts as people do and does not care about case.

    >>> [p.name for p in sorted(map(Path, ["b.png", "img10.png", "img2.png", "A.png"]), key=natural_order)]
    ['A.png', 'b.png', 'img2.png', 'img10.png']
    """
    parts = re.split(r"([0-9]+)", str(path).casefold())
    # (0, number, "") or (1, 0, text): a number and a text at the same place stay comparable.
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], str(path)


def _identity(path: Path) -> str:
    """Equal for two spellings of one path, `photos/../a.jpg` and `a.jpg`; links are files of their own."""
    return os.path.normcase(os.path.abspath(path))


def _suffix_list() -> str:
    return " ".join(IMAGE_SUFFIXES)
