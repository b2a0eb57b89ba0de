"""A published file, out of the cache or from its server: whole and proven by its SHA-256, or not at all.

What arrives is written to `NAME.part`, and takes its name only when its length and hash are right. If a download
breaks off, that file stays, and the next one goes on where it ended, if the server still has the same file.
"""

from __future__ import annotations

import errno
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO

from visionkit.errors import CheckpointError, UsageError, VisionkitError
from visionkit.published.cache import OFFLINE, cache_folder, offline_by_environment
from visionkit.published.weights import PublishedFile

try:
    import fcntl
except ImportError:  # Windows: two downloads of one file at once are not kept apart there
    fcntl = None  # type: ignore[assignment]

Progress = Callable[[int, int], None]
"""Told how many bytes are there, of how many."""

TIMEOUT = 30.0
"""Seconds without a byte after which a server counts as gone."""

PIECE = 1 << 18


def published_file(
    what: str,
    published: PublishedFile,
    *,
    offline: bool = False,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda done, total: None,
) -> Path:
    """The file in the cache; where it is not there, it is downloaded.

    Its length and hash are checked in either case, so that one put there by hand is as good as a downloaded one.

    Args:
        what: it is, in an error: `weights imagenet for resnet18`.
        offline: never use the network; so does the variable `VISIONKIT_OFFLINE`.
        say: told URL, size, hash, place and licence before a download begins.
        progress: told how far it is.

    Raises:
        UsageError: it is not there, and the network must not be used.
        CheckpointError: what lies in the cache is another file.
        VisionkitError: it cannot be downloaded.
    """
    path = cache_folder() / "weights" / published.name
    if path.exists():
        difference = published.difference(path)
        if difference is not None:
            raise CheckpointError(f"{path} is damaged: it {difference}; delete it and run the command again")
        return path
    if offline or offline_by_environment():
        forbids = "--offline" if offline else f"{OFFLINE} in the environment"
        raise UsageError(
            f"{what} are not in the cache, and {forbids} forbids to download them; put {published.url} there by hand, "
            f"as {path}"
        )
    say(f"Downloading {published.url}")
    say(f"  {published.size_in_words}, {published.sha256_in_words}")
    say(f"  to {path}")
    say(f"  licence: {published.licence}")
    download(published, path, say=say, progress=progress)
    return path


def download(
    published: PublishedFile,
    path: Path,
    *,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda done, total: None,
    timeout: float = TIMEOUT,
) -> None:
    """Bring a file to `path`, durably.

    Where it breaks off, `path` with `.part` stays, and beside it `.part.validator`, by which the server knows whether
    it still has the file that this is the beginning of; neither where that would be of no use.

    Raises:
        VisionkitError: no network, no such file, a broken connection, another file, a full disk.
    """
    part, validator = (path.with_name(path.name + ending) for ending in (".part", ".part.validator"))
    _require_writable(part)
    with _alone(part, say):
        try:
            if not path.exists():  # another process may have been faster
                with open(part, "ab") as file:
                    _receive(published, file, validator, progress, timeout)
                difference = published.difference(part)
                if difference is not None:
                    validator.unlink(missing_ok=True)
                    raise VisionkitError(
                        f"{published.url} is not what was published: the file that came {difference}; it was deleted; "
                        "try again later, or in another network"
                    )
                os.replace(part, path)
        except OSError as error:
            validator.unlink(missing_ok=True)  # a full disk needs the room more than the next one needs a beginning
            raise _unwritable(part, error) from None
        except VisionkitError as error:
            error.add_note(f"By hand: download {published.url} elsewhere and save it as {path}")
            raise
        finally:
            if not (validator.exists() and part.exists() and part.stat().st_size):
                part.unlink(missing_ok=True)
                validator.unlink(missing_ok=True)


def _require_writable(part: Path) -> None:
    """Raises VisionkitError where it cannot be written."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        open(part, "ab").close()
    except OSError as error:
        raise _unwritable(part, error) from None


@contextmanager
def _alone(part: Path, say: Callable[[str], None]) -> Iterator[None]:
    """While no other process is at a file. Where one is, as where several of one run begin together, this one waits
    until it has the whole file or has given up."""
    if fcntl is None:
        yield
        return
    while True:
        with open(part, "ab") as held:
            with suppress(OSError):  # a network file system without locks: as on Windows
                _lock(held, say)
            if _lies_at(part, held):
                yield
                return
        # It was finished, or deleted, while this process waited: the lock is on a file that has no such name any more.


def _lock(file: BinaryIO, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("  another process is downloading it; waiting for that")
        fcntl.flock(file, fcntl.LOCK_EX)


def _lies_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _unwritable(part: Path, error: OSError) -> VisionkitError:
    return VisionkitError(
        f"{part} cannot be written ({error.strerror}); make room, or move the cache by the variable VISIONKIT_CACHE"
    )


def _receive(published: PublishedFile, file: BinaryIO, validator: Path, progress: Progress, timeout: float) -> None:
    """Append to a file what it lacks. Raises VisionkitError as `download`; OSError where the file cannot be written."""
    begun = file.tell() if validator.exists() else 0
    if begun and published.has_size(begun) and published.difference(Path(file.name)) is None:
        return  # it was stopped between the last byte and the rename
    with _request(published.url, begun, validator, timeout) as response:
        if response.status != 206:  # not the rest, but all of it
            begun = 0
            validator.unlink(missing_ok=True)
        file.truncate(begun)
        length = response.headers.get("Content-Length", "")
        total = begun + int(length) if length.isdecimal() else published.size
        if not published.has_size(total):
            validator.unlink(missing_ok=True)
            raise VisionkitError(
                f"{published.url} is not what was published: its server has {total:,} bytes, not "
                f"{published.size_in_words}; try again later, or in another network"
            )
        _require_room(published, file, total - begun)
        _remember(response, validator)
        done, why = begun, "the connection ended"
        while done <= total:  # longer only where no length was declared; its own then says that it is another file
            try:
                piece = response.read1(PIECE)
            except TimeoutError:
                piece, why = b"", f"nothing came for {timeout:g} s"
            except (OSError, HTTPException) as error:
                piece, why = b"", str(error) or type(error).__name__
            if not piece:
                break
            file.write(piece)
            done += len(piece)
            progress(done, total)
        file.flush()
        os.fsync(file.fileno())
    if done < total and (length or not published.has_size(done)):
        again = "run the command again" + (", it goes on from there" if done and validator.exists() else "")
        raise VisionkitError(f"{published.url} broke off after {done:,} of {total:,} bytes ({why}); {again}")


def _request(url: str, begun: int, validator: Path, timeout: float) -> HTTPResponse:
    """The server's answer to the wish for a file from byte `begun` on, or whole where it is another one by now."""
    headers = {"User-Agent": "visionkit", "Accept-Encoding": "identity"}
    if begun:
        mark = validator.read_text(encoding="ascii", errors="ignore").strip()
        headers |= {"Range": f"bytes={begun}-", "If-Range": mark}
    try:
        response: HTTPResponse = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and begun:  # it has not so many bytes: another file
            return _request(url, 0, validator, timeout)
        gone = error.code in (404, 410)
        remedy = "update visionkit, whose list may know where it is now" if gone else "try again later"
        raise VisionkitError(f"{url} was refused: {error.code} {error.reason}; {remedy}") from None
    except TimeoutError:
        raise _silent(url, timeout) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _silent(url, timeout) from None
        why = error.reason.strerror if isinstance(error.reason, OSError) else None
        raise VisionkitError(f"{url} cannot be reached ({why or error.reason}); check the network") from None
    except (OSError, HTTPException) as error:
        words = str(error) or type(error).__name__
        raise VisionkitError(f"{url} cannot be reached ({words}); check the network") from None
    if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {begun}-"):
        response.close()
        return _request(url, 0, validator, timeout)
    return response


def _silent(url: str, timeout: float) -> VisionkitError:
    return VisionkitError(
        f"{url} cannot be reached (no answer for {timeout:g} s); check the network, or try again later"
    )


def _require_room(published: PublishedFile, file: BinaryIO, needed: int) -> None:
    free = shutil.disk_usage(Path(file.name).parent).free
    if free < needed:
        words = f"{published.name} needs {needed / 1e6:.1f} MB more, {free / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, words)


def _remember(response: HTTPResponse, validator: Path) -> None:
    """Keep what tells this version of the file from a later one, if the server says it.

    Source: RFC 9110, section 13.1.5: `If-Range` takes a strong entity tag or a date.
    """
    tag = response.headers.get("ETag", "")
    mark = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    if mark and mark.isascii():
        validator.write_text(mark, encoding="ascii")
