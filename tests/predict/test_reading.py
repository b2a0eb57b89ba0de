"""All kinds of sources in one row: what comes, under which name and number, and what is left out."""

import threading

import cv2
import numpy as np
import pytest
from pictures import noise
from PIL import Image
from videos import numbers, with_broken_picture, write_video
from web_server import body, web_server

from visionkit.errors import DataError, UsageError
from visionkit.predict import video_source
from visionkit.predict.detect import read_images
from visionkit.predict.reading import Reading
from visionkit.predict.sources import Address, Camera, find_sources


def read(*given, **options):
    """(number, path) of what comes, and (name, words) of what does not."""
    skipped = []
    images = read_images(
        find_sources(given), on_skip=lambda name, error: skipped.append((name, str(error))), reading=Reading(**options)
    )
    return [(image.number, image.path) for image in images], skipped


def test_files_videos_and_pictures_are_numbered_through(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "c.png"):
        Image.fromarray(noise()).save(name)
    (tmp_path / "b.png").write_bytes(b"broken")
    write_video(tmp_path / "clip.avi", 3, fourcc="MJPG")
    (tmp_path / "clip.avi").write_bytes(with_broken_picture((tmp_path / "clip.avi").read_bytes(), 1))
    came, skipped = read("a.png", "b.png", "clip.avi", "c.png", np.zeros((4, 6, 3), np.uint8))
    # 1 a.png, 2 the broken one, 3 and 4 what can be decoded of the clip, 5 that it lacks a frame, 6 c.png, 7 the array.
    assert came == [
        (1, "a.png"),
        (3, "clip.avi#frame=0&t=0.000"),
        (4, "clip.avi#frame=2&t=0.080"),
        (6, "c.png"),
        (7, ""),
    ]
    assert [str(name) for name, _ in skipped] == ["b.png", "clip.avi"]
    assert skipped[1][1] == ("clip.avi has 1 frame that cannot be decoded, from frame 1 on; export it again")


def test_a_file_without_a_telling_suffix_is_known_by_its_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise()).save("picture", "PNG")
    write_video(tmp_path / "clip.mp4", 2).rename("film")
    write_video(tmp_path / "stream.mp4", 2).rename("stream.ts")
    came, skipped = read("picture", "film", "stream.ts")
    names = ["picture", "film#frame=0&t=0.000", "film#frame=1&t=0.040"]
    assert [path for _, path in came] == [*names, "stream.ts#frame=0&t=0.000", "stream.ts#frame=1&t=0.040"]
    assert skipped == []


def test_every_nth_frame_and_every_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise()).save("a.png")
    write_video(tmp_path / "clip.mp4")
    came, _ = read("a.png", "clip.mp4", every=5)
    assert came == [(1, "a.png"), (2, "clip.mp4#frame=0&t=0.000"), (3, "clip.mp4#frame=5&t=0.200")]
    with pytest.raises(UsageError, match="every must be at least 1, got 0; 1 takes all frames of a video"):
        Reading(every=0)


def test_addresses(tmp_path):
    with web_server() as server:
        server.answers["/clip.mp4"] = body(write_video(tmp_path / "clip.mp4", 2).read_bytes())
        url, missing = server.url("/clip.mp4"), server.url("/missing.jpg")
        came, skipped = read(url, missing, url, allow_private_urls=True)  # the third is the first
        assert came == [(1, f"{url}#frame=0&t=0.000"), (2, f"{url}#frame=1&t=0.040")]
        ((name, words),) = skipped
        assert name == missing
        assert words == f"{missing} was refused by its server (404 Not Found); check the address"
        assert [name for name, _ in read(url)[1]] == [url]  # not allowed
        assert "--offline forbids" in read(url, offline=True)[1][0][1]


def test_an_address_of_an_unknown_kind_in_a_list_is_skipped():
    skipped = []
    images = read_images([Address("ftp://example.org/a")], on_skip=lambda name, error: skipped.append(str(error)))
    assert list(images) == []
    assert skipped == [
        "ftp://example.org/a is an address that is not read, known are http, https, rtsp, rtsps; save it to a file"
    ]


def test_a_camera_gives_its_newest_frame_and_is_given_back(monkeypatch):
    released = threading.Event()

    class Endless:
        def open(self, *arguments):
            pass

        def isOpened(self):  # noqa: N802
            return True

        def get(self, what):
            return 0.0

        def grab(self):
            return True

        def retrieve(self):
            return True, np.zeros((4, 6, 3), np.uint8)

        def release(self):
            released.set()

    monkeypatch.setattr(cv2, "VideoCapture", Endless)
    images = read_images([Camera(0)], on_skip=lambda name, error: pytest.fail(str(error)))
    first, second = next(images), next(images)
    assert (first.number, second.number) == (1, 2)
    assert first.moment.frame < second.moment.frame
    assert first.path.startswith("webcam:0#frame=")
    images.close()
    assert released.wait(10)


def test_a_camera_where_a_list_is_wanted():
    images = read_images([Camera(0)], on_skip=lambda name, error: None, reading=Reading(live=False))
    with pytest.raises(UsageError) as error:
        next(images)
    assert str(error.value) == (
        "webcam:0 is a camera, which has no end, and a list of all its results would have none; use stream"
    )


def test_what_a_given_array_must_be():
    images = read_images(find_sources([np.zeros((4, 6), np.uint8)]), on_skip=lambda name, error: None)
    with pytest.raises(UsageError, match=r"an array is uint8 \[4, 6\], a picture must be"):
        next(images)


def test_frames_come_when_they_are_asked_for(tmp_path, monkeypatch):
    """The second video is not opened before the first is through."""
    one, two = (write_video(tmp_path / f"{i}.mp4", 3) for i in range(2))
    opened = []
    real = video_source.read_video
    noted = lambda path, **options: opened.append(path) or real(path, **options)  # noqa: E731
    monkeypatch.setattr(video_source, "read_video", noted)
    images = read_images([one, two], on_skip=lambda name, error: pytest.fail(str(error)))
    assert opened == []
    assert numbers([next(images).pixels]) == [0]
    assert opened == [one]
    assert len(list(images)) == 5
    assert opened == [one, two]


def test_a_source_that_refuses_ends_the_reading(tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")

    def refuse(name, error):
        raise error

    with pytest.raises(DataError, match=r"a\.png is not an image"):
        list(read_images([tmp_path / "a.png"], on_skip=refuse))
