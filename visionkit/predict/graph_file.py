"""The file of a graph: that it is there, and its SHA-256, found while something else goes on."""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path
from threading import Thread

from visionkit.errors import CheckpointError


def require_file(path: Path) -> None:
    """Raises CheckpointError where there is no such file, or nothing in it."""
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file, weights are read from one; check the path")
    if not path.stat().st_size:
        raise CheckpointError(f"{path} is empty (0 bytes); export the model again")


class GraphHash:
    """The SHA-256 of a file, in a thread of its own from the beginning on: a large file takes as long as an image.

    Hashing lets go of Python's lock, but the system maps the file, because reading it piece by piece would ask for the
    lock at each, and ONNX Runtime holds it while it makes a graph ready.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: str | OSError = ""
        self._thread = Thread(target=self._hash, daemon=True)
        self._thread.start()

    def _hash(self) -> None:
        try:
            with self._path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                self._found = hashlib.sha256(content).hexdigest()
        except OSError as error:
            self._found = error

    def hexdigest(self) -> str:
        """64 digits.

        Raises:
            CheckpointError: the file cannot be read.
        """
        self._thread.join()
        if isinstance(self._found, OSError):
            raise CheckpointError(f"{self._path} cannot be read ({self._found.strerror}); check its permissions")
        return self._found
