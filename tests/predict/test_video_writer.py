"""Annotated videos: what is drawn is what plays, as fast and as large as the source."""

import sys

import cv2
import numpy as np
import pytest
from videos import frame, numbers, write_video

from visionkit.classes import ClassTable
from visionkit.errors import UsageError, VisionkitError
from visionkit.predict.drawing import draw
from visionkit.predict.video_source import Moment, Video, read_video
from visionkit.predict.video_writer import AnnotatedVideos, VideoFile, draw_frame
from visionkit.predict.writers import OutputNames
from visionkit.result import Result

CLASSES = ClassTable((3, 8), ("cat", "dog"))


def result(width=64, height=48, **fields):
    """Nothing found, unless something is said."""
    boxes, scores, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    nothing = {"boxes": boxes, "scores": scores, "labels": labels}
    return Result("clip.mp4", width, height, CLASSES, **{**nothing, **fields})


def played(path):
    """Frames, frames a second and size of a video."""
    seen = list(read_video(path))
    return [pixels for _, pixels in seen], seen[0][0].video.fps, seen[0][1].shape[1::-1]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


def videos(folder):
    return AnnotatedVideos(OutputNames(folder).take)


def test_frames_play_as_they_were_drawn(folder, tmp_path):
    source = list(read_video(write_video(tmp_path / "clip.mp4", 12)))
    one, label = np.ones(1, np.float32), np.zeros(1, np.int64)
    box = {"boxes": np.array([[8, 8, 40, 40]], np.float32), "scores": one, "labels": label}
    with videos(folder) as write:
        for moment, pixels in source:
            write.add(moment, pixels, result(**box))
    seen, fps, size = played(folder / "clip.mp4")
    assert (len(seen), fps, size) == (12, 25, (64, 48))
    drawn = [draw(pixels, result(**box)).astype(int) for _, pixels in source]
    apart = np.array([[np.abs(one - shown).mean() for one in drawn] for shown in seen])
    assert apart.argmin(axis=1).tolist() == list(range(12))
    assert apart.diagonal().max() < 8
    # It is what was drawn, and not the plain frame.
    plain = [np.abs(pixels.astype(int) - shown).mean() for (_, pixels), shown in zip(source, seen, strict=True)]
    assert (apart.diagonal() < 0.7 * np.array(plain)).all()


@pytest.mark.parametrize("fps", [1.0, 23.976, 29.97, 30000 / 1001, 29.9698, 59.94, 119.8801, 25 / 3, 0.5])
def test_any_speed(folder, fps):
    file = VideoFile(folder / "a.mp4", fps, (64, 48))
    for number in range(4):
        file.add(frame(number))
    file.close()
    file.check()
    assert played(folder / "a.mp4")[1] == pytest.approx(fps, rel=1e-3)


def test_every_nth_frame_plays_as_long_as_all(folder, tmp_path):
    with videos(folder) as write:
        for moment, pixels in read_video(write_video(tmp_path / "clip.mp4", 12), every=3):
            write.add(moment, pixels, result())
    seen, fps, _ = played(folder / "clip.mp4")
    # 12 frames at 25 a second and 4 at 25 / 3 both take 0.48 s.
    assert (numbers(seen), len(seen) / fps) == ([0, 3, 6, 9], pytest.approx(0.48, rel=1e-3))


def test_of_an_odd_size_the_last_column_and_row_are_left_out(folder):
    file = VideoFile(folder / "a.mp4", 25, (63, 47))
    file.add(frame(0, 63, 47))
    file.close()
    file.check()
    assert played(folder / "a.mp4")[2] == (62, 46)


def test_a_video_each_and_a_new_one_where_the_size_changes(folder):
    first, second = Video("x/clip.mp4", 25), Video("y/clip.avi", 10)
    with videos(folder) as write:
        for video, width in ((first, 64), (first, 64), (first, 32), (second, 64)):
            write.add(Moment(video, 0, 0.0), frame(0, width), result(width))
    shown = {path.name: played(path) for path in folder.iterdir()}
    assert {name: (len(seen), fps, size) for name, (seen, fps, size) in shown.items()} == {
        "clip.mp4": (2, 25, (64, 48)),
        "clip-2.mp4": (1, 25, (32, 48)),
        "clip-3.mp4": (1, 10, (64, 48)),
    }


def test_a_live_video_lasts_as_long_as_it_went(folder):
    """At 10 frames a second: frame 0 until 0.3 s, then 3; 4 comes too early and is left out; 5 holds 4 frames' time."""
    camera = Video("webcam:0", 10, live=True)
    with videos(folder) as write:
        for number, seconds in ((0, 7.0), (3, 7.3), (4, 7.31), (5, 7.4), (9, 7.8)):
            write.add(Moment(camera, number, seconds), frame(number), result())
    (path,) = folder.iterdir()
    assert numbers(played(path)[0]) == [0, 0, 0, 3, 5, 5, 5, 5, 9]


def test_a_live_source_that_was_silent_for_long(folder, monkeypatch):
    """At 10 frames a second, of an hour 0.5 s are held: 5 frames; then time goes on from there."""
    monkeypatch.setattr("visionkit.predict.video_writer._LONGEST_STILL", 0.5)
    camera = Video("webcam:0", 10, live=True)
    with videos(folder) as write:
        for number, seconds in ((0, 0.0), (1, 3600.0), (2, 3600.1)):
            write.add(Moment(camera, number, seconds), frame(number), result())
    (path,) = folder.iterdir()
    assert numbers(played(path)[0]) == [0, 0, 0, 0, 0, 0, 1, 2]


def test_all_frames_of_a_map_have_one_size_whatever_is_in_them():
    image = frame(0, 320, 240)
    some = np.zeros((240, 320), np.uint8)
    both = some.copy()
    both[:100] = 1
    sizes = {
        draw_frame(image, result(320, 240, task="segment", semantic=semantic, labels=labels, scores=shares)).shape
        for semantic, labels, shares in (
            (some, np.array([0]), np.ones(1, np.float32)),
            (both, np.array([0, 1]), np.array([0.6, 0.4], np.float32)),
        )
    }
    ((height, width, _),) = sizes
    assert (height > 240, width) == (True, 320)


def test_nothing_is_overwritten(folder):
    folder.mkdir()
    (folder / "a.mp4").write_text("mine")
    with pytest.raises(UsageError, match=r"a\.mp4 exists, nothing is overwritten; choose another name or move it away"):
        VideoFile(folder / "a.mp4", 25, (64, 48))
    assert (folder / "a.mp4").read_text() == "mine"


def test_where_no_video_can_be_written(folder, monkeypatch):
    class NoEncoder:
        fourcc = cv2.VideoWriter.fourcc

        def open(self, *arguments):
            pass

        def isOpened(self):  # noqa: N802
            return False

    monkeypatch.setattr(cv2, "VideoWriter", NoEncoder)
    with pytest.raises(VisionkitError) as error:
        VideoFile(folder / "a.mp4", 25, (64, 48))
    assert str(error.value) == (
        f"{folder / 'a.mp4'} cannot be written as a video of 64x48 pixels and 25 frames a second; "
        "leave pictures out by --no-save"
    )
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_folder_whose_name_the_encoder_cannot_be_told(folder):
    odd = folder / "caf\udce9"
    odd.mkdir(parents=True)
    with pytest.raises(VisionkitError, match="cannot be written as a video of 64x48 pixels"):
        VideoFile(odd / "a.mp4", 25, (64, 48))
    assert list(odd.iterdir()) == []


def test_a_video_that_is_interrupted_before_its_first_frame_leaves_nothing(folder, monkeypatch):
    class Slow:
        fourcc = cv2.VideoWriter.fourcc

        def open(self, *arguments):
            raise KeyboardInterrupt

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoWriter", Slow)
    with pytest.raises(KeyboardInterrupt):
        VideoFile(folder / "a.mp4", 25, (64, 48))
    assert list(folder.iterdir()) == []


def test_what_is_missing_of_a_closed_file_is_noticed(folder):
    """As after a full disk, of which OpenCV says nothing."""
    file = VideoFile(folder / "a.mp4", 25, (64, 48))
    for number in range(10):
        file.add(frame(number))
    file.close()
    data = (folder / "a.mp4").read_bytes()
    (folder / "a.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(VisionkitError, match=r"a\.mp4 has 0 of 10 frames, the others cannot be written; free space or"):
        file.check()


def test_an_interrupted_video_is_closed_and_plays(folder):
    class Stop(BaseException):
        pass

    clip = Video("clip.mp4", 25)

    def run():
        with videos(folder) as write:
            for number in range(5):
                write.add(Moment(clip, number, number / 25), frame(number), result())
            raise Stop

    with pytest.raises(Stop):
        run()
    assert numbers(played(folder / "clip.mp4")[0]) == [0, 1, 2, 3, 4]
