"""Moving pictures, one frame at a time: video files, cameras, streams. OpenCV's FFmpeg decodes them."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.counted import counted
from visionkit.errors import DataError
from visionkit.imaging.header import MAX_PIXELS
from visionkit.predict.video_container import KINDS, START_BYTES, container_of, is_cut_off

UNKNOWN_FPS = 25.0
"""Frames a second of a source that does not say."""

SILENCE = 10.0
"""Seconds without a frame after which a stream counts as gone."""

_MOST_FPS = 1000.0
# After so many broken frames in a row no good one is looked for any more.
_MOST_BROKEN = 250
# So many frames a sound video may count and not have.
_FEW = 25


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """What frames are of; two videos of one name are still two.

    Args:
        name: as the user named it, without a password.
        fps: frames a second that are given out.
        frames: how many will be given out, as far as the file knows; None where it does not know or has no end.
        live: whether frames come as time passes; else they come as fast as they are asked for.
    """

    name: str
    fps: float
    frames: int | None = None
    live: bool = False


class Moment(NamedTuple):
    """A frame's place.

    Args:
        frame: its number in the video from 0, whether or not those before it were given or could be decoded.
        seconds: its time in the video, from the video's own clock; in a live one since the first frame.
    """

    video: Video
    frame: int
    seconds: float

    @property
    def path(self) -> str:
        """As results name the frame; players that know media fragments (W3C, Media Fragments URI 1.0, section 4.2.1)
        go to the time.

        >>> Moment(Video("clip.mp4", 25.0), 12, 0.48).path
        'clip.mp4#frame=12&t=0.480'
        """
        return f"{self.video.name}#frame={self.frame}&t={self.seconds:.3f}"


Pictures = Generator[tuple[Moment | None, NDArray[np.uint8]], None, None]
"""Pictures u8 [H, W, 3], RGB, upright, one at a time, each with its place where it is a frame. To be closed when no
more are wanted."""


def read_video(path: Path, *, name: str = "", every: int = 1) -> Pictures:
    """The frames of a video file, turned as it says.

    What is damaged within a frame is noticed where the decoder gives up on it; else it shows what it can, as players
    do.

    Args:
        name: what results and errors call it; its path where empty.
        every: of the frames every n-th, from the first on; the others are passed over.

    Raises:
        DataError: not a regular file, not a video of `KINDS`, of a path that is not UTF-8, none that can be decoded,
            frames of more than MAX_PIXELS pixels. And after the last frame that can be had: the file is cut off, or
            frames in it cannot be decoded.
    """
    name = name or str(path)
    container, cut = _checked_file(path, name)
    _check_name(path, name)
    # An absolute path, because FFmpeg takes `concat:a|b` for an order.
    with _capture(os.path.abspath(path), cv2.CAP_FFMPEG) as capture:
        if not capture.isOpened():
            what = "it is cut off" if cut else "its index is missing or its codec unknown"
            raise DataError(f"{name} cannot be opened as a video ({container}, {what}); copy or export it again")
        _check_size(capture, name)
        fps, total = _frames_a_second(capture), _frame_count(capture)
        video = Video(name, fps / every, None if total is None else math.ceil(total / every))
        good, broken, first_broken = 0, 0, 0
        for number in _grabbed(capture, total):
            whole, frame = capture.retrieve() if number % every == 0 else (True, None)
            good += whole
            if broken == 0 and number + 1 > good:
                first_broken = good - whole
            broken = number + 1 - good
            if whole and frame is not None:
                yield Moment(video, number, _seconds(capture, number, fps)), _rgb(frame)
    if cut:
        of_all = "" if total is None else f" of {total}"
        raise DataError(f"{name} is cut off, {good}{of_all} frames came; copy or export it again")
    if good == 0:
        raise DataError(f"{name} has no frame that can be decoded; export it again")
    if broken:
        lost = counted(broken, "frame")
        raise DataError(f"{name} has {lost} that cannot be decoded, from frame {first_broken} on; export it again")
    # Only AVI counts exactly: others go by duration, or hide frames at their ends.
    if total is not None and total - good > (0 if container == "AVI" else max(_FEW, good // 50)):
        raise DataError(f"{name} ends early, {good} of {total} frames can be decoded; copy or export it again")


def _grabbed(capture: cv2.VideoCapture, total: int | None) -> Iterator[int]:
    """The numbers of the frames of a file that can be decoded, each while it is the one to be retrieved. A broken one
    and the end look alike, both give no frame; the total, if it is known, tells how many more there may be."""
    number, failed = 0, 0
    while failed == 0 or failed <= min(_MOST_BROKEN, (total or math.inf) - number - 1):
        if capture.grab():
            number += failed
            yield number
            number, failed = number + 1, 0
        else:
            failed += 1


def _checked_file(path: Path, name: str) -> tuple[str, bool]:
    """A video file's kind, and whether it is cut off."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{name} is a folder, pipe or device, a video must be a regular file; save it to one first")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            container = container_of(file.read(START_BYTES))
            if container is None:
                raise DataError(
                    f"{name} is not a video of a known kind ({', '.join(KINDS)}); convert it or leave it out"
                )
            return container, is_cut_off(file, size, container)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        raise DataError(f"{name} cannot be read ({reason}); check the path and its permissions") from error


def _check_name(path: Path, name: str) -> None:
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the path of {name} is not UTF-8, a video's must be; rename the file or its folder") from error


def _check_size(capture: cv2.VideoCapture, name: str) -> None:
    width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name} is {width}x{height} pixels, at most {MAX_PIXELS // 1_000_000} million are read; scale it down"
        )


def read_camera(number: int, *, name: str, every: int = 1) -> Pictures:
    """The frames of a camera at this machine, the first of which is 0, as they come. It has no end.

    Raises:
        DataError: there is none, another program has it, or it ceased.
    """
    with _capture(number) as capture:
        if not capture.isOpened():
            raise DataError(
                f"{name} cannot be opened, a camera must be here and free; connect it, end what uses it, or name "
                "another"
            )
        yield from _live_frames(capture, name, every)


def read_stream(url: str, *, name: str, every: int = 1) -> Pictures:
    """The frames of a stream that FFmpeg opens by its address, as they come.

    Raises:
        DataError: it cannot be reached within `SILENCE` seconds, or it ceased.
    """
    limit = round(SILENCE * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
    with _capture(url, cv2.CAP_FFMPEG, limits) as capture:
        if not capture.isOpened():
            raise DataError(
                f"{name} cannot be opened as a stream (no answer within {SILENCE:g} s, refused, or of an unknown "
                "kind); check the address and its password"
            )
        yield from _live_frames(capture, name, every)


def _live_frames(capture: cv2.VideoCapture, name: str, every: int) -> Pictures:
    _check_size(capture, name)
    video = Video(name, _frames_a_second(capture) / every, live=True)
    began = None
    for number in count():
        if not capture.grab():
            break
        began = monotonic() if began is None else began
        whole, frame = capture.retrieve() if number % every == 0 else (False, None)
        if whole and frame is not None:
            yield Moment(video, number, monotonic() - began), _rgb(frame)
    raise DataError(f"{name} ceased after {number} frames, a live source has no end; check its power and connection")


@contextmanager
def _capture(
    source: str | int, backend: int = cv2.CAP_ANY, parameters: Sequence[int] = ()
) -> Iterator[cv2.VideoCapture]:
    """What OpenCV opens, or not; given back at the end."""
    capture = cv2.VideoCapture()
    try:
        try:
            if isinstance(source, int):
                capture.open(source, backend)
            else:
                source.encode()  # what is not UTF-8 makes OpenCV 5 crash
                capture.open(source, backend, parameters)
        except (cv2.error, UnicodeError):
            capture.release()
        yield capture
    finally:
        capture.release()


def _frames_a_second(capture: cv2.VideoCapture) -> float:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= _MOST_FPS else UNKNOWN_FPS  # False of NaN too


def _frame_count(capture: cv2.VideoCapture) -> int | None:
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(frames) if 0 < frames < 1e9 else None


def _seconds(capture: cv2.VideoCapture, number: int, fps: float) -> float:
    """The time of the frame just grabbed; by its number where the container has none."""
    milliseconds = capture.get(cv2.CAP_PROP_POS_MSEC)
    return milliseconds / 1000 if 0 < milliseconds < 1e12 else number / fps


def _rgb(frame: cv2.typing.MatLike) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
