"""OpenVINO as a backend, where it is installed: it says what ONNX Runtime says of the same graph."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino")
pytest.importorskip("onnx")

from graphs import BOXES, MASKS, card, grey, write_graph

from visionkit.errors import CheckpointError, UsageError
from visionkit.predict.backend import RawDetections, RawMap
from visionkit.predict.openvino_backend import open_openvino

ANY = {"score": 0.1, "iou": None, "max_det": 300}


def converted(path: Path, task: str = "detect", *, text: str | None = None, **options: object) -> Path:
    """A graph of `graphs` as OpenVINO's .xml, with its metadata."""
    import openvino

    model = openvino.Core().read_model(write_graph(path.with_suffix(".onnx"), task, **options))
    text = card(task=task) if text is None else text
    if text:
        model.set_rt_info(text, ["visionkit"])
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


def test_a_detector(tmp_path: Path) -> None:
    path = converted(tmp_path / "a.xml", masks=True)
    backend = open_openvino(path, threads=1, amp=False)
    (raw,) = backend.run(grey(204), **ANY)  # 204 / 255 = 0.8 light, 0.2 dark
    assert isinstance(raw, RawDetections)
    assert (raw.labels.tolist(), raw.labels.dtype) == ([0, 1], np.int64)
    assert raw.boxes.tolist() == BOXES
    assert raw.masks.tolist() == MASKS
    np.testing.assert_allclose(raw.scores, [0.8, 0.2], rtol=1e-5)
    assert (backend.name, backend.task, backend.image_size) == ("brightness", "detect", 64)
    assert backend.classes.names == ("light", "dark")
    assert backend.sha256 == hashlib.sha256(path.with_suffix(".bin").read_bytes()).hexdigest()
    assert backend.runtime.startswith("OpenVINO 20")


def test_a_batch_is_its_images_one_by_one_and_stays(tmp_path: Path) -> None:
    backend = open_openvino(converted(tmp_path / "a.xml"), threads=1, amp=False)
    images = grey(10, 204, 128)
    together = backend.run(images, **ANY)
    for ours, image in zip(together, images, strict=True):
        (alone,) = backend.run(image[None], **ANY)  # writes over what the library keeps, not over ours
        np.testing.assert_allclose(ours.scores, alone.scores, rtol=1e-6)
        np.testing.assert_array_equal(ours.labels, alone.labels)


def test_threads_get_the_answers_to_their_own_pictures(tmp_path: Path) -> None:
    backend = open_openvino(converted(tmp_path / "a.xml"), threads=1, amp=False)

    def lightest(value: int) -> list[float]:
        return [float(backend.run(grey(value), **ANY)[0].scores[0]) for _ in range(50)]

    with ThreadPoolExecutor(4) as threads:
        said = list(threads.map(lightest, (140, 180, 220, 250)))
    np.testing.assert_allclose(said, [[value / 255] * 50 for value in (140, 180, 220, 250)], rtol=1e-5)


def test_a_segmenter(tmp_path: Path) -> None:
    backend = open_openvino(converted(tmp_path / "a.xml", "segment"), amp=False)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    (raw,) = backend.run(image[None], **ANY)
    assert isinstance(raw, RawMap)
    np.testing.assert_array_equal(raw.scores, image[..., :2].transpose(2, 0, 1))


def test_the_size_of_its_images(tmp_path: Path) -> None:
    free, fixed = converted(tmp_path / "free.xml"), converted(tmp_path / "fixed.xml", side=32)
    assert open_openvino(free, image_size=96).run(grey(255, side=96), **ANY)[0].labels.tolist() == [0]
    assert open_openvino(fixed).image_size == 32
    with pytest.raises(UsageError, match="image size must be divisible by 32, got 100; use 128"):
        open_openvino(free, image_size=100)
    with pytest.raises(UsageError, match=r"image size must be 32, .*fixed\.xml takes no other, got 64; leave it out"):
        open_openvino(fixed, image_size=64)


def test_snug_is_what_says_so_and_is_free(tmp_path: Path) -> None:
    backend = open_openvino(converted(tmp_path / "says.xml", text=card(snug=True)), image_size=96, amp=False)
    assert (backend.frame_multiple, backend.image_size) == (32, 96)
    (raw,) = backend.run(np.full((1, 32, 96, 3), 255, np.uint8), **ANY)
    assert raw.labels.tolist() == [0]
    assert open_openvino(converted(tmp_path / "fixed.xml", side=32, text=card(snug=True))).frame_multiple is None


def test_a_file_that_is_no_graph_is_one_line(tmp_path: Path) -> None:
    mute = converted(tmp_path / "mute.xml", text="")
    (tmp_path / "text.xml").write_text("not a graph")
    (tmp_path / "text.bin").write_text("no numbers")
    alone = converted(tmp_path / "alone.xml")
    alone.with_suffix(".bin").unlink()
    for path, words in {
        mute: "mute.xml does not say its classes, visionkit's exports do; export the model again",
        tmp_path / "text.xml": "text.xml cannot be read as an OpenVINO graph (",
        alone: "alone.bin is not a file, weights are read from one; check the path",
    }.items():
        with pytest.raises(CheckpointError) as error:
            open_openvino(path)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
