"""Uploads within bounds: of bytes, of time, and of what all of them hold."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from model_server import BOUNDARY, RED, BlockFinder, Client, blocks, form, png, serving

pytest.importorskip("uvicorn")

from visionkit.serve import connections

FILE = png(blocks(((8, 16, 24, 40), RED)))
KIND = f"multipart/form-data; boundary={BOUNDARY}"
MOST = 50_000
TOO_LARGE = "too_large: the upload has {} bytes or more, 50000 are taken at most; scale or compress the picture"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(BlockFinder(), upload_bytes=MOST, upload_seconds=0.5) as client:
        yield client


@contextmanager
def connected(client: Client, *headers: str) -> Iterator[socket.socket]:
    """A connection that has sent the head of an upload and nothing of its body."""
    with socket.create_connection((client.host, client.port), timeout=10) as connection:
        lines = ["POST /v1/detect HTTP/1.1", "Host: here", f"Content-Type: {KIND}", *headers, "", ""]
        connection.sendall("\r\n".join(lines).encode())
        yield connection


def answer_of(connection: socket.socket) -> tuple[int, str, str]:
    """Status, head and code of an answer after which the server closes."""
    said = b""
    while piece := connection.recv(65536):
        said += piece
    head, _, body = said.decode().partition("\r\n\r\n")
    return int(head.split()[1]), head.lower(), json.loads(body)["error"]["code"]


def test_an_upload_that_says_it_is_too_large(client: Client) -> None:
    answer = client.upload(bytes(MOST + 1))
    size = len(form({"image": ("photo.png", bytes(MOST + 1))}))
    assert (answer.status, answer.error) == (413, TOO_LARGE.format(size))


def test_one_that_does_not_say_it(client: Client) -> None:
    # http.client sends what has no length in chunks. They are a form as far as they go, or that might be said first.
    whole = form({"image": ("photo.png", bytes(8 * 10_000))})
    pieces = (whole[start : start + 10_000] for start in range(0, len(whole), 10_000))
    answer = client.ask("POST", "/v1/detect", pieces, Content_Type=KIND)
    assert answer.status == 413
    assert answer.error.startswith("too_large: the upload has ")


def test_one_of_the_largest_size_is_looked_at(client: Client) -> None:
    rest = MOST - len(form({"image": ("photo.png", FILE), "classes": ""}))
    assert client.upload(FILE, classes=",".join(["red block"] * (rest // 10))).status == 200


def test_a_client_that_asks_first_is_told_before_it_sends(client: Client) -> None:
    with connected(client, "Content-Length: 60000", "Expect: 100-continue") as connection:
        start = time.monotonic()
        status, head, code = answer_of(connection)
        assert (status, code) == (413, "too_large")
        assert "connection: close" in head
        assert time.monotonic() - start < 1


def test_a_client_that_stops_sending_is_told_so(client: Client) -> None:
    body = form({"image": ("photo.png", FILE)})
    with connected(client, f"Content-Length: {len(body)}") as connection:
        connection.sendall(body[:-40])
        start = time.monotonic()
        status, head, code = answer_of(connection)
        assert (status, code) == (408, "too_slow")
        assert "connection: close" in head
        assert 0.3 < time.monotonic() - start < 2


def test_a_client_that_dribbles_has_no_more_time_than_others(client: Client) -> None:
    with connected(client, "Content-Length: 40000") as connection:
        start = time.monotonic()
        connection.sendall(form({"image": ("photo.png", FILE)})[:-40])
        connection.settimeout(0.02)
        said = b""
        while not said and time.monotonic() - start < 5:
            connection.sendall(b"-")
            try:
                said = connection.recv(65536)
            except TimeoutError:
                continue
        assert b"408" in said
        assert time.monotonic() - start < 2


def test_a_client_that_leaves_is_forgotten(client: Client) -> None:
    with connected(client, "Content-Length: 40000") as connection:
        connection.sendall(b"--")
    assert client.upload(FILE).status == 200


def test_a_wrong_address_does_not_lose_its_answer_to_the_upload(client: Client) -> None:
    answer = client.ask("POST", "/nowhere", bytes(40_000), Content_Type=KIND)
    assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")


def test_all_uploads_together_hold_only_so_much() -> None:
    # Two uploads of 30,000 bytes are under way, each held; the third's bytes would be 90,000.
    with serving(BlockFinder(), upload_bytes=40_000, held_bytes=85_000, upload_seconds=5) as client:
        with connected(client, "Content-Length: 30001") as one, connected(client, "Content-Length: 30001") as two:
            for connection in (one, two):
                connection.sendall(form({"image": ("photo.png", bytes(30_000))})[:30_000])
            time.sleep(0.2)
            answer = client.upload(bytes(30_000))
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert answer.error == "busy: too many uploads are under way, the server holds no more; come again"
        time.sleep(0.2)
        assert client.upload(FILE).status == 200  # they left, and hold nothing


def test_many_uploads_hold_nothing_once_they_are_answered() -> None:
    with serving(BlockFinder(), held_bytes=20_000, upload_bytes=20_000) as client, ThreadPoolExecutor(1) as one_by_one:
        # 40 times about 500 bytes are more than may be held at once.
        body = form({"image": ("photo.png", FILE), "classes": ",".join(["red block"] * 40)})
        assert 40 * len(body) > 20_000
        answers = list(
            one_by_one.map(lambda _: client.upload(FILE, classes=",".join(["red block"] * 40)).status, range(40))
        )
        assert answers == [200] * 40


def test_a_connection_on_which_nothing_is_asked_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    with serving(BlockFinder()) as client:
        for begun in (b"", b"POST /v1/detect HT"):
            with socket.create_connection((client.host, client.port), timeout=10) as connection:
                connection.sendall(begun)
                assert connection.recv(100) == b""
        # That is about heads: a body that takes longer is another matter.
        body = form({"image": ("photo.png", FILE)})
        with connected(client, f"Content-Length: {len(body)}") as connection:
            time.sleep(0.5)
            connection.sendall(body)
            assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_a_connection_on_which_answers_are_not_taken_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, lost = threading.Event(), connections.HurriedProtocol.connection_lost

    def note(self: connections.HurriedProtocol, exc: Exception | None) -> None:
        lost(self, exc)
        ended.set()

    monkeypatch.setattr(connections, "TAKING_SECONDS", 0.2)
    monkeypatch.setattr(connections.HurriedProtocol, "connection_lost", note)
    with serving(BlockFinder()) as client, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((client.host, client.port))
        # More than the system holds for a client that reads nothing: 15 kB each.
        connection.sendall(b"GET /page.js HTTP/1.1\r\nHost: here\r\n\r\n" * 2000)
        assert ended.wait(10)
