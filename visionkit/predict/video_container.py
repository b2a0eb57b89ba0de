"""What kind of video a file is, told by its first bytes, and whether it is all there.

Nothing but these containers is ever handed to the decoder, whatever a file is called: a playlist, which is text, would
make it open further files and addresses that no one has named.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import IO

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".mts"),
)
"""Of the files that folders and globs give as videos; not `.ts`, which more often is a program."""

KINDS = ("MP4", "AVI", "Matroska", "MPEG", "ASF", "FLV", "Ogg")

START_BYTES = 512
"""So much of a file tells its kind."""

_STARTS = {
    b"\x1aE\xdf\xa3": "Matroska",
    b"\0\0\x01\xba": "MPEG",
    b"\0\0\x01\xb3": "MPEG",
    b"0&\xb2u\x8ef\xcf\x11": "ASF",
    b"FLV\x01": "FLV",
    b"OggS": "Ogg",
}
_SYNC = b"\x47"
_TS_PACKET = 188
_M2TS_PACKET = 192
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
# What may lie behind them (section 6.2.3). Some cameras append what is no box to all this.
_BOXES = frozenset((*_FIRST_BOXES, b"moof", b"mfra", b"sidx", b"styp", b"meta", b"udta", b"uuid"))
# ISO/IEC 23008-12 and AV1 in HEIF: pictures in the container of videos.
_PICTURE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")
# A file of more boxes than this was made to keep a reader busy.
_MOST_BOXES = 100_000


def container_of(start: bytes) -> str | None:
    """The kind of video, one of `KINDS`, that a file begins as; None where it is no video.

    Args:
        start: the first `START_BYTES` bytes of a file, or all where it has fewer.

    Sources: ISO/IEC 14496-12 section 4.3 (MP4, MOV, 3GP), RFC 8794 section 11.2.1 (Matroska, WebM), ISO/IEC 13818-1
    sections 2.4.3.2 and 2.5.3.3 (MPEG transport and program streams), and the formats' own descriptions.
    """
    if start[4:8] in _FIRST_BOXES:
        return None if start[4:8] == b"ftyp" and start[8:12] in _PICTURE_BRANDS else "MP4"
    if start[:4] == b"RIFF":  # also of WebP pictures and of sound
        return "AVI" if start[8:12] == b"AVI " else None
    if start.startswith(b"GIF8"):  # whose G is the sync byte of a transport stream
        return None
    if _is_transport_stream(start):
        return "MPEG"
    return next((kind for first, kind in _STARTS.items() if start.startswith(first)), None)


def _is_transport_stream(start: bytes) -> bool:
    """Whether a sync byte begins each of the first packets; in AVCHD's form each has a time stamp before it."""
    return any(
        start[first : first + 2 * packet + 1 : packet] == _SYNC * 3
        for first, packet in ((0, _TS_PACKET), (4, _M2TS_PACKET))
    )


def is_cut_off(file: IO[bytes], size: int, container: str) -> bool:
    """Whether a video says that it is longer than its file; False too where it does not say.

    Args:
        file: open for reading; its place changes.
        size: of the file, bytes.
    """
    if container == "AVI":
        file.seek(4)
        said = int.from_bytes(file.read(4), "little")
        return said + 8 > size
    if container == "Matroska":
        return _segment_end(file) > size
    return container == "MP4" and _boxes_end(file, size) > size


def _boxes_end(file: IO[bytes], size: int) -> int:
    """Where the boxes of an ISO file end, one after another (ISO/IEC 14496-12, section 4.2); 0 where it cannot be
    told."""
    place = 0
    for _ in range(_MOST_BOXES):
        if place + 8 > size:
            break
        file.seek(place)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: until the end of the file; others are no boxes, for the decoder to say
            return 0
        if place + length > size and header[4:8] not in _BOXES:
            return 0
        place += length
    return place


def _segment_end(file: IO[bytes]) -> int:
    """Where the segment of a Matroska file ends, which is all behind its header; 0 where it does not say, as one that
    was sent while it was made (RFC 8794, sections 4 and 6.2; RFC 9559, section 5.1)."""
    file.seek(4)
    place = 4 + sum(_size(file))
    file.seek(place)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    length, content = _size(file)
    return place + 4 + length + content if content >= 0 else 0


def _size(file: IO[bytes]) -> tuple[int, int]:
    """How many bytes a size of EBML takes, and the size; -1 where it is unknown. The first bit that is set says how
    many bytes follow, what is behind it is the value, and all ones mean unknown."""
    first = file.read(1)
    length = 9 - first[0].bit_length() if first and first[0] else 1
    value = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
    return length, -1 if value == (1 << 7 * length) - 1 else value


def is_video_file(path: Path) -> bool:
    """Whether a file begins as a video does; False where it cannot be opened, for the reader to say why."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe could hang
            return False
        with path.open("rb") as file:
            return container_of(file.read(START_BYTES)) is not None
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False
