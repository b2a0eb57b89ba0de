"""Images, videos and streams by their addresses."""

import io
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from pictures import corners, encoded, four_corners
from rtsp_server import rtsp_server
from videos import frame, numbers, write_video
from web_server import body, web_server

from visionkit.errors import DataError, UsageError
from visionkit.predict import byte_source, url_source
from visionkit.predict.byte_source import read_standard_input
from visionkit.predict.sources import Address
from visionkit.predict.url_source import read_address


@pytest.fixture
def server():
    with web_server() as server:
        yield server


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Where temporary files go; there must be none at the end."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def read(url, **options):
    broken = []
    pictures = read_address(Address(url), **{"allow_private": True, "on_broken": broken.append, **options})
    return pictures, broken


def refusal(url, **options):
    pictures, _ = read(url, **options)
    with pytest.raises(DataError) as error:
        list(pictures)
    return str(error.value)


def test_an_image(server):
    server.answers["/a"] = body(encoded(four_corners(), "PNG"))
    ((moment, pixels),), broken = list(read(server.url("/a"))[0]), []
    assert moment is None
    assert corners(pixels) == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    assert broken == []


def test_a_video_is_kept_until_it_is_seen(server, tmp_path, scratch):
    server.answers["/clip"] = body(write_video(tmp_path / "clip.mp4").read_bytes())
    pictures, _ = read(server.url("/clip"), every=2)
    seen = []
    for moment, pixels in pictures:
        assert len(list(scratch.iterdir())) == 1
        seen.append((moment, pixels))
    assert numbers(pixels for _, pixels in seen) == [0, 2, 4, 6, 8]
    assert seen[1][0].path == f"{server.url('/clip')}#frame=2&t=0.080"


def test_a_video_that_is_left_leaves_no_file(server, tmp_path, scratch):
    server.answers["/clip"] = body(write_video(tmp_path / "clip.mp4").read_bytes())
    pictures, _ = read(server.url("/clip"))
    with closing(pictures):
        next(pictures)
        assert len(list(scratch.iterdir())) == 1
    assert list(scratch.iterdir()) == []


def test_what_is_neither(server):
    server.answers["/page"] = body(b"<!doctype html><title>Not here</title>", "text/html")
    server.answers["/list"] = body(b"#EXTM3U\nhttp://10.0.0.1/1.ts\n", "application/vnd.apple.mpegurl")
    server.answers["/empty"] = body(b"")
    for path in ("/page", "/list"):
        assert refusal(server.url(path)) == (
            f"{server.url(path)} is not an image of a known format (JPEG, PNG, WebP, BMP, TIFF, GIF); convert it or "
            "leave it out"
        )
    assert "is empty (0 bytes)" in refusal(server.url("/empty"))


def test_what_breaks_off(server):
    data = encoded(four_corners(), "PNG")
    server.answers["/a"] = body(data, length=len(data) + 1000)
    assert refusal(server.url("/a")) == (
        f"{server.url('/a')} broke off after {len(data):,} of {len(data) + 1000:,} bytes; try again later"
    )


def test_more_bytes_than_are_read(server, tmp_path, monkeypatch):
    server.answers["/a"] = body(encoded(four_corners(), "BMP"))
    server.answers["/clip"] = body(write_video(tmp_path / "clip.mp4").read_bytes())
    monkeypatch.setattr(byte_source, "MAX_IMAGE_BYTES", 1_000)  # the picture has 16 * 24 * 3 = 1,152 and a header
    monkeypatch.setattr(byte_source, "MAX_VIDEO_BYTES", 900)
    for path, most in (("/a", "1,000"), ("/clip", "900")):
        assert refusal(server.url(path)) == (
            f"{server.url(path)} has more than {most} bytes, that much is read of an image or video from elsewhere; "
            "save it to a file first"
        )


def test_what_takes_too_long(server, monkeypatch):
    def drip(request):
        request.send_response(200)
        request.end_headers()
        for byte in encoded(four_corners(), "BMP"):
            request.wfile.write(bytes([byte]))
            time.sleep(0.02)

    server.answers["/a"] = drip
    monkeypatch.setattr(url_source, "MOST_SECONDS", 0.3)
    assert refusal(server.url("/a")) == f"{server.url('/a')} took longer than 0.3 s, it is given up; try again later"


def test_a_private_address_is_refused_unless_allowed(server):
    server.answers["/a"] = body(encoded(four_corners(), "PNG"))
    assert "is at 127.0.0.1, which is no public address" in refusal(server.url("/a"), allow_private=False)
    assert server.asked == []
    assert "is at 127.0.0.1, which is no public" in refusal("rtsp://127.0.0.1/live", allow_private=False)


def test_offline(server, monkeypatch):
    url = server.url("/a")
    assert refusal(url, offline=True) == (
        f"{url} is on the network, and --offline forbids to use it; name a file instead"
    )
    monkeypatch.setenv("VISIONKIT_OFFLINE", "1")
    assert refusal("rtsp://example.org/live") == (
        "rtsp://example.org/live is on the network, and VISIONKIT_OFFLINE in the environment forbids to use it; "
        "name a file instead"
    )
    assert server.asked == []


def test_a_password_is_in_no_message(server):
    url = server.url("/missing").replace("//", "//us:secret@")
    message = refusal(url)
    assert message.startswith(f"{server.url('/missing')} was refused by its server (404")
    assert "secret" not in message


# Motion JPEG ----------------------------------------------------------------------------------------------------------


def pushed(parts, *, boundary=b"--here", lengths=True, go_on=None):
    """A server push of such bodies; before each but the first it waits for a permission, where they are given."""

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=here")
        request.end_headers()
        request.wfile.write(boundary + b"\r\n")
        for number, part in enumerate(parts):
            if go_on is not None and number:
                assert go_on.acquire(timeout=10)
            length = b"Content-Length: %d\r\n" % len(part) if lengths else b""
            request.wfile.write(
                b"Content-Type: image/jpeg\r\n" + length + b"\r\n" + part + b"\r\n" + boundary + b"\r\n"
            )
            request.wfile.flush()

    return answer


def jpeg(number):
    return encoded(frame(number), "JPEG", quality=95)


@pytest.mark.parametrize("lengths", [True, False])
def test_a_stream_of_jpegs(server, lengths):
    go_on = threading.Semaphore(0)
    server.answers["/cam"] = pushed([jpeg(i) for i in range(4)], lengths=lengths, go_on=go_on)
    pictures, broken = read(server.url("/cam"))
    seen = []

    def look():
        for moment, pixels in pictures:
            seen.append((moment, pixels))
            go_on.release()

    with pytest.raises(DataError, match=r"/cam ceased, a live source has no end; check its power and connection"):
        look()
    assert numbers(pixels for _, pixels in seen) == [0, 1, 2, 3]
    assert [moment.frame for moment, _ in seen] == [0, 1, 2, 3]
    assert all(moment.video.live for moment, _ in seen)
    assert broken == []


def test_a_broken_picture_of_a_stream_is_named_and_the_stream_goes_on(server):
    server.answers["/cam"] = pushed([b"not a picture", jpeg(1)])
    pictures, broken = read(server.url("/cam"))
    assert numbers([next(pictures)[1]]) == [1]
    with pytest.raises(DataError, match="ceased"):
        next(pictures)
    (error,) = broken
    assert str(error).startswith(f"{server.url('/cam')}#frame=0&t=0.000 is not an image of a known format")


def test_a_stream_where_none_is_wanted(server):
    server.answers["/cam"] = pushed([jpeg(0)])
    pictures, _ = read(server.url("/cam"), live=False)
    with pytest.raises(UsageError) as error:
        next(pictures)
    assert str(error.value) == (
        f"{server.url('/cam')} is a stream, which has no end, and a list of all its results would have none; use stream"
    )


def test_a_stream_with_a_picture_that_is_too_large(server, monkeypatch):
    monkeypatch.setattr(url_source, "MAX_IMAGE_BYTES", 100)
    for lengths in (True, False):
        server.answers["/cam"] = pushed([jpeg(0)], lengths=lengths)
        assert refusal(server.url("/cam")) == (
            f"{server.url('/cam')} sends a picture of more than 100 bytes; let it send smaller ones"
        )


def test_a_camera_of_the_network():
    """The newest of what comes is seen, and the last in any case."""
    with rtsp_server([jpeg(i % 12) for i in range(60)]) as (url, asked):
        pictures, broken = read(url)
        seen = []
        with pytest.raises(DataError, match=r"^rtsp://127\.0\.0\.1:\d+/live ceased after 60 frames, a live source"):
            seen.extend(pictures)  # what came before it raises stays
    moments = [moment for moment, _ in seen]
    assert [moment.frame % 12 for moment in moments] == numbers(pixels for _, pixels in seen)
    assert [moment.frame for moment in moments] == sorted({moment.frame for moment in moments})
    assert moments[-1].frame == 59
    assert all(moment.video.live for moment in moments)
    assert (moments[-1].video.name, moments[-1].video.fps) == (url, 25)
    assert broken == []
    assert {"DESCRIBE", "SETUP", "PLAY"} <= set(asked)


# Standard input -------------------------------------------------------------------------------------------------------


def piped(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))


def test_standard_input(monkeypatch, tmp_path):
    piped(monkeypatch, encoded(four_corners(), "PNG"))
    ((moment, pixels),) = read_standard_input(name="-")
    assert (moment, pixels.shape, pixels.dtype) == (None, (16, 24, 3), np.uint8)
    piped(monkeypatch, write_video(tmp_path / "clip.mp4").read_bytes())
    assert numbers(pixels for _, pixels in read_standard_input(name="-", every=5)) == [0, 5]
    piped(monkeypatch, b"")
    with pytest.raises(DataError, match=r"- is empty \(0 bytes\), an image is needed"):
        list(read_standard_input(name="-"))


def test_no_room_for_a_video(monkeypatch, tmp_path):
    piped(monkeypatch, write_video(tmp_path / "clip.mp4").read_bytes())
    opened = Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *ended):
            self.file.close()

        def write(self, data):
            raise OSError(28, "No space left on device")

    def open_full(self, *args, **options):
        file = opened(self, *args, **options)
        return Full(file) if self.name == "video" else file

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(DataError, match=r"- is a video and cannot be kept while it is read \(No space .*TMPDIR"):
        list(read_standard_input(name="-"))
