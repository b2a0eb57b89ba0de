"""XML files, read as strangers' files: no document types, no entities, errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from visionkit.errors import DataError
from visionkit.formats.dataset_files import read_bytes

_MALFORMED = (ElementTree.ParseError, ValueError, LookupError)  # the last two: an encoding that is not known
_PIECE = 1 << 20


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses document types: no annotation file needs one, and the entities in it can stand for gigabytes."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type, which is not read")


def read_xml(file: Path, needed: str) -> ElementTree.Element:
    """The root of a file of at most 100 MB.

    Args:
        needed: what the file should be, for messages: `an annotation file`.

    Raises:
        DataError: as `read_bytes`, or it is not XML.
    """
    data = read_bytes(file, needed)
    try:
        return ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoDoctype()))
    except _MALFORMED as error:
        raise _not_xml(file, error) from error


def read_children(file: Path, needed: str, root_tag: str) -> Iterator[ElementTree.Element]:
    """The children of the root of a file of any size, one after another; each is forgotten when the next is asked for.

    Args:
        needed: what the file should be, for messages.
        root_tag: what its root must be called.

    Raises:
        DataError: it cannot be read, is not XML, or has another root.
    """
    if not file.is_file():  # a FIFO would block for ever
        fact = "is not a regular file" if file.exists() else "does not exist"
        raise DataError(f"{file} {fact}, {needed} is needed; check the path")
    builder = _Children(root_tag)
    parser = ElementTree.XMLParser(target=builder)
    try:
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE):
                parser.feed(piece)
                yield from builder.take()
            parser.close()
            yield from builder.take()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); check its permissions") from error
    except _MALFORMED as error:
        raise _not_xml(file, error) from error


class _Children(_NoDoctype):
    """Hands out the children of the root, and lets go of them."""

    def __init__(self, root_tag: str) -> None:
        super().__init__()
        self._root_tag = root_tag
        self._open: list[ElementTree.Element] = []
        self._whole: list[ElementTree.Element] = []

    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        element = super().start(tag, attrs)
        if not self._open and tag != self._root_tag:
            raise ValueError(f"it holds <{tag}> and not <{self._root_tag}>")
        self._open.append(element)
        return element

    def end(self, tag: str, /) -> ElementTree.Element:
        element = super().end(tag)
        self._open.pop()
        if len(self._open) == 1:
            self._open[0].remove(element)
            self._whole.append(element)
        return element

    def take(self) -> list[ElementTree.Element]:
        whole, self._whole = self._whole, []
        return whole


def _not_xml(file: Path, error: Exception) -> DataError:
    return DataError(f"{file} is not whole, valid XML ({error}); copy or export it again")


def as_read(element: ElementTree.Element) -> ElementTree.Element | None:
    """An element as it comes back from a file; None where XML cannot hold it, such as control characters."""
    try:
        return ElementTree.fromstring(ElementTree.tostring(element, encoding="unicode"))
    except (*_MALFORMED, TypeError):
        return None


def text_of(element: ElementTree.Element | None, tag: str) -> str:
    """What stands in a child of that name, without the blanks around it; empty if there is none."""
    return "" if element is None else (element.findtext(tag) or "").strip()
