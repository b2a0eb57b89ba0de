"""`visionkit detect` on videos, streams, addresses and standard input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import CommandLine
from pictures import encoded, noise
from PIL import Image
from videos import frame, index_first, write_video
from web_server import body, web_server

from visionkit.build import build_model, save_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.predict.video_source import read_video

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained nowhere and sees something everywhere."""
    recipe, classes = Recipe(imgsz=64), ClassTable((3, 8), ("red block", "blue block"))
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_model(path, build_model(recipe, classes), classes, recipe, {})
    return path


def flags(weights: Path) -> list[str]:
    return ["--weights", str(weights), "--conf", "0", "--max-det", "4", "--threads", "1", "--device", "cpu"]


def frames_in(path: Path) -> int:
    return sum(1 for _ in read_video(path))


def test_a_video_gives_a_line_a_frame_and_an_annotated_video(
    weights: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    write_video(tmp_path / "clip.mp4", 6)
    arguments = ["detect", "clip.mp4", *flags(weights), "--every", "2", "--format", "yolo", "--out", "out"]
    finished = command_line(*arguments, folder=tmp_path)
    assert finished.code == 0, finished.stderr
    lines = [line.split("  ")[0] for line in finished.stdout.splitlines() if not line.startswith("  ")]
    assert lines == [f"clip.mp4#frame={i}&t={i / 25:.3f}" for i in (0, 2, 4)]
    assert finished.stderr == "Videos and YOLO text files: out\n"
    (moment, pixels), *others = read_video(tmp_path / "out" / "clip.mp4")
    assert (len(others), moment.video.fps, pixels.shape) == (2, 12.5, (48, 64, 3))
    names = {f"clip-00000{i}.txt" for i in (0, 2, 4)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*names, "clip.mp4", "classes.txt", "sources.csv"}


def test_pictures_and_videos_together(weights: Path, command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    write_video(tmp_path / "p" / "b.mp4", 2)
    Image.fromarray(noise()).save(tmp_path / "p" / "a.png")
    finished = command_line("detect", "p", *flags(weights), "--out", "out", folder=tmp_path)
    assert (finished.code, finished.stderr) == (0, "Pictures, Videos and results.json: out\n")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "b.mp4", "results.json"}


def test_a_video_that_is_cut_off_is_named_and_exit_code_3(
    weights: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    data = index_first(write_video(tmp_path / "clip.mp4", 30).read_bytes())
    (tmp_path / "clip.mp4").write_bytes(data[: len(data) * 3 // 4])
    finished = command_line("detect", "clip.mp4", *flags(weights), "--json", "--no-save", folder=tmp_path)
    came = len(finished.stdout.splitlines())
    assert finished.code == 3
    assert 0 < came < 30
    assert finished.stderr.splitlines() == [
        f"skipped: clip.mp4 is cut off, {came} of 30 frames came; copy or export it again",
        f"{came} images done, 1 skipped",
    ]


def test_addresses(weights: Path, command_line: CommandLine, tmp_path: Path) -> None:
    with web_server() as server:
        server.answers["/a b.png"] = server.answers["/a%20b.png"] = body(encoded(noise(), "PNG"))
        url, missing = server.url("/a%20b.png?key=1"), server.url("/missing.jpg")
        arguments = ["detect", url, missing, *flags(weights), "--out", "out", "--json"]
        finished = command_line(*arguments, "--allow-private-urls", folder=tmp_path)
        assert finished.code == 3, finished.stderr
        assert json.loads(finished.stdout)["image"]["path"] == url
        assert finished.stderr.splitlines()[0] == (
            f"skipped: {missing} was refused by its server (404 Not Found); check the address"
        )
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"a_b.png", "results.json"}
        refused = command_line("detect", url, *flags(weights), "--no-save", folder=tmp_path)
        assert refused.code == 2
        assert "which is no public address, and those are refused" in refused.stderr
        offline = command_line("detect", url, *flags(weights), "--no-save", "--offline", folder=tmp_path)
        assert offline.code == 2
        assert "--offline forbids to use it" in offline.stderr
        assert len(server.asked) == 2


def test_standard_input(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "visionkit", "detect", "-", "--json", "--no-save", "--conf", "0.01"]
    done = subprocess.run(command, input=encoded(noise(), "PNG"), capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["image"] == {"path": "-", "width": 48, "height": 40}
    assert list(tmp_path.iterdir()) == []


def endless(request: object) -> None:
    """A web camera: a picture each 20 ms, until someone hangs up."""
    request.send_response(200)  # type: ignore[attr-defined]
    request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=--x")  # type: ignore[attr-defined]
    request.end_headers()  # type: ignore[attr-defined]
    number = 0
    while True:
        part = encoded(frame(number), "JPEG")
        head = b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(part)
        request.wfile.write(head + part + b"\r\n")  # type: ignore[attr-defined]
        number += 1
        time.sleep(0.02)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_camera_runs_until_it_is_told_to_stop_and_all_is_kept(
    name: str, code: int, weights: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    with web_server() as server:
        server.answers["/cam"] = endless
        arguments = ["detect", server.url("/cam"), *flags(weights), "--allow-private-urls", "--out", "out"]
        pid = command_line.start(*arguments, "--format", "json", folder=tmp_path)
        lines = tmp_path / "out" / "detections.jsonl"
        deadline = time.monotonic() + 60
        while not (lines.exists() and lines.read_text().count("\n") >= 5):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(pid, getattr(signal, name))
        finished = command_line.wait()
    assert finished.code == code
    assert finished.stderr == "Videos and detections.jsonl: out\n"
    results = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(results) >= 5
    assert all(result["image"]["path"].startswith(server.url("/cam#frame=")) for result in results)
    # It plays, and as long as it went: 25 frames a second, of which some are held.
    assert frames_in(tmp_path / "out" / "cam.mp4") >= 3


def test_a_stopped_video_plays_as_far_as_it_came(weights: Path, command_line: CommandLine, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 3_000)
    pid = command_line.start("detect", "clip.mp4", *flags(weights), "--format", "json", "--out", "out", folder=tmp_path)
    lines = tmp_path / "out" / "detections.jsonl"
    deadline = time.monotonic() + 60
    while not (lines.exists() and lines.read_text().count("\n") >= 20):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(pid, signal.SIGINT)
    assert command_line.wait().code == 130
    done = len(lines.read_text().splitlines())
    assert 20 <= done < 3_000
    # The stop may have come between the two files.
    assert abs(frames_in(tmp_path / "out" / "clip.mp4") - done) <= 1


def test_what_is_refused(weights: Path, command_line: CommandLine, tmp_path: Path) -> None:
    cases = {
        ("ftp://example.org/a.jpg",): "is an address that is not read, known are http, https, rtsp, rtsps",
        (
            "clip.mp4",
        ): "clip.mp4 does not exist, a source is a file, a folder, a glob, a list, a URL or webcam:0; check",
    }
    for arguments, words in cases.items():
        finished = command_line("detect", *arguments, *flags(weights), folder=tmp_path)
        assert (finished.code, words in finished.error) == (2, True)
    finished = command_line("detect", "a.jpg", "--every", 0, folder=tmp_path)
    assert finished.code == 2
    finished = command_line("detect", "webcam:99", *flags(weights), folder=tmp_path)
    assert finished.code == 2
    assert "skipped: webcam:99 cannot be opened, a camera must be here and free; connect it" in finished.stderr
    assert finished.stderr.splitlines()[-1] == "0 images done, 1 skipped"
    assert list(tmp_path.iterdir()) == []
