"""`visionkit serve` as a user starts and ends it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from model_server import BOUNDARY, RED, Client, blocks, form, png

pytest.importorskip("uvicorn")

from visionkit.bundled.files import bundled_onnx
from visionkit.classes import ClassTable
from visionkit.data.sample import CLASSES
from visionkit.errors import DataError, UsageError
from visionkit.imaging.reader import decode_image
from visionkit.serve import server
from visionkit.serve.sample import own_sample, sample_for

bundled = pytest.mark.skipif(bundled_onnx(checked=False) is None, reason="this version bundles no model")

FILE = png(blocks(((8, 16, 24, 40), RED)))
PICTURE = png(blocks(((80, 160, 240, 400), RED), side=640))


# Any import of torch raises: a bundled or exported model is served without it.
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from visionkit.cli import run; run()"


@contextmanager
def served(*options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], Client, dict[str, Any]]]:
    """The process, a client of it, and what it said on stdout."""
    command = [sys.executable, "-c", WITHOUT_TORCH, "serve", "--port", "0", "--json", "--threads", "1", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        address = urlsplit(said["url"])
        yield process, Client(str(address.hostname), int(address.port or 0)), said
    finally:
        process.kill()
        process.communicate()


@bundled
def test_it_says_where_and_answers() -> None:
    # FastAPI would report to a collector that these name, or fail to.
    collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
    tiles = ("--tile", "640", "--overlap", "0.25")
    with served(*tiles, **collector) as (process, client, said):
        assert (said["task"], said["url"].startswith("http://127.0.0.1:")) == ("detect", True)
        assert client.get("/healthz").json["status"] == "ok"
        assert client.upload(FILE).json["model"]["name"] == said["model"]
        (model,) = client.get("/v1/models").json["models"]
        assert (model["weights"], model["name"], tuple(model["options"])) == ("default", said["model"], tiles)
        assert client.upload(b"no picture").status == 422
        assert client.ask("POST", "/v1/detect", b"x", Content_Type="multipart/form-data; boundary=y").status == 400
        assert client.get("/sample").body.startswith(b"\xff\xd8\xff")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        (line,) = process.stderr.read().splitlines()
        classes = len(model["classes"])
        assert line == f"{said['model']} (detect, {classes} classes) answers at {said['url']}; Ctrl-C ends it"


@bundled
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to speak of")
def test_sigterm_ends_it_when_those_who_ask_are_answered() -> None:
    body = form({"image": ("photo.png", FILE)})
    with served() as (process, client, _), ThreadPoolExecutor(24) as askers:
        client.upload(PICTURE)
        slow = socket.create_connection((client.host, client.port), timeout=20)
        head = f"POST /v1/detect HTTP/1.1\r\nHost: here\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:50])
        answers = [askers.submit(client.upload, PICTURE) for _ in range(24)]
        deadline = time.monotonic() + 20
        while (counts := client.get("/healthz").json)["under_way"] + counts["answered"] < 25:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGTERM)
        assert [answer.result(30).status for answer in answers] == [200] * 24
        with pytest.raises(OSError, match="refused"):
            client.get("/healthz")
        slow.sendall(body[50:])
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 OK")
        slow.close()
        assert process.wait(20) == 143
        assert process.stderr is not None
        assert len(process.stderr.read().splitlines()) == 1


def refused(*options: object) -> str:
    """The line that a command which is refused ends with, before its model is loaded."""
    command = [sys.executable, "-m", "visionkit", "serve", "--weights", "nowhere.safetensors", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    return line


def test_what_can_be_refused_without_a_model_is_refused_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused("--port", port) == (
            f"error: 127.0.0.1 port {port} cannot be listened at (address already in use); "
            "choose another --port, or 0 for a free one"
        )
    line = refused("--port", 0, "--host", "no such host")
    assert line.startswith("error: 'no such host' is no address of this machine (")
    assert line.endswith("); use 127.0.0.1")
    assert refused("--port", 0, "--sample", tmp_path / "none.jpg") == (
        f"error: {tmp_path}/none.jpg cannot be opened (No such file or directory); check the path"
    )


@pytest.mark.parametrize(
    ("option", "value", "most"),
    [
        ("--max-pixels", "500", "100"),  # no reader takes more
        ("--max-pixels", "inf", "100"),
        ("--max-upload", "inf", "1,000,000"),
        ("--upload-timeout", "inf", "1,000,000"),
        ("--answer-timeout", "1e+308", "1,000,000"),
    ],
)
def test_numbers_without_bounds_are_refused(option: str, value: str, most: str) -> None:
    assert refused(option, value) == f"error: {option} must be at most {most}, got {value}; choose a smaller value"


def test_without_the_extra_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = server.find_spec
    monkeypatch.setattr(server, "find_spec", lambda name: None if name in ("fastapi", "uvicorn") else real(name))
    with pytest.raises(UsageError) as error:
        server.check_installed()
    assert str(error.value) == (
        "serve needs fastapi, uvicorn, python-multipart, of which fastapi, uvicorn cannot be imported; "
        "install them by: pip install 'visionkit[serve]'"
    )


def test_the_command_needs_the_extra_only_when_it_runs() -> None:
    code = (
        "import visionkit.cli, sys; sys.exit(any(name in sys.modules for name in ('fastapi', 'uvicorn', 'starlette')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@bundled
def test_others_are_let_in_only_when_it_is_said() -> None:
    with server.listen("127.0.0.1", 0) as own, server.listen("0.0.0.0", 0) as everyone:
        assert server.is_loopback(own)
        assert not server.is_loopback(everyone)
        assert server.url_of(own) == f"http://127.0.0.1:{own.getsockname()[1]}"
    with served("--host", "0.0.0.0") as (process, client, said):
        assert said["url"].startswith("http://0.0.0.0:")
        assert Client("127.0.0.1", client.port).get("/healthz").status == 200
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert process.stderr is not None
        assert process.stderr.readline() == (
            "warning: 0.0.0.0 can be reached from other machines, and there is no password and no TLS; "
            "leave --host out, or put a proxy with both in front\n"
        )


def test_a_sample_suits_the_model(tmp_path: Path) -> None:
    drawn_b = sample_for(ClassTable((5,), (CLASSES["b"][0].name,)))()
    drawn_a = sample_for(ClassTable((1,), ("whatever",)))()
    cat = sample_for(ClassTable((1, 2), ("dog", "cat")))()
    assert len({drawn_a, drawn_b, cat}) == 3
    assert decode_image(drawn_a, "drawn").shape[2] == decode_image(drawn_b, "drawn").shape[2] == 3
    assert decode_image(cat, "cat").shape == (300, 451, 3)
    (tmp_path / "own.png").write_bytes(FILE)
    assert own_sample(tmp_path / "own.png")() == FILE
    with pytest.raises(DataError, match="cannot be opened"):
        own_sample(tmp_path / "none.png")
