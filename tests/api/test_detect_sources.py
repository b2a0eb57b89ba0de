"""What `model.detect` and `model.stream` take from Python."""

import gc
from pathlib import Path

import numpy as np
import pytest
from pictures import noise
from PIL import Image
from videos import write_video

from visionkit.api.detect import Detector, detect
from visionkit.classes import ClassTable
from visionkit.errors import DataError, UsageError
from visionkit.predict.backend import RawDetections
from visionkit.predict.sources import find_sources


class Brightest:
    """Finds one box whose score is the mean of the first image's red, over 255."""

    name, sha256, classes, image_size = "brightest", "", ClassTable((3,), ("cat",)), 64

    def run(self, images, **thresholds):
        box = np.array([[8, 16, 40, 40]], np.float32)
        return [
            RawDetections(box, np.array([image[..., 0].mean() / 255], np.float32), np.zeros(1, np.int64))
            for image in images
        ]


@pytest.fixture
def model():
    return Detector(Brightest())


def test_arrays_and_images_of_pillow_are_seen_as_their_files_are(model, tmp_path):
    picture = noise()
    Image.fromarray(picture).save(tmp_path / "a.png")
    of_file, of_array, of_image, of_opened = model.detect(
        tmp_path / "a.png", picture, Image.fromarray(picture), Image.open(tmp_path / "a.png"), conf=0
    )
    for result in (of_array, of_image, of_opened):
        np.testing.assert_array_equal(result.scores, of_file.scores)
        np.testing.assert_array_equal(result.boxes, of_file.boxes)
        assert (result.width, result.height) == (48, 40)
    assert [of_array.path, of_image.path, of_opened.path] == ["", "", str(tmp_path / "a.png")]


def test_bgr_is_not_guessed(model):
    """Red alone counts in this model: an array is RGB, and what is not u8 [H, W, 3] is refused."""
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    (of_red,), (of_blue,) = model.detect(red, conf=0), model.detect(red[..., ::-1], conf=0)
    assert (of_red.scores.tolist(), of_blue.scores.tolist()) == ([1.0], [0.0])
    with pytest.raises(UsageError, match=r"an array is float32 \[64, 64, 3\], a picture must be uint8"):
        model.detect(red.astype(np.float32))


def test_videos_are_a_result_a_frame(model, tmp_path):
    write_video(tmp_path / "clip.mp4", 6)
    results = model.detect(tmp_path / "clip.mp4", every=2, conf=0)
    paths = [f"{tmp_path / 'clip.mp4'}#frame={i}&t={i / 25:.3f}" for i in (0, 2, 4)]
    assert [result.path for result in results] == paths
    assert all(result.milliseconds["read"] > 0 for result in results)


def test_a_list_of_results_needs_an_end(model):
    with pytest.raises(UsageError, match="webcam:0 is a camera, which has no end, and a list of all its results would"):
        model.detect(0)


def test_what_cannot_be_read_is_raised_handed_over_or_warned_about(model, tmp_path):
    write_video(tmp_path / "clip.mp4", 2)
    (tmp_path / "b.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"b\.mp4 is not a video of a known kind"):
        model.detect(tmp_path)
    skipped = []
    url = "http://127.0.0.1/a.jpg"
    results = list(model.stream(tmp_path, url, conf=0, on_skip=lambda name, error: skipped.append(name)))
    assert len(results) == 2
    assert skipped == [tmp_path / "b.mp4", url]
    with pytest.warns(UserWarning, match=r"skipped: .*b\.mp4 is not a video"):
        assert len(list(model.stream(tmp_path, conf=0))) == 2
    with pytest.raises(DataError, match="forbids to use it; name a file instead"):
        model.detect(url, offline=True)


def test_wrong_options_are_refused_at_the_call(model):
    for call in (model.detect, model.stream):
        with pytest.raises(UsageError, match="every must be at least 1, got 0"):
            call("a.mp4", every=0)
        with pytest.raises(UsageError, match=r"a source is a path, .*, got list; give several sources one by one"):
            call(["a.jpg"])


def test_a_stream_that_is_left_gives_its_source_back(model, tmp_path, monkeypatch):
    import tempfile

    from web_server import body, web_server

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    write_video(tmp_path / "clip.mp4", 5)
    with web_server() as server:
        server.answers["/clip"] = body((tmp_path / "clip.mp4").read_bytes())
        stream = model.stream(server.url("/clip"), conf=0, allow_private_urls=True)
        next(stream)
        assert len(list(tmp_path.iterdir())) == 2
        stream.close()
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_frames_are_told_before_their_results(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(Path("clip.mp4"), 2)
    Image.fromarray(noise()).save("a.png")
    told = []
    count = detect(
        model,
        find_sources(["a.png", "clip.mp4"]),
        conf=0,
        save=False,
        formats=[],
        on_frame=lambda moment: told.append(moment.frame),
        on_result=lambda result: told.append(result.path),
    )
    assert count == 3
    assert told == ["a.png", 0, "clip.mp4#frame=0&t=0.000", 1, "clip.mp4#frame=1&t=0.040"]
