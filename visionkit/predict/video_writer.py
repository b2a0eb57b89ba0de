"""Annotated videos: each frame is written when it comes, and never read again.

MP4 with MPEG-4 video, which OpenCV encodes everywhere. An MP4 has its index at its end. Closed, also where the process
is told to stop, it plays as far as it came; where the process is killed, it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.errors import VisionkitError
from visionkit.predict.drawing import draw, draw_map, one_line
from visionkit.predict.video_source import Moment, Video
from visionkit.predict.why_drawing import draw_why
from visionkit.predict.writers import write_new
from visionkit.result import Result

SUFFIX = ".mp4"

# A live source that is silent for longer does not hold its last picture any longer.
_LONGEST_STILL = 10.0


def draw_frame(image: NDArray[np.uint8], result: Result) -> NDArray[np.uint8]:
    """A copy of a frame with its result drawn on, of one size for all frames of a video: the legend below a semantic
    map has all classes.

    Args:
        image: u8 [H, W, 3] RGB.

    Returns:
        u8 [H', W, 3] RGB, H' above H where there is a legend or a why.
    """
    if result.semantic is not None:
        names = result.classes.names
        return draw_map(image, result.semantic, names, range(len(names)), [(one_line(name),) for name in names])
    return (draw if result.why is None else draw_why)(image, result)


class VideoFile:
    """A new MP4, open until it is closed.

    Args:
        path: of the file, in a folder that is made where it is missing.
        fps: frames a second.
        size: width and height of the frames; of odd ones the last column or row is left out, because four pixels share
            a colour.

    Raises:
        UsageError: the file exists.
        VisionkitError: it cannot be written.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self.path = path
        # MPEG-4 counts time in at most 65,535 parts of a second, ISO/IEC 14496-2, section 6.3.3.
        self.fps = round(fps, 3 if fps < 65 else 2)
        self.size = size
        self.frames = 0
        write_new(path, b"")
        self._writer = cv2.VideoWriter()
        try:
            name, fourcc = str(path.absolute()), cv2.VideoWriter.fourcc(*"mp4v")
            name.encode()  # what is not UTF-8 makes OpenCV 5 crash
            self._writer.open(name, cv2.CAP_FFMPEG, fourcc, self.fps, size)
        except (cv2.error, UnicodeError):
            self._writer.release()
        except BaseException:  # told to stop before there is a frame
            self._writer.release()
            path.unlink(missing_ok=True)
            raise
        if not self._writer.isOpened():
            path.unlink()
            raise VisionkitError(
                f"{path} cannot be written as a video of {size[0]}x{size[1]} pixels and {self.fps:g} frames a second; "
                "leave pictures out by --no-save"
            )

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append a frame u8 [height, width, 3], RGB."""
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def close(self) -> None:
        """Write the end of the file; nothing can be added behind it."""
        self._writer.release()

    def check(self) -> None:
        """Count the frames of the closed file, because OpenCV says nothing of a full disk.

        Raises:
            VisionkitError: some are missing.
        """
        capture = cv2.VideoCapture(str(self.path.absolute()), cv2.CAP_FFMPEG)
        kept = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if kept != self.frames:
            raise VisionkitError(
                f"{self.path} has {kept} of {self.frames} frames, the others cannot be written; free space or choose "
                "another folder"
            )


class AnnotatedVideos:
    """The videos of a folder of results, for a `with` block: one file a video, a further one where the size changes.

    Of a live source each picture lasts as long as it did there, so that the file plays as fast as the time went.

    Args:
        take: a free path for a file named after a source, as `OutputNames.take`.
    """

    def __init__(self, take: Callable[[str], Path]) -> None:
        self._take = take
        self._video: Video | None = None
        self._path = Path()
        self._file: VideoFile | None = None
        self._began = 0.0
        self._last: NDArray[np.uint8] | None = None

    def __enter__(self) -> AnnotatedVideos:
        return self

    def path(self, moment: Moment) -> Path:
        """Of the file that a frame belongs to. That of the video before it is closed. Raises as `VideoFile.check`."""
        if moment.video is not self._video:
            self._close()
            self._video = moment.video
            self._path = self._take(moment.video.name).with_suffix(SUFFIX)
        return self._path

    def add(self, moment: Moment, image: NDArray[np.uint8], result: Result) -> None:
        """Append a frame u8 [H, W, 3], RGB, with its result drawn on. Raises as `VideoFile`."""
        picture = draw_frame(image, result)
        path, size = self.path(moment), (picture.shape[1], picture.shape[0])
        if self._file is not None and self._file.size != size:
            self._close()
            self._path = path = self._take(path.name).with_suffix(SUFFIX)
        if self._file is None:
            self._file = VideoFile(path, moment.video.fps, size)
            self._began = moment.seconds
        if not moment.video.live or self._fill_until(moment.seconds, self._file):
            self._file.add(picture)
            self._last = picture

    def _fill_until(self, seconds: float, file: VideoFile) -> bool:
        """Hold the last picture until a time; False where it stands longer already."""
        behind = round((seconds - self._began) * file.fps) - file.frames
        most = round(_LONGEST_STILL * file.fps)
        if behind > most:
            self._began += (behind - most) / file.fps
        for _ in range(min(behind, most)):
            assert self._last is not None
            file.add(self._last)
        return behind >= 0

    def _close(self, *, check: bool = True) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
            if check:
                file.check()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(check=kind is None)
