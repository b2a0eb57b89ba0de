"""A server of one file on this machine, that behaves well or in one of the ways that servers behave badly."""

from __future__ import annotations

import hashlib
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from web_server import answering

from visionkit.published.weights import PublishedFile

NAME = "network-0123abcd.pth"


@dataclass
class FileServer:
    """What the server has and how it behaves; tests change it between requests.

    Args:
        body: the file.
        etag: its entity tag; none where empty.
        status: of every answer, where it is not 200 or 206.
        ranges: whether it sends parts of the file.
        cut: how many bytes of the body it sends before it hangs up; all where None.
        declared: whether it says how long the file is.
        wait: seconds before every answer.
        stall: seconds in the middle of the body, after `cut` bytes, before it hangs up.
        wrong_range: whether it calls its parts the beginning of the file.
        asked: the `Range` header of each request so far, "" where there was none.
    """

    body: bytes
    etag: str = '"first"'
    status: int = 0
    ranges: bool = True
    cut: int | None = None
    declared: bool = True
    wait: float = 0
    stall: float = 0
    wrong_range: bool = False
    port: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/models/{NAME}"

    def published(self, *, digits: int = 64, size_within: int = 0) -> PublishedFile:
        """The entry of the file as it is now in a list of published files."""
        sha256 = hashlib.sha256(self.body).hexdigest()[:digits]
        return PublishedFile(self.url, sha256, len(self.body), size_within, "made for this test, CC0", {"top1": 0.5})


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.headers.get("Range", ""))
            time.sleep(server.wait)
            if server.status:
                self.send_error(server.status)
                return
            begin = 0
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if wanted and server.ranges and self.headers.get("If-Range") == server.etag:
                begin = int(wanted[1])
                if begin >= len(server.body):
                    self.send_error(416)
                    return
                self.send_response(206)
                said = 0 if server.wrong_range else begin
                self.send_header("Content-Range", f"bytes {said}-{len(server.body) - 1}/{len(server.body)}")
            else:
                self.send_response(200)
            if server.etag:
                self.send_header("ETag", server.etag)
            rest = server.body[begin:]
            if server.declared:
                self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            with suppress(ConnectionError):  # whoever has seen enough hangs up
                self.wfile.write(rest[: server.cut])
            time.sleep(server.stall)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@contextmanager
def serving(body: bytes) -> Iterator[FileServer]:
    """The server, for as long as it is needed."""
    server = FileServer(body)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.port = http.server_address[1]
    with answering(http):
        yield server


def free_port() -> int:
    """A port on which nobody answers."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port
