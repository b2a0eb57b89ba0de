"""Images, videos and streams by their addresses."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from pathlib import Path
from time import monotonic

from visionkit.errors import DataError, UsageError
from visionkit.imaging.reader import decode_image
from visionkit.predict.byte_source import MAX_IMAGE_BYTES, pictures_of, received
from visionkit.predict.newest import newest
from visionkit.predict.sources import Address, check_address
from visionkit.predict.video_source import UNKNOWN_FPS, Moment, Pictures, Video, read_stream
from visionkit.predict.web_address import Deadline, opened, pinned, too_long
from visionkit.published.cache import OFFLINE, offline_by_environment

MOST_SECONDS = 300.0
"""A file from elsewhere may take so long to come."""

_MOST_LINE = 1 << 16


def read_address(
    address: Address,
    *,
    every: int = 1,
    offline: bool = False,
    allow_private: bool = False,
    live: bool = True,
    on_broken: Callable[[DataError], None],
) -> Pictures:
    """The picture at an address, or the frames of its video or stream.

    What an http or https server sends is an image, a video file, which is received whole first, or a stream of JPEG
    pictures (`multipart/x-mixed-replace`, the MJPEG of web cameras). rtsp and rtsps are opened by FFmpeg at the checked
    address of the host; where such a server leads on to, and the certificate of rtsps, FFmpeg does not have checked.

    Args:
        offline: never use the network; so does the variable `VISIONKIT_OFFLINE`.
        allow_private: also addresses that are not public.
        live: also streams, which have no end.
        on_broken: told each picture of a stream that cannot be decoded; the stream goes on.

    Raises:
        DataError: the network must not be used, the address is refused or cannot be reached, what comes is too much,
            takes too long, breaks off, or is no picture.
        UsageError: a stream, where none is wanted.
    """
    scheme, name = check_address(address), str(address)
    if offline or offline_by_environment():
        forbids = "--offline" if offline else f"{OFFLINE} in the environment"
        raise DataError(f"{name} is on the network, and {forbids} forbids to use it; name a file instead")
    if scheme in ("rtsp", "rtsps"):
        _require_live(live, name)
        url = pinned(address.url, name=name, allow_private=allow_private)
        yield from newest(read_stream(url, name=name, every=every))
        return
    with tempfile.TemporaryDirectory(prefix="visionkit-") as scratch:
        deadline = Deadline(MOST_SECONDS)
        try:
            with opened(address.url, name=name, allow_private=allow_private, deadline=deadline) as response:
                if response.headers.get_content_type() == "multipart/x-mixed-replace":
                    deadline.cancel()
                    _require_live(live, name)
                    yield from newest(_motion_jpeg(response, name, every, on_broken))
                    return
                got = received(_whole(response, name, deadline), Path(scratch), name=name)
        finally:
            deadline.cancel()
        yield from pictures_of(got, name=name, every=every)


def _require_live(live: bool, name: str) -> None:
    if not live:
        raise UsageError(
            f"{name} is a stream, which has no end, and a list of all its results would have none; use stream"
        )


def _whole(response: HTTPResponse, name: str, deadline: Deadline) -> Callable[[int], bytes]:
    """Reads a body, and says so where it ends too early."""
    length = response.headers.get("Content-Length", "")
    promised = int(length) if length.isdecimal() else None
    done = 0

    def read(size: int) -> bytes:
        nonlocal done
        piece = response.read1(size)
        done += len(piece)
        if not piece and deadline.passed:
            raise too_long(name, deadline)
        if not piece and promised is not None and done < promised:
            raise DataError(f"{name} broke off after {done:,} of {promised:,} bytes; try again later")
        return piece

    return read


def _motion_jpeg(response: HTTPResponse, name: str, every: int, on_broken: Callable[[DataError], None]) -> Pictures:
    """The pictures of a server push, as they come."""
    video, began = Video(name, UNKNOWN_FPS, live=True), None
    for number, data in enumerate(_parts(response, name)):
        began = monotonic() if began is None else began
        if number % every:
            continue
        moment = Moment(video, number, monotonic() - began)
        try:
            pixels = decode_image(data, moment.path)
        except DataError as error:
            on_broken(error)
            continue
        yield moment, pixels
    raise DataError(f"{name} ceased, a live source has no end; check its power and connection")


def _parts(response: HTTPResponse, name: str) -> Iterator[bytes]:
    """The bodies of a multipart message (RFC 2046, section 5.1), with their length given or not. The boundary is taken
    as it stands in the body: cameras are not at one about its dashes."""
    line = b""
    while True:
        while not line.startswith(b"--"):
            line = response.readline(_MOST_LINE)
            if not line:
                return
        boundary, length = line.strip(), -1
        while (line := response.readline(_MOST_LINE)).strip():
            field, _, value = line.partition(b":")
            if field.strip().lower() == b"content-length" and value.strip().isdigit():
                length = int(value)
        if length > MAX_IMAGE_BYTES:
            raise _too_large(name)
        if length >= 0:
            data = response.read(length)
            if len(data) < length:
                return
            line = b""
        else:
            grown = bytearray()
            while not (line := response.readline(_MOST_LINE)).startswith(boundary):
                grown += line
                if not line:
                    return
                if len(grown) > MAX_IMAGE_BYTES:
                    raise _too_large(name)
            data = bytes(grown).removesuffix(b"\n").removesuffix(b"\r")
        yield data


def _too_large(name: str) -> DataError:
    return DataError(f"{name} sends a picture of more than {MAX_IMAGE_BYTES:,} bytes; let it send smaller ones")
