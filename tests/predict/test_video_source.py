"""Videos, cameras and streams, frame by frame."""

import os
import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from videos import FPS, frame, index_first, numbers, with_broken_picture, write_video

from visionkit.errors import DataError
from visionkit.predict import video_source
from visionkit.predict.video_source import Moment, Video, read_camera, read_stream, read_video


def until_error(pictures):
    """The pictures, and what is wrong behind them."""
    seen = []
    try:
        seen.extend(pictures)
    except DataError as error:
        return seen, str(error)
    return seen, ""


def test_frames_come_in_order_each_with_its_number_and_time(tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    seen = list(read_video(path))
    assert numbers(pixels for _, pixels in seen) == list(range(10))
    assert [moment.frame for moment, _ in seen] == list(range(10))
    assert [moment.seconds for moment, _ in seen] == pytest.approx([i / 25 for i in range(10)], abs=1e-3)
    (moment, pixels), *_ = seen
    assert (moment.video.name, moment.video.fps, moment.video.frames) == (str(path), FPS, 10)
    assert not moment.video.live
    assert seen[3][0].path == f"{path}#frame=3&t=0.120"
    # RGB: the stripe is green, the rest red; compression changes it by little.
    assert (pixels.shape, pixels.dtype) == ((48, 64, 3), np.uint8)
    assert np.abs(pixels.astype(int) - frame(0)).mean() < 4


@pytest.mark.parametrize(
    ("name", "fourcc"), [("a.avi", "MJPG"), ("a.mkv", "mp4v"), ("a.mov", "mp4v"), ("a.avi", "XVID")]
)
def test_containers(tmp_path, name, fourcc):
    seen, error = until_error(read_video(write_video(tmp_path / name, fourcc=fourcc)))
    assert (numbers(pixels for _, pixels in seen), error) == (list(range(10)), "")


def test_every_nth_frame(tmp_path):
    # Of the frames 0 to 9 each third is 0, 3, 6, 9: four, 25 / 3 a second.
    seen = list(read_video(write_video(tmp_path / "clip.mp4"), every=3))
    assert [moment.frame for moment, _ in seen] == [0, 3, 6, 9]
    assert numbers(pixels for _, pixels in seen) == [0, 3, 6, 9]
    assert [moment.seconds for moment, _ in seen] == pytest.approx([0, 0.12, 0.24, 0.36], abs=1e-3)
    assert (seen[0][0].video.frames, seen[0][0].video.fps) == (4, pytest.approx(25 / 3))


def test_frames_are_decoded_when_they_are_asked_for(tmp_path):
    with closing(read_video(write_video(tmp_path / "clip.mp4"))) as pictures:
        next(pictures)
        os.rename(tmp_path / "clip.mp4", tmp_path / "gone.mp4")  # open it stays
        assert len(list(pictures)) == 9
    assert list(pictures) == []


def test_a_video_whose_index_was_cut_off_has_no_frame(tmp_path):
    path = write_video(tmp_path / "clip.mp4", 50)
    path.write_bytes(path.read_bytes()[:-2000])
    seen, error = until_error(read_video(path))
    assert seen == []
    assert error == f"{path} cannot be opened as a video (MP4, it is cut off); copy or export it again"


def test_a_video_that_is_cut_off_gives_what_it_has_and_says_so(tmp_path):
    """With its index first, the frames before the cut can be had."""
    path = write_video(tmp_path / "clip.mp4", 50)
    data = index_first(path.read_bytes())
    path.write_bytes(data)
    whole, error = until_error(read_video(path))
    assert (len(whole), error) == (50, "")
    path.write_bytes(data[: len(data) * 3 // 4])
    seen, error = until_error(read_video(path))
    assert 5 < len(seen) < 50
    assert numbers(pixels for _, pixels in seen[:5]) == [0, 1, 2, 3, 4]
    assert error == f"{path} is cut off, {len(seen)} of 50 frames came; copy or export it again"


def test_frames_that_cannot_be_decoded_are_counted_and_the_others_come(tmp_path):
    path = write_video(tmp_path / "clip.avi", fourcc="MJPG")
    path.write_bytes(with_broken_picture(with_broken_picture(path.read_bytes(), 5), 6))
    seen, error = until_error(read_video(path))
    assert numbers(pixels for _, pixels in seen) == [0, 1, 2, 3, 4, 7, 8, 9]
    # Numbers and times stay those of the whole video.
    assert [moment.frame for moment, _ in seen] == [0, 1, 2, 3, 4, 7, 8, 9]
    assert seen[5][0].seconds == pytest.approx(7 / 25, abs=1e-3)
    assert error == (f"{path} has 2 frames that cannot be decoded, from frame 5 on; export it again")


def test_every_nth_frame_of_a_broken_video(tmp_path):
    """Frame 4 is missed although only 0, 3, 6, 9 are wanted; of those 3 is missed itself."""
    path = write_video(tmp_path / "clip.avi", fourcc="MJPG")
    path.write_bytes(with_broken_picture(with_broken_picture(path.read_bytes(), 3), 4))
    seen, error = until_error(read_video(path, every=3))
    assert numbers(pixels for _, pixels in seen) == [0, 6, 9]
    assert [moment.frame for moment, _ in seen] == [0, 6, 9]
    assert error == f"{path} has 2 frames that cannot be decoded, from frame 3 on; export it again"


def test_the_last_frame_of_an_avi_is_missed(tmp_path):
    path = write_video(tmp_path / "clip.avi", fourcc="MJPG")
    path.write_bytes(with_broken_picture(path.read_bytes(), 9))
    seen, error = until_error(read_video(path))
    assert len(seen) == 9
    assert error == f"{path} ends early, 9 of 10 frames can be decoded; copy or export it again"


def test_a_matroska_file_that_is_cut_off(tmp_path):
    path = write_video(tmp_path / "clip.mkv", 50)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    seen, error = until_error(read_video(path))
    assert 5 < len(seen) < 50
    assert error == f"{path} is cut off, {len(seen)} of 50 frames came; copy or export it again"


def test_frames_beyond_what_the_file_counts(tmp_path, monkeypatch):
    """Where a container goes by duration it may count too few or a few too many: all come, and nothing is wrong."""
    path = write_video(tmp_path / "clip.mkv", 10)
    real = video_source._frame_count
    for more in (-4, 5):
        monkeypatch.setattr(video_source, "_frame_count", lambda capture, more=more: real(capture) + more)
        seen, error = until_error(read_video(path))
        assert (len(seen), error) == (10, "")
    monkeypatch.setattr(video_source, "_frame_count", lambda capture: 40)
    assert until_error(read_video(path))[1] == (
        f"{path} ends early, 10 of 40 frames can be decoded; copy or export it again"
    )
    monkeypatch.setattr(video_source, "_frame_count", lambda capture: None)
    assert len(list(read_video(path))) == 10


def test_a_video_without_a_good_frame(tmp_path):
    path = write_video(tmp_path / "clip.avi", 1, fourcc="MJPG")
    path.write_bytes(with_broken_picture(path.read_bytes(), 0))
    seen, error = until_error(read_video(path))
    assert seen == []
    assert error.startswith(f"{path} ")


@pytest.mark.parametrize("content", [b"not a video", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n/etc/passwd\n", b""])
def test_what_is_no_video_never_reaches_the_decoder(tmp_path, content, monkeypatch):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    monkeypatch.setattr(cv2, "VideoCapture", None)
    with pytest.raises(DataError, match=r"clip\.mp4 is not a video of a known kind \(MP4, AVI, .*\); convert"):
        next(read_video(path))


def test_what_is_no_file(tmp_path):
    with pytest.raises(DataError, match=r"clip\.mp4 cannot be read \(No such file or directory\); check the path"):
        next(read_video(tmp_path / "clip.mp4"))
    with pytest.raises(DataError, match="is a folder, pipe or device, a video must be a regular file; save it to one"):
        next(read_video(tmp_path))
    with pytest.raises(DataError, match=r"cannot be read \(not a file name\); check the path"):
        next(read_video(tmp_path / "a\0.mp4"))


def test_a_name_that_begins_like_an_order_to_the_decoder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(Path("clip.mp4")).rename("concat:a|b.mp4")
    assert len(list(read_video(Path("concat:a|b.mp4")))) == 10


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_name_that_the_decoder_cannot_be_told(tmp_path):
    path = write_video(tmp_path / "clip.mp4").rename(tmp_path / "caf\udce9.mp4")
    with pytest.raises(DataError, match=r"mp4 is not UTF-8, a video's must be; rename the file or its folder"):
        next(read_video(path))


def test_too_many_pixels(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.mp4")
    monkeypatch.setattr(video_source, "MAX_PIXELS", 3_000)  # 64 x 48 = 3,072
    with pytest.raises(DataError, match=r"clip\.mp4 is 64x48 pixels, at most 0 million are read; scale it down"):
        next(read_video(path))


def test_a_moment_is_named_as_a_media_fragment():
    moment = Moment(Video("https://example.org/a.mp4?x=1", 30.0), 90, 3.0)
    assert moment.path == "https://example.org/a.mp4?x=1#frame=90&t=3.000"


# Cameras and streams --------------------------------------------------------------------------------------------------


class Camera:
    """In place of `cv2.VideoCapture`: shows so many frames and then no more."""

    def __init__(self, frames=5, fps=0.0):
        self.left, self.fps = frames, fps
        self.asked, self.released, self.number = None, False, -1

    def open(self, *arguments):
        self.asked = arguments

    def isOpened(self):  # noqa: N802
        return self.left > 0

    def get(self, what):
        return {cv2.CAP_PROP_FPS: self.fps, cv2.CAP_PROP_FRAME_WIDTH: 64, cv2.CAP_PROP_FRAME_HEIGHT: 48}[what]

    def grab(self):
        self.number += 1
        return self.number < self.left

    def retrieve(self):
        return True, frame(self.number)[..., ::-1].copy()

    def release(self):
        self.released = True


@pytest.fixture
def camera(monkeypatch):
    camera = Camera()
    monkeypatch.setattr(cv2, "VideoCapture", lambda: camera)
    return camera


def test_a_camera_shows_frames_until_it_ceases(camera):
    seen, error = until_error(read_camera(2, name="webcam:2", every=2))
    assert camera.asked[0] == 2
    assert [moment.frame for moment, _ in seen] == [0, 2, 4]
    assert numbers(pixels for _, pixels in seen) == [0, 2, 4]
    video = seen[0][0].video
    assert (video.name, video.live, video.frames, video.fps) == ("webcam:2", True, None, 12.5)  # 25 where it is silent
    assert seen[0][0].seconds <= seen[1][0].seconds
    assert error == "webcam:2 ceased after 5 frames, a live source has no end; check its power and connection"
    assert camera.released


def test_a_camera_is_given_back_when_no_more_is_wanted(camera):
    with closing(read_camera(0, name="webcam:0")) as pictures:
        next(pictures)
        assert not camera.released
    assert camera.released


def test_no_camera(camera):
    camera.left = 0
    with pytest.raises(DataError, match="webcam:0 cannot be opened, a camera must be here and free; connect it"):
        next(read_camera(0, name="webcam:0"))
    assert camera.released


def test_a_stream_has_time_limits(camera):
    camera.fps = 30.0
    seen, error = until_error(read_stream("rtsp://u:p@203.0.113.9:554/live", name="rtsp://example.org/live"))
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 10_000]
    assert camera.asked == ("rtsp://u:p@203.0.113.9:554/live", cv2.CAP_FFMPEG, limits)
    assert len(seen) == 5
    assert error.startswith("rtsp://example.org/live ceased after 5 frames")
    assert not until_error(read_stream("rtsp://example.org/caf\udce9", name="odd"))[0]
    assert "caf" not in camera.asked[0]  # such a name ends the process
    camera.left = 0
    with pytest.raises(DataError, match=r"rtsp://example.org/live cannot be opened as a stream \(no answer"):
        next(read_stream("rtsp://u:p@203.0.113.9:554/live", name="rtsp://example.org/live"))
