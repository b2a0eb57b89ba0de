"""A dataset that is being written: whole under its name, or not there at all."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from visionkit.errors import UsageError, VisionkitError
from visionkit.formats.boxes import Box
from visionkit.formats.extras import About
from visionkit.formats.kept_ids import FILE, SCHEMA, kept_image
from visionkit.formats.object_fields import fields_left
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.imaging.header import IMAGE_SUFFIXES, RARE_SUFFIXES, SUFFIXES, read_header

EMPTY_NOT_HELD = "masks without a pixel: written as boxes"


@dataclass(frozen=True, slots=True)
class Contents:
    """What is to be written.

    Args:
        splits: split name -> its images, all of one class table.
        about: split name -> what a COCO file says besides; splits without it may be left out.
    """

    splits: Mapping[str, AnnotatedImages]
    about: Mapping[str, About] = field(default_factory=dict)


@dataclass(slots=True)
class NewDataset:
    """The folder while it is written.

    Args:
        root: where it is written until it is whole.
        not_held: what the format cannot hold, counted.
        remarks: what else was changed, counted.
        linked, copied: pictures.
        kept: split name -> images as the side file keeps them.
    """

    root: Path
    not_held: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    linked: int = 0
    copied: int = 0
    kept: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def place(self, picture: Path, name: str) -> None:
        """Put a picture at a path in the folder: a hard link where the file system has them, or else a copy."""
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if link_or_copy(picture, target):
            self.linked += 1
        else:
            self.copied += 1

    def write(self, name: str, text: str) -> None:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode("utf-8", "surrogateescape"))

    def keep(self, split: str, image: ImageRecord, file: str, held: list[tuple[Annotation, Box]]) -> None:
        """Note what the side file keeps of an image: as `kept_image`. Fields that it alone has are not held."""
        for annotation, _ in held:
            self.not_held.update(f"objects with {field}: kept in {FILE} alone" for field in fields_left(annotation))
        self.kept.setdefault(split, []).append(kept_image(image, file, held))

    def write_kept(self, contents: Contents) -> None:
        """Write the side file."""
        splits: dict[str, Any] = {}
        for name, images in contents.splits.items():
            about = contents.about.get(name, About())
            extras = about.categories
            categories = [
                {**row, "extra": extras[row["id"]]} if extras.get(row["id"]) else row
                for row in images.classes.to_json()
            ]
            splits[name] = {"about": about.file, "categories": categories, "images": self.kept.get(name, [])}
        self.write(FILE, json.dumps({"schema": SCHEMA, "splits": splits}) + "\n")


@contextmanager
def new_dataset(out: Path) -> Iterator[NewDataset]:
    """A folder that gets its name when the block ends well; else nothing is left of it.

    Raises:
        UsageError: `out` exists.
        VisionkitError: something cannot be written.
    """
    if os.path.lexists(out):
        raise UsageError(f"{out} exists and nothing is overwritten; name a new folder")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        try:
            temporary.mkdir(parents=True)
            yield NewDataset(temporary)
            if os.path.lexists(out):
                raise UsageError(f"{out} was made meanwhile and nothing is overwritten; name a new folder")
            temporary.rename(out)
        except OSError as error:
            raise VisionkitError(
                f"{error.filename or out} cannot be written ({error.strerror}), nothing is left of {out}; free space "
                "or choose another folder"
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def link_or_copy(file: Path, target: Path) -> bool:
    """Put a file at a new place: a hard link where the file system has them, or else a copy.

    Returns:
        Whether it is a link.

    Raises:
        OSError: the target exists, or cannot be written.
    """
    source = file.resolve()
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:  # another disk, or a file system or owner that allows no links
        shutil.copyfile(source, target)
        return False
    return True


class PictureNames:
    """Hands out names for pictures of one folder, each stem once, as labels go by stems: `a.jpg`, `a-2.png`.

    Folders before a name are left out, and signs that no list of names can have become underscores. `a.jfif` is given
    as `a.jpg`, for the sake of other tools.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def take(self, image: ImageRecord) -> str:
        """A free name for the picture of an image, which has a path."""
        assert image.path is not None
        name = PureWindowsPath(image.file_name).name
        stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
        if suffix.lower() not in IMAGE_SUFFIXES:
            stem, suffix = name, ""
        if not suffix or suffix.lower() in RARE_SUFFIXES:
            with image.path.open("rb") as file:
                suffix = SUFFIXES[read_header(file, str(image.path)).format][0]
        stem = "".join("_" if sign in '/\\:,;"' or not _is_plain(sign) else sign for sign in stem).strip()
        if not stem or stem.startswith((".", "_")):
            stem = f"image{stem.replace('.', '_')}"  # names that begin so are passed over by some
        if PurePosixPath(stem).suffix.lower() in IMAGE_SUFFIXES:
            stem = stem.replace(".", "_")  # lists of names without suffixes could not tell
        # Some file systems take `A.jpg` and `a.jpg` for one file.
        for number in count(self._next.get(stem.casefold(), 1)):
            free = stem if number == 1 else f"{stem}-{number}"
            if free.casefold() not in self._taken:
                break
        self._taken.add(free.casefold())
        self._next[stem.casefold()] = number + 1
        return free + suffix


def _is_plain(sign: str) -> bool:
    return unicodedata.category(sign) not in ("Cc", "Cs")


def short(number: float) -> int | float:
    """A number as files have it: whole ones without a point."""
    return int(number) if number == int(number) else number
