"""What the server refuses, each with its code and one line, and never with a word of its own files."""

import base64
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from model_server import BOUNDARY, GREEN, RED, BlockFinder, Client, blocks, form, png, serving

pytest.importorskip("uvicorn")

FILE = png(blocks(((8, 16, 24, 40), RED)))
TEXT = base64.b64encode(FILE).decode()
NAMES = "classes are chosen by the model's names; choose from red block, blue block, shadow"
OPTIONS = "the options are conf, iou, max_det, classes"
AS_CURL = "as curl does with -F image=@photo.jpg"
KIND = f"multipart/form-data; boundary={BOUNDARY}"
END = f"--{BOUNDARY}--\r\n".encode()
FORMATS = "JPEG, PNG, WebP, BMP, TIFF, GIF"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(BlockFinder(), pixels=10_000) as client:
        yield client


def png_header(width: int, height: int) -> bytes:
    """A PNG of that size without its pixels."""
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(content))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + content + checksum + struct.pack(">I", 9) + b"IDAT"


@pytest.mark.parametrize(
    ("file", "status", "words"),
    [
        (b"", 422, "bad_image: photo.png is empty (0 bytes), an image is needed; copy or export it again"),
        (
            b"hello",
            422,
            f"bad_image: photo.png is not an image of a known format ({FORMATS}); convert it or leave it out",
        ),
        (FILE[:-20], 422, "bad_image: photo.png is cut off, a PNG must reach its end mark; copy or export it again"),
        (
            png_header(101, 100),
            413,
            "too_many_pixels: photo.png is 101x100 pixels, at most 0.01 million are taken; scale it down",
        ),
        (
            png_header(30_000, 30_000),
            422,
            "bad_image: photo.png is 30000x30000 pixels, at most 100 million are read; scale it down",
        ),
    ],
)
def test_broken_and_large_pictures(client: Client, file: bytes, status: int, words: str) -> None:
    for answer in (client.upload(file), client.post({"image": base64.b64encode(file).decode(), "name": "photo.png"})):
        assert (answer.status, answer.error) == (status, words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"conf": "x"}, "conf must be a number from 0 to 1, got x; change it or leave it out"),
        ({"conf": "1.5"}, "conf must be a number from 0 to 1, got 1.5; change it or leave it out"),
        ({"conf": "nan"}, "conf must be a number from 0 to 1, got nan; change it or leave it out"),
        ({"iou": "-1"}, "iou must be a number from 0 to 1, got -1; change it or leave it out"),
        ({"max_det": "0"}, "max_det must be a whole number from 1 to 1000, got 0; change it or leave it out"),
        (
            {"max_det": "9" * 90},
            f"max_det must be a whole number from 1 to 1000, got {'9' * 40}...; change it or leave it out",
        ),
        ({"classes": "cat"}, f"the model knows no class 'cat', {NAMES}"),
        ({"size": "3"}, f"'size' is no option, {OPTIONS}; leave it out"),
    ],
)
def test_options_out_of_range(client: Client, options: dict[str, Any], words: str) -> None:
    answer = client.upload(FILE, **options)
    assert (answer.status, answer.error) == (422, f"bad_option: {words}")


def test_an_option_that_comes_twice(client: Client) -> None:
    body = form({"image": ("photo.png", FILE), "conf": 0.5}).removesuffix(END) + form({"conf": 0.1})
    answer = client.ask("POST", "/v1/detect", body, Content_Type=KIND)
    words = "bad_option: 'conf' comes more than once, only classes may; leave all but one out"
    assert (answer.status, answer.error) == (422, words)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([], 'bad_request: the body is no JSON object; send {"image": "..."} with a file in base64'),
        ({}, "bad_request: image is missing, it must be an image file in base64; add it"),
        ({"image": 3}, "bad_option: image must be an image file in base64, got 3; change it or leave it out"),
        (
            {"image": "?"},
            "bad_request: image is not base64, it must be a file in it; encode it as base64 -w0 photo.jpg does",
        ),
        ({"image": TEXT, "classes": []}, f"bad_option: no class is chosen, {NAMES}"),
        (
            {"image": TEXT, "conf": "\ud800"},
            "bad_option: conf must be a number from 0 to 1, got \\ud800; change it or leave it out",
        ),
        ({"image": TEXT, "x": 1}, f"bad_option: 'x' is no option, {OPTIONS}, image, name; leave it out"),
    ],
)
def test_json_that_asks_nothing(client: Client, said: Any, words: str) -> None:
    assert client.post(said).error == words


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json(client: Client, body: bytes) -> None:
    answer = client.ask("POST", "/v1/detect", body, Content_Type="application/json; charset=utf-8")
    assert (answer.status, answer.error) == (
        400, 'bad_request: the body is no JSON object; send {"image": "..."} with a file in base64',
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (form({"image": "photo.jpg"}), KIND, f"the form has no file, one is needed; send it {AS_CURL}"),
        (
            form({"a": ("a", FILE), "b": ("b", FILE)}),
            KIND,
            f"the form cannot be read (Too many files. Maximum number of files is 1); send one {AS_CURL}",
        ),
        (b"nothing", KIND, "the form cannot be read (Invalid multipart data); send one"),
        (
            form({"image": ("a", FILE)}),
            "multipart/form-data",
            "the form cannot be read (Missing boundary in multipart); ",
        ),
        (form({"image": ("a", FILE)})[:-70], KIND, "the form "),
    ],
)
def test_forms_that_hold_no_picture(client: Client, body: bytes, kind: str, words: str) -> None:
    answer = client.ask("POST", "/v1/detect", body, Content_Type=kind)
    assert answer.status == 400
    assert answer.error.startswith(f"bad_request: {words}")


def test_bodies_of_another_kind(client: Client) -> None:
    answer = client.ask("POST", "/v1/detect", FILE, Content_Type="image/png")
    words = f"a picture comes as multipart/form-data or application/json, got image/png; send it {AS_CURL}"
    assert (answer.status, answer.error) == (415, f"media_type: {words}")
    assert "got nothing;" in client.ask("POST", "/v1/detect", b"").error


def test_addresses_that_are_not_there(client: Client) -> None:
    answer = client.get("/../etc/passwd")
    assert (answer.status, answer.error) == (
        404,
        "not_found: nothing is at this address; /docs lists those that there are",
    )
    answer = client.get("/v1/detect")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert answer.error == "not_allowed: this address answers POST only; /docs says how it is used"


def test_a_model_that_fails_tells_the_operator_and_not_the_client() -> None:
    errors: list[Exception] = []
    with serving(BlockFinder(), errors=errors) as client:
        answer = client.upload(png(blocks(((8, 16, 24, 40), GREEN))))
        words = "the server failed at this request; it is not the request's fault, tell whoever runs the server"
        assert (answer.status, answer.error) == (500, f"internal: {words}")
        assert [str(error) for error in errors] == ["green at /secret/place"]
        assert client.upload(FILE).status == 200  # it goes on


def test_pictures_that_take_too_long_and_those_behind_them() -> None:
    backend = BlockFinder()
    with serving(backend, answer_seconds=0.5, batch=1) as client, ThreadPoolExecutor(1) as asker:
        backend.gate.clear()
        large = asker.submit(client.upload, FILE)
        assert backend.reached.wait(10)
        behind, answer = client.upload(FILE), large.result(10)
        backend.gate.set()
        assert (behind.status, behind.headers["Retry-After"]) == (503, "5")
        assert behind.error == "busy: the picture had no answer within 0.5 seconds, which is all it waits; come again"
        assert (answer.status, answer.headers["Retry-After"]) == (503, None)
        assert answer.error == (
            "out_of_time: the picture was still looked at after 0.5 seconds, which is all it gets, waiting included; "
            "scale it down, come again when fewer ask, or raise the server's --answer-timeout"
        )
        assert client.upload(FILE).status == 200
    assert backend.batches == [1, 1]  # nobody waited for the one behind
