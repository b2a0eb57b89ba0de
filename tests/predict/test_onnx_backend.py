"""ONNX Runtime as a backend, on graphs whose answers can be worked out by hand."""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from graphs import BOXES, MASKS, card, grey, write_graph

from visionkit.classes import ClassTable
from visionkit.errors import CheckpointError, UsageError
from visionkit.predict.backend import RawClasses, RawDetections, RawMap
from visionkit.predict.onnx_backend import open_onnx
from visionkit.score_map import ScoreMap

ANY = {"score": 0.1, "iou": None, "max_det": 300}


def test_a_detector(tmp_path: Path) -> None:
    backend = open_onnx(write_graph(tmp_path / "a.onnx"), threads=1)
    (raw,) = backend.run(grey(204), **ANY)  # 204 / 255 = 0.8 light, 0.2 dark
    assert isinstance(raw, RawDetections)
    assert (raw.boxes.dtype, raw.scores.dtype, raw.labels.dtype) == (np.float32, np.float32, np.int64)
    assert raw.labels.tolist() == [0, 1]
    assert raw.boxes.tolist() == BOXES
    np.testing.assert_allclose(raw.scores, [0.8, 0.2], rtol=1e-6)
    assert raw.masks is None
    (sure,) = backend.run(grey(204), score=0.5, iou=None, max_det=300)
    assert sure.labels.tolist() == [0]
    (nothing,) = backend.run(grey(204), score=0.9, iou=None, max_det=300)
    assert nothing.boxes.shape == (0, 4)


def test_a_batch_is_its_images_one_by_one(tmp_path: Path) -> None:
    backend = open_onnx(write_graph(tmp_path / "a.onnx", masks=True), threads=1)
    images = grey(10, 204, 128, 255)
    for together, alone in zip(
        backend.run(images, **ANY), (backend.run(i[None], **ANY)[0] for i in images), strict=True
    ):
        assert isinstance(together, RawDetections)
        for field in ("boxes", "scores", "labels", "masks"):
            np.testing.assert_array_equal(getattr(together, field), getattr(alone, field))
    (light,) = backend.run(grey(255), **ANY)
    assert light.masks.tolist() == MASKS[:1]


def test_threads_get_the_answers_to_their_own_pictures(tmp_path: Path) -> None:
    backend = open_onnx(write_graph(tmp_path / "a.onnx"), threads=1)

    def lightest(value: int) -> list[float]:
        return [float(backend.run(grey(value), **ANY)[0].scores[0]) for _ in range(50)]

    with ThreadPoolExecutor(4) as threads:
        said = list(threads.map(lightest, (140, 180, 220, 250)))
    np.testing.assert_allclose(said, [[value / 255] * 50 for value in (140, 180, 220, 250)], rtol=1e-5)


def test_a_classifier(tmp_path: Path) -> None:
    backend = open_onnx(write_graph(tmp_path / "a.onnx", "classify"), threads=1)
    dark, light = backend.run(grey(51, 204), score=0.5, iou=None, max_det=300)
    assert isinstance(dark, RawClasses)
    assert (backend.task, dark.labels.tolist(), light.labels.tolist()) == ("classify", [1], [0])
    np.testing.assert_allclose(dark.scores, [0.8], rtol=1e-6)


def test_a_segmenter(tmp_path: Path) -> None:
    backend = open_onnx(write_graph(tmp_path / "a.onnx", "segment"), threads=1)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    for raw, image in zip(backend.run(images, **ANY), images, strict=True):
        assert isinstance(raw, RawMap)
        np.testing.assert_array_equal(raw.scores, image[..., :2].transpose(2, 0, 1))


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    calibration = ScoreMap("platt", scale=1.5, shift=0.1)
    path = write_graph(tmp_path / "a.onnx", text=card(calibration=calibration.to_json()))
    backend = open_onnx(path)
    assert (backend.name, backend.task, backend.image_size) == ("brightness", "detect", 64)
    assert backend.classes == ClassTable((4, 9), ("light", "dark"))
    assert backend.score_map == calibration
    assert backend.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert backend.runtime.startswith("ONNX Runtime 1.")


def test_the_size_of_its_images(tmp_path: Path) -> None:
    free, fixed = write_graph(tmp_path / "free.onnx"), write_graph(tmp_path / "fixed.onnx", side=32)
    assert open_onnx(free, image_size=96).image_size == 96
    (raw,) = open_onnx(free, image_size=96).run(grey(255, side=96), **ANY)
    assert raw.labels.tolist() == [0]
    assert open_onnx(fixed).image_size == 32  # what it takes, whatever it was trained at
    with pytest.raises(UsageError, match="image size must be divisible by 32, got 100; use 128"):
        open_onnx(free, image_size=100)
    with pytest.raises(UsageError, match=r"image size must be 32, .*fixed\.onnx takes no other, got 64; leave it out"):
        open_onnx(fixed, image_size=64)


def test_snug_is_what_says_so_and_is_free(tmp_path: Path) -> None:
    says = write_graph(tmp_path / "says.onnx", text=card(snug=True))
    backend = open_onnx(says, image_size=96)
    assert (backend.frame_multiple, backend.image_size) == (32, 96)
    (raw,) = backend.run(np.full((1, 32, 96, 3), 255, np.uint8), **ANY)
    assert raw.labels.tolist() == [0]
    assert open_onnx(write_graph(tmp_path / "mute.onnx")).frame_multiple is None
    assert open_onnx(write_graph(tmp_path / "fixed.onnx", side=32, text=card(snug=True))).frame_multiple is None


def test_a_file_that_is_no_graph_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "text.onnx").write_text("not a graph")
    (tmp_path / "cut.onnx").write_bytes(write_graph(tmp_path / "a.onnx").read_bytes()[:200])
    write_graph(tmp_path / "mute.onnx", text="")
    for name, words in {
        "none.onnx": "none.onnx is not a file, weights are read from one; check the path",
        "empty.onnx": "empty.onnx is empty (0 bytes); export the model again",
        "text.onnx": "text.onnx cannot be read as an ONNX graph (",
        "cut.onnx": "cut.onnx cannot be read as an ONNX graph (",
        "mute.onnx": "mute.onnx does not say its classes, visionkit's exports do; export the model again",
    }.items():
        with pytest.raises(CheckpointError) as error:
            open_onnx(tmp_path / name)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")  # the library says nothing of its own


def test_without_onnx_runtime_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_graph(tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"a\.onnx is run by ONNX Runtime, which cannot be imported here \(.*\); pip"):
        open_onnx(path)
