"""Whether an image file is whole: decoders forgive a missing end and fill what is missing with grey."""

from __future__ import annotations

from io import BytesIO
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from visionkit.imaging.header import Header

_JPEG_END = b"\xff\xd9"

_TAIL = 4096
"""Bytes before the end of a JPEG that are searched first: there the end mark nearly always is."""


def is_whole(file: IO[bytes], size: int, header: Header) -> bool:
    """Whether a file reaches its end: it is as long as its header says (WebP, BMP, TIFF), its chunks or blocks follow
    one another to the last (PNG, GIF), or it has an end mark (JPEG).

    What is appended behind that does no harm: phones append videos to their pictures.

    Args:
        size: of the file, bytes.
    """
    if size < header.needed:
        return False
    if header.format == "JPEG":
        return _has_jpeg_end(file, size, header.end)
    if header.format == "PNG":
        return _reaches_last_chunk(file, size)
    if header.format == "GIF":
        file.seek(0)
        return _reaches_trailer(file.read())
    return True


def _has_jpeg_end(file: IO[bytes], size: int, header_end: int) -> bool:
    """Searched behind the header, because an EXIF thumbnail is a JPEG with an end mark of its own. The mark cannot lie
    within the pixels: there 0 follows each 0xff, or the number of a restart (ITU T.81, section B.1.1.5)."""
    for begin in (max(header_end, size - _TAIL), header_end):
        file.seek(begin)
        if _JPEG_END in file.read():
            return True
    return False


def _reaches_last_chunk(file: IO[bytes], size: int) -> bool:
    """Whether all chunks of a PNG lie in the file, up to IEND (PNG 1.2, section 3.2).

    OpenCV 5 must not see one that does not: it fetches as much memory as the chunk says, up to 4 GB.
    """
    position = 8
    while position + 12 <= size:  # length, name, content, checksum
        file.seek(position)
        start = file.read(8)
        position += 12 + int.from_bytes(start[:4], "big")
        if start[4:] == b"IEND":
            return position <= size
    return False


def _reaches_trailer(gif: bytes) -> bool:
    """Whether the blocks of a GIF follow one another to the trailer (GIF 89a, appendix A)."""

    def after_colours(flags: int, position: int) -> int:
        return position + (3 << (flags & 7) + 1 if flags & 0x80 else 0)

    try:
        position = after_colours(gif[10], 13)
        while gif[position] != 0x3B:
            if gif[position] == 0x2C:  # an image: place, size, perhaps colours, and the code size of its pixels
                position = after_colours(gif[position + 9], position + 10) + 1
            elif gif[position] == 0x21:  # an extension
                position += 2
            else:
                return False
            while gif[position]:  # sub-blocks, each led by its length
                position += 1 + gif[position]
            position += 1
    except IndexError:
        return False
    return True


# --- a JPEG that has its end mark and yet too few pixels before it ----------------------------------------------------

# What libjpeg paints where data is missing: coefficients of 0, the middle of the range; as CMYK made RGB, about 65.
_NO_DATA = (128, 64, 65, 66)

# More of a scan, enough for a dozen blocks, whatever its next restart marker is. The bytes are arbitrary, none is 0xff.
_NOISE = bytes(7 * i * i % 251 for i in range(1024))
_MORE = _NOISE + b"".join(bytes((0xFF, 0xD0 + i)) + _NOISE for i in range(8))


def jpeg_runs_dry(data: bytes, header: Header, image: NDArray[np.uint8]) -> bool:
    """Whether the decoder of a JPEG had to make up pixels, because its data ended early: it was cut off and given an
    end mark, or a wrong bit made codes longer than they were.

    libjpeg only warns of that, and no library here passes its warnings on. But whoever still wants data when it ends
    takes what is put there: with more of it before the end mark the picture is another one. That is tried, with two
    decodings at an eighth of the size, only where the last pixels are as they are where there is no data.

    Args:
        data: of the file.
        image: u8 [H, W, 3], its pixels as stored.
    """
    last = image[-1, -8:]
    if not (last == last[-1]).all() or last[0, 0] not in _NO_DATA or np.ptp(last[0]) > 2:
        return False
    end = data.find(_JPEG_END, header.end)
    try:
        changed = _eighth(data) != _eighth(data[:end] + _MORE + data[end:])
    except OSError:  # Pillow is told of some errors that OpenCV decodes over
        return True
    # Some encoders leave out the last bits: a block of 16 x 16 pixels, 2 x 2 here, is not a picture cut off.
    return int(changed.any(axis=2).sum()) > 4


def _eighth(data: bytes) -> NDArray[np.uint8]:
    """A JPEG's picture at an eighth of its size, one pixel a block."""
    image = JpegImageFile(BytesIO(data))
    image.draft(None, (1, 1))  # as small as can be, which is an eighth
    pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1)
