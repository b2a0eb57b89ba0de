"""A camera on this machine: RTSP over TCP (RFC 2326), and in the same connection JPEG pictures in RTP (RFC 2435)."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 26\r\na=framerate:25\r\na=control:track1\r\n"
)
CLOCK = 90_000
FPS = 25
PIECE = 1400
"""Bytes of a picture in a packet."""


def parts_of_jpeg(data: bytes) -> tuple[bytes, bytes, tuple[int, int]]:
    """Of a baseline JPEG in 4:2:0 the two quantisation tables, the coded pixels, and width and height: all that RTP
    sends, as the rest is always the same (RFC 2435, section 3)."""
    tables, size, place = b"", (0, 0), 2
    while True:
        kind, length = struct.unpack(">xBH", data[place : place + 4])
        content = data[place + 4 : place + 2 + length]
        if kind == 0xDB:
            assert len(content) % 65 == 0
            tables += b"".join(content[i + 1 : i + 65] for i in range(0, len(content), 65))
        elif kind == 0xC0:
            size = struct.unpack(">xHH", content[:5])[::-1]
            assert content[7] == 0x22  # two by two pixels of light for one of colour
        elif kind == 0xDA:
            return tables, data[place + 2 + length : -2], size
        place += 2 + length


def packets(pictures: Sequence[bytes]) -> Iterator[bytes]:
    """RTP packets, each as it is sent among RTSP (RFC 2326, section 10.12)."""
    number = 0
    for i, picture in enumerate(pictures):
        tables, pixels, (width, height) = parts_of_jpeg(picture)
        assert len(tables) == 128
        for first in range(0, len(pixels), PIECE):
            last = first + PIECE >= len(pixels)
            head = struct.pack(">BBHII", 0x80, 26 | last << 7, number, i * CLOCK // FPS, 1)
            head += struct.pack(">IBBBB", first, 1, 255, width // 8, height // 8)
            head += struct.pack(">BBH", 0, 0, len(tables)) + tables if first == 0 else b""
            body = head + pixels[first : first + PIECE]
            yield struct.pack(">cBH", b"$", 0, len(body)) + body
            number += 1


def requests(stream: IO[bytes]) -> Iterator[tuple[str, dict[str, str]]]:
    """Method and headers of each; what the client says of how it receives is passed over."""
    while first := stream.read(1):
        if first == b"$":
            _, length = struct.unpack(">BH", stream.read(3))
            stream.read(length)
            continue
        method = (first + stream.readline()).decode().split()[0]
        headers = {}
        while line := stream.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        yield method, headers


def answer(connected: socket.socket, url: str, pictures: Sequence[bytes], asked: list[str]) -> None:
    """Talk to one client until it has all pictures."""
    with connected, connected.makefile("rb") as stream:
        for method, headers in requests(stream):
            asked.append(method)
            more, body = "", ""
            if method == "OPTIONS":
                more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif method == "DESCRIBE":
                body = SDP
                more = f"Content-Base: {url}/\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif method == "SETUP":
                more = "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            elif method == "PLAY":
                more = "Session: 1\r\n"
            connected.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\n{more}\r\n{body}".encode())
            if method == "PLAY":
                for packet in packets(pictures):
                    connected.sendall(packet)
                return


@contextmanager
def rtsp_server(pictures: Sequence[bytes]) -> Iterator[tuple[str, list[str]]]:
    """The address of a camera that shows these JPEG pictures once and then ceases; and what it has been asked."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"rtsp://127.0.0.1:{listening.getsockname()[1]}/live"

        def serve() -> None:
            with suppress(OSError):  # closed, or whoever looked has seen enough
                while True:
                    answer(listening.accept()[0], url, pictures, asked)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield url, asked
        finally:
            listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)
