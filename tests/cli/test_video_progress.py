"""How far a video is, on stderr."""

import sys

import pytest

from visionkit.cli import video_progress as module
from visionkit.cli.video_progress import video_progress
from visionkit.predict.video_source import Moment, Video


class Stream:
    """A terminal or none, that keeps what is written."""

    def __init__(self, terminal):
        self.terminal, self.text = terminal, ""

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass


@pytest.fixture
def streams(monkeypatch):
    """Sets which streams are terminals; gives stdout and stderr."""

    def use(*, stdout, stderr):
        pair = Stream(stdout), Stream(stderr)
        monkeypatch.setattr(sys, "stdout", pair[0])
        monkeypatch.setattr(sys, "stderr", pair[1])
        return pair

    return use


def show(video, frames, *, every=1):
    with video_progress() as told:
        for number in range(0, frames, every):
            told(Moment(video, number, number / 25))


def test_lines_where_stderr_is_no_terminal(streams, monkeypatch):
    """A second passes at each look at the clock; there is a line every ten."""
    stdout, stderr = streams(stdout=False, stderr=False)
    seconds = iter(range(1000))
    monkeypatch.setattr(module, "monotonic", lambda: float(next(seconds)))
    show(Video("clip.mp4", 25, frames=15), 15)
    assert stderr.text == "clip.mp4: 10 of 15 frames\n"
    stderr.text = ""
    show(Video("webcam:0", 25, live=True), 36, every=3)
    assert stderr.text == "webcam:0: 10 frames\n"
    assert stdout.text == ""


def test_short_videos_say_nothing(streams):
    _, stderr = streams(stdout=False, stderr=False)
    show(Video("clip.mp4", 25, frames=15), 15)
    assert stderr.text == ""


def test_results_on_the_same_terminal_are_the_progress(streams):
    _, stderr = streams(stdout=True, stderr=True)
    show(Video("clip.mp4", 25, frames=15), 15)
    assert stderr.text == ""


def test_a_bar_where_results_go_elsewhere(streams, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stdout, stderr = streams(stdout=False, stderr=True)
    with video_progress() as told:
        video = Video("[a] clip.mp4", 25, frames=4)
        for number in range(4):
            told(Moment(video, number, 0.0))
        print("a result")
    assert stdout.text == "a result\n"
    assert "[a] clip.mp4" in stderr.text
    assert "4/4" in stderr.text
