"""A server on this machine that answers each path as a test says."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class WebServer:
    """What the server says; tests change it between requests.

    Args:
        answers: what happens by path, without the query.
        asked: (path with query, headers) of each request so far.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    port: int = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def body(content: bytes, kind: str = "application/octet-stream", *, length: int | None = None) -> Answer:
    """An answer of such bytes; it may promise another number of them."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(content) if length is None else length))
        request.end_headers()
        request.wfile.write(content)

    return answer


def redirect(target: str, status: int = 302) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Location", target)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def _handler(server: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append((self.path, dict(self.headers)))
            answer = server.answers.get(self.path.partition("?")[0])
            with suppress(ConnectionError):  # whoever has seen enough hangs up
                if answer is None:
                    self.send_error(404, "Not Found")
                else:
                    answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@contextmanager
def web_server(certificate: Path | None = None, key: Path | None = None) -> Iterator[WebServer]:
    """The server, for as long as it is needed; in TLS where it has a certificate."""
    server = WebServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        http.socket = context.wrap_socket(http.socket, server_side=True)
    http.block_on_close = False
    server.port = http.server_address[1]
    with answering(http):
        yield server


@contextmanager
def answering(http: ThreadingHTTPServer) -> Iterator[None]:
    """It answers from threads of its own, until the block ends."""
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
