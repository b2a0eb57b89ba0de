"""What the user named, as sources of images: files, folders, globs, list files, videos, cameras, addresses, standard
input, and from Python arrays and Pillow's images."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visionkit.errors import DataError, UsageError
from visionkit.imaging.header import IMAGE_SUFFIXES
from visionkit.predict.path_patterns import matching_paths
from visionkit.predict.video_container import VIDEO_SUFFIXES

LIST_SUFFIX = ".txt"
MAX_LIST_BYTES = 1_000_000_000
"""List files of more bytes are refused: ten million paths of a hundred letters."""

_SEEN_SUFFIXES = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
_SCHEMES = ("http", "https", "rtsp", "rtsps")
# Compiled when one is first needed: most sources are files.
_ADDRESS = r"([A-Za-z][A-Za-z0-9+.-]+)://([\s\S]*)"
_CAMERA = r"(?:webcam:|/dev/video)?([0-9]{1,3})|webcam"


class Camera(NamedTuple):
    """A camera at this machine, by its number from 0."""

    number: int

    def __str__(self) -> str:
        return f"webcam:{self.number}"


class Address(NamedTuple):
    """An image, a video or a stream somewhere else, by its URL. As a text it has no password."""

    url: str

    def __str__(self) -> str:
        return re.sub(r"://[^/?#]*@", "://", self.url)


class StandardInput(NamedTuple):
    """An image or a video whose bytes come from standard input."""

    def __str__(self) -> str:
        return "-"


class GivenPicture(NamedTuple):
    """A picture that is here already.

    Args:
        picture: u8 [H, W, 3] RGB, or an image of Pillow's.
    """

    picture: NDArray[np.uint8] | Image.Image

    def __str__(self) -> str:
        return str(getattr(self.picture, "filename", "") or "")


Source = Path | Camera | Address | StandardInput | GivenPicture
"""One image, or one row of frames; a path is either."""

Given = str | os.PathLike[str] | int | NDArray[np.uint8] | Image.Image
"""What a user may name as a source; a whole number is a camera."""


def find_sources(sources: Sequence[Given]) -> list[Source]:
    """The sources that a user's words name, in the order given; one named twice comes once, at its first place.

    A path that exists is taken literally, so `a[1].jpg` is a file before it is a pattern. A file named outright is
    taken whatever its suffix: whether it is an image or a video is for the reader to say. A folder gives its own images
    and videos, not those of its subfolders; a glob (`*`, `?`, `[...]`, `**`) gives those it matches. Both are sorted as
    people count, `img2` before `img10`, and leave out hidden files (macOS writes `._photo.jpg` beside `photo.jpg`).
    `**` follows links to folders, and looks through each folder once.

    A file `*.txt` is a list: one image or video a line, its path relative to the folder of the list or its URL, in the
    order of the lines; empty lines and those that start with `#` count for nothing. Whether they are there is for the
    reader to say, so that one missing among thousands is skipped by name, as a broken one is.

    `0`, `webcam:0` and `/dev/video0` are the first camera, `http://`, `https://`, `rtsp://` and `rtsps://` begin
    addresses, `-` is standard input. Arrays are u8 [H, W, 3] RGB.

    Raises:
        UsageError: no source at all, an empty one, standard input that is a terminal, or something that is no source.
        DataError: a source that does not exist, that matches no image, a folder without images, a list without paths,
            or an address of an unknown kind.
    """
    if not sources:
        raise UsageError("no image is named, detection needs at least one; name a file, a folder, a glob or a list")
    found: dict[object, Source] = {}
    for given in sources:
        for source in _sources_of(given):
            found.setdefault(_identity(source), source)
    return list(found.values())


def find_images(sources: Sequence[str]) -> list[Path]:
    """The image files among `find_sources`, for who can take no video or camera: what has a video's suffix is left out.

    Raises:
        UsageError, DataError: as `find_sources`, or a source that is no file, or none of them is an image.
    """
    files = []
    for source in find_sources(sources):
        if not isinstance(source, Path):
            raise UsageError(f"{source} is no file, images are wanted as files here; save it to one")
        if source.suffix.lower() not in VIDEO_SUFFIXES:
            files.append(source)
    if not files:
        raise DataError(f"{', '.join(sources)} has videos alone, images are wanted here; name images")
    return files


def file_name(path: str) -> str:
    """What files made from an image are named after: of an address the last part of its path, without what no file
    system takes.

    >>> file_name("https://example.org/photos/cat%20one.jpg?size=2"), file_name("webcam:0"), file_name("-")
    ('cat_one.jpg', 'webcam-0', 'stdin')
    >>> file_name("photos/bus.jpg"), file_name("http://example.org/")
    ('photos/bus.jpg', 'example.org')
    """
    if path == "-":
        return "stdin"
    if path.startswith("webcam:"):
        return path.replace(":", "-")
    address = re.fullmatch(_ADDRESS, path) if "://" in path else None
    if address is None:
        return path
    place = re.split("[?#]", address[2])[0]
    name = re.sub(r"%[0-9A-Fa-f]{2}|[^\w.-]", "_", PurePosixPath(place).name)
    return name.strip(".") or "image"


def _sources_of(given: Given) -> Iterable[Source]:
    if isinstance(given, (np.ndarray, Image.Image)):
        return [GivenPicture(given)]
    if isinstance(given, int) and not isinstance(given, bool):
        return [Camera(given)]
    if not isinstance(given, (str, os.PathLike)):
        raise UsageError(
            f"a source is a path, an address, a camera's number, an array or an image of Pillow's, got "
            f"{type(given).__name__}; give several sources one by one, as in detect(*sources)"
        )
    return _images_of(os.fspath(given))


def _images_of(source: str) -> Sequence[Source]:
    if not source.strip():
        raise UsageError("a source is empty, it must name a file, a folder, a glob or a list; leave it out")
    if source == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("- is an image from standard input, which is a terminal; pipe one in, as by < image.jpg")
        return [StandardInput()]
    if os.path.isfile(source):
        path = Path(source)
        return _images_listed(path) if path.suffix.lower() == LIST_SUFFIX else [path]
    if os.path.isdir(source):
        return _images_in(Path(source))
    if re.fullmatch(_ADDRESS, source):
        check_address(Address(source))
        return [Address(source)]
    camera = re.fullmatch(_CAMERA, source)
    if camera:
        return [Camera(int(camera[1] or 0))]
    if os.path.exists(source):
        raise DataError(
            f"{source} is a device, pipe or socket, images are read from plain files; save it to a file first"
        )
    if glob.has_magic(source):
        return _images_matching(source)
    raise DataError(
        f"{source} does not exist, a source is a file, a folder, a glob, a list, a URL or webcam:0; check the spelling"
    )


def check_address(address: Address) -> str:
    """The scheme of an address, in small letters.

    Raises:
        DataError: it is none that is read, or no host follows it.
    """
    parts = re.fullmatch(_ADDRESS, address.url)
    assert parts is not None
    scheme = parts[1].lower()
    if scheme not in _SCHEMES:
        raise DataError(f"{address} is an address that is not read, known are {', '.join(_SCHEMES)}; save it to a file")
    if not parts[2].strip("/"):
        raise DataError(f"{address} names no host, an address is https://HOST/PATH; complete it")
    return scheme


def _images_in(folder: Path) -> list[Path]:
    try:
        images = [path for path in folder.iterdir() if _is_seen(path)]
    except OSError as error:
        raise DataError(
            f"folder {folder} cannot be listed ({error.strerror}), its images are wanted; check its permissions"
        ) from error
    if not images:
        subfolders = os.path.join(glob.escape(str(folder)), "**", "*")
        raise DataError(
            f"folder {folder} holds no image or video ({_suffix_list()}), subfolders are not searched; "
            f"name another folder, or '{subfolders}' for its subfolders"
        )
    return sorted(images, key=natural_order)


def _images_listed(file: Path) -> list[Path | Address]:
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
    paths = (line for line in lines if line and not line.startswith("#"))
    images = [Address(line) if "://" in line and re.fullmatch(_ADDRESS, line) else file.parent / line for line in paths]
    if not images:
        raise DataError(f"list {file} names no image, one path a line is wanted; fill it or leave it out")
    return images


def _images_matching(pattern: str) -> list[Path]:
    # As far as folders exist under the very name typed, it is a name: `photos [new]/*.jpg`.
    folder = next(parent for parent in Path(pattern).parents if parent.is_dir())
    parts = Path(pattern).relative_to(folder).parts
    images = [path for path in matching_paths(folder, parts) if _is_seen(path)]
    if not images:
        raise DataError(
            f"{pattern} matches no image or video ({_suffix_list()}), a glob must match at least one; check the pattern"
        )
    return sorted(images, key=natural_order)


def _is_seen(path: Path) -> bool:
    return path.suffix.lower() in _SEEN_SUFFIXES and not path.name.startswith(".") and path.is_file()


def natural_order(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """A sorting key that counts as people do and does not care about case.

    >>> [p.name for p in sorted(map(Path, ["b.png", "img10.png", "img2.png", "A.png"]), key=natural_order)]
    ['A.png', 'b.png', 'img2.png', 'img10.png']
    """
    parts = re.split(r"([0-9]+)", str(path).casefold())
    # (0, number, "") or (1, 0, text): a number and a text at the same place stay comparable.
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], str(path)


def _identity(source: Source) -> object:
    """Equal for two spellings of one path, `photos/../a.jpg` and `a.jpg`; links are files of their own, and so are
    pictures that are given."""
    if isinstance(source, GivenPicture):
        return object()
    return os.path.normcase(os.path.abspath(source)) if isinstance(source, Path) else source


def _suffix_list() -> str:
    return " ".join(_SEEN_SUFFIXES)
