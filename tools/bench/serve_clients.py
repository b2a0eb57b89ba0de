"""Clients of a server, good ones and bad ones: what each sends, and what it must get."""

from __future__ import annotations

import base64
import http.client
import json
import random
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

BOUNDARY = "visionkit-bench"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
SCORE_MARGIN, BOX_MARGIN = 0.01, 1.0
"""How far a batch may round from one picture alone; what scores hardly more than the threshold may be absent."""
LEFT = 0
"""The status of an answer that never came because the server had hung up."""


class Said(NamedTuple):
    """How a request ended: its kind, its status, seconds until then, and what was wrong with it, if anything was."""

    kind: str
    status: int
    seconds: float
    wrong: str = ""


@dataclass(frozen=True)
class Target:
    """A server and what is known of it.

    Args:
        pictures: image files.
        expected: of each the items that it gave when it was asked alone.
        upload_bytes, upload_seconds: its limits.
        conf: the least score that is asked for.
    """

    host: str
    port: int
    pictures: Sequence[bytes]
    expected: Sequence[list[dict[str, Any]]]
    upload_bytes: int
    upload_seconds: float
    conf: float = 0.25


def form(file: bytes, conf: float, name: str = "picture.jpg") -> bytes:
    """The body of an upload."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
    rest = f'\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="conf"\r\n\r\n{conf}\r\n--{BOUNDARY}--\r\n'
    return head.encode() + file + rest.encode()


def ask(target: Target, body: Any, media_type: str, **headers: str) -> tuple[int, Any]:
    """Status and JSON of an answer; `LEFT` where there was none."""
    connection = http.client.HTTPConnection(target.host, target.port, timeout=120)
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before it hung up
            connection.request("POST", "/v1/detect", body, {"Content-Type": media_type, **headers})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (ConnectionError, http.client.HTTPException):
        return LEFT, None
    finally:
        connection.close()


def items_of(target: Target, number: int) -> list[dict[str, Any]]:
    """What the server says of a picture that it is asked alone."""
    status, said = ask(target, form(target.pictures[number], target.conf), FORM)
    if status != 200:
        raise ConnectionError(f"picture {number} was answered with {status}")
    items: list[dict[str, Any]] = said["items"]
    return items


def difference(target: Target, number: int, items: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong with an answer; nothing where it says what the one to the picture alone says, but for rounding."""
    expected = target.expected[number]
    for some, others in ((items, expected), (expected, items)):
        for item in some:
            sure = item.get("score", 1) >= target.conf + SCORE_MARGIN
            if sure and not any(_alike(item, other) for other in others):
                return f"picture {number}: {item['name']} {item.get('score', 1)} is in one answer and not in the other"
    return ""


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    corners = zip(one.get("bbox", ()), other.get("bbox", ()), strict=True)
    near = all(abs(a - b) <= BOX_MARGIN for a, b in corners)
    return near and one["label"] == other["label"] and abs(one.get("score", 1) - other.get("score", 1)) <= SCORE_MARGIN


# Kinds of clients -----------------------------------------------------------------------------------------------------


def good_form(target: Target, number: int) -> Said:
    return _judged("good", target, number, form(target.pictures[number], target.conf), FORM)


def good_json(target: Target, number: int) -> Said:
    text = base64.b64encode(target.pictures[number]).decode()
    return _judged("good", target, number, json.dumps({"image": text, "conf": target.conf}), "application/json")


def slow(target: Target, number: int) -> Said:
    """Whoever needs half of the time that there is gets an answer."""
    body = form(target.pictures[number], target.conf)
    return _judged("slow", target, number, _dribbled(body, target.upload_seconds / 2), FORM, length=len(body))


def too_slow(target: Target, number: int) -> Said:
    body = form(target.pictures[number], target.conf)
    start = time.perf_counter()
    status = _trickle(target, body, 3 * target.upload_seconds)
    return _expected("too slow", status, start, 408, LEFT)


def broken(target: Target, number: int) -> Said:
    """A file that is cut off, one that is none, a body that is no form and a JSON object without a picture."""
    file = target.pictures[number]
    bodies: list[tuple[Any, str, int]] = [
        (form(file[: len(file) // 2], target.conf), FORM, 422),
        (form(random.Random(number).randbytes(5000), target.conf), FORM, 422),
        (form(b"", target.conf), FORM, 422),
        (b"nothing", FORM, 400),
        (b"{}", "application/json", 400),
        (b"[1, 2", "application/json", 400),
    ]
    body, media_type, status = bodies[number % len(bodies)]
    start = time.perf_counter()
    return _expected("broken", ask(target, body, media_type)[0], start, status)


def huge_bytes(target: Target, number: int) -> Said:
    """Three times as many bytes as are taken; every second one does not say so beforehand."""
    body = form(bytes(3 * target.upload_bytes), target.conf)
    start = time.perf_counter()
    known = {"Content-Length": str(len(body))} if number % 2 else {}
    status, _ = ask(target, _dribbled(body, 0, 100), FORM, **known)
    return _expected("huge upload", status, start, 413, 408, LEFT)


def huge_pixels(target: Target, number: int) -> Said:
    """A few bytes that say they are a picture of 9 gigapixels, and some of 81 million."""
    side = 95_000 if number % 2 else 9_000
    start = time.perf_counter()
    status, _ = ask(target, form(png_of(side), target.conf, "bomb.png"), FORM)
    return _expected("huge picture", status, start, 422 if number % 2 else 413)


def leaver(target: Target, number: int) -> Said:
    """Sends half and hangs up."""
    body = form(target.pictures[number], target.conf)
    start = time.perf_counter()
    with socket.create_connection((target.host, target.port), timeout=30) as connection:
        connection.sendall(_head(len(body)) + body[: len(body) // 2])
    return Said("left", LEFT, time.perf_counter() - start)


KINDS: Sequence[tuple[int, Callable[[Target, int], Said]]] = (
    *((11, good_form), (3, good_json), (1, slow), (1, too_slow)),
    *((2, broken), (1, huge_bytes), (1, huge_pixels), (1, leaver)),
)
"""How many of 21 requests are of each kind."""


def request(target: Target, seed: int, client: int, step: int) -> Said:
    """What a client does at a step: the same whenever it is asked."""
    drawn = random.Random(f"{seed}/{client}/{step}")
    (kind,) = drawn.choices([kind for _, kind in KINDS], [weight for weight, _ in KINDS])
    return kind(target, drawn.randrange(len(target.pictures)))


def png_of(side: int) -> bytes:
    """A PNG that is said to be square and black, compressed to what a strip of it takes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 + 3 * side) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _judged(kind: str, target: Target, number: int, body: Any, media_type: str, *, length: int | None = None) -> Said:
    known = {} if length is None else {"Content-Length": str(length)}
    start = time.perf_counter()
    status, said = ask(target, body, media_type, **known)
    seconds = time.perf_counter() - start
    if status == 200:
        return Said(kind, status, seconds, difference(target, number, said["items"]))
    return _expected(kind, status, start, 200, 503)


def _expected(kind: str, status: int, start: float, *among: int) -> Said:
    """503 is right whatever was asked: a full server says so before it looks."""
    wrong = "" if status in (*among, 503) else f"{kind}: status {status}, expected {among[0]}"
    return Said(kind, status, time.perf_counter() - start, wrong)


def _dribbled(body: bytes, seconds: float, pieces: int = 20) -> Iterator[bytes]:
    """A body piece by piece, in so many seconds."""
    size = len(body) // pieces + 1
    for at in range(0, len(body), size):
        yield body[at : at + size]
        time.sleep(seconds / pieces)


def _head(length: int) -> bytes:
    return (
        f"POST /v1/detect HTTP/1.1\r\nHost: bench\r\nContent-Type: {FORM}\r\nContent-Length: {length}\r\n\r\n".encode()
    )


def _trickle(target: Target, body: bytes, seconds: float) -> int:
    """The status that comes while a body is still being sent."""
    with socket.create_connection((target.host, target.port), timeout=30) as connection:
        try:
            connection.sendall(_head(len(body)))
            connection.settimeout(seconds / 40)
            for piece in _dribbled(body, 0, 40):
                connection.sendall(piece)
                try:
                    said = connection.recv(65536)
                except TimeoutError:
                    continue
                return int(said.split()[1]) if said else LEFT
            connection.settimeout(60)
            return int(connection.recv(65536).split()[1])
        except (ConnectionError, IndexError):
            return LEFT
