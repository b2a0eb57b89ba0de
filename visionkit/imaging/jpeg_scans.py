"""Whether a JPEG has more scans than pictures have: each of them goes over the whole picture, however few bytes it
takes, so that 1 MB of them, of 50 million pixels, occupies a machine for half an hour.
"""

from __future__ import annotations

import re

MOST_SCANS = 100
"""Encoders make 1, or about 10 of a progressive one; libtiff too takes no more than this."""

_SCAN, _END, _BARE = b"\xda", b"\xd9", b"\x01"
# In a scan 0 follows 0xff, or the number of a restart; and 0xff may be repeated before a marker (ITU T.81, B.1.1).
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")


def has_too_many_scans(data: bytes, header_end: int) -> bool:
    """Whether there are more than `MOST_SCANS`, up to the end mark: what is appended behind it may look like more.

    Args:
        data: of the file.
        header_end: where its first scan begins, behind the marker.
    """
    if data.count(b"\xff" + _SCAN, header_end) < MOST_SCANS:
        return False
    scans, place = 1, header_end
    while (marker := _MARKER.search(data, place)) is not None and marker[1] != _END:
        place = marker.end()
        if marker[1] != _BARE:  # all others lead a segment, which begins with its length
            place += int.from_bytes(data[place : place + 2], "big")
        scans += marker[1] == _SCAN
        if scans > MOST_SCANS:
            return True
    return False
