"""`visionkit.load`: which runtime a model gets, and that it finds the same in each."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import TinyRun

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from graphs import BOXES, card, write_graph

import visionkit
from visionkit.api import load as loading
from visionkit.bundled import files
from visionkit.bundled.files import bundled_onnx, bundled_weights, checksum_line
from visionkit.data.sample import render_sample
from visionkit.engine.torch_backend import TorchBackend
from visionkit.errors import CheckpointError, UsageError
from visionkit.predict.graph_backend import GraphBackend
from visionkit.predict.tiling import Tiling
from visionkit.result import Result

in_the_box = pytest.mark.skipif(
    bundled_onnx(checked=False) is None or bundled_weights() is None, reason="this version bundles no model"
)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "brightness.onnx")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """128 x 128 px, of level 128: 128 / 255 = 0.502 light, 0.498 dark."""
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), np.full((128, 128, 3), 128, np.uint8))
    return path


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A box with a graph, and nothing for PyTorch, in it."""
    folder = tmp_path / "box"
    folder.mkdir()
    path = write_graph(folder / f"{files.NAME}.onnx", side=64)
    (folder / files.CHECKSUMS).write_text(checksum_line(path) + "\n")
    monkeypatch.setattr(files, "FOLDER", folder)
    return path


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_is_installed", lambda package: package != "torch")


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_graph_is_run_by_onnx_runtime(graph: Path, picture: Path) -> None:
    model = visionkit.load(graph, threads=1)
    assert isinstance(model.backend, GraphBackend)
    both, light = model.detect(picture)[0], model.detect(picture, conf=0.5)[0]
    np.testing.assert_allclose(both.scores, [128 / 255, 127 / 255], rtol=1e-5)
    assert both.boxes.tolist() == (2 * np.array(BOXES)).tolist()  # from 64 px to 128
    assert light.counts() == {"light": 1}
    assert (light.model_name, light.model_sha256) == ("brightness", model.backend.sha256)


def test_tasks_are_told_by_the_graph(tmp_path: Path, picture: Path) -> None:
    for task in ("detect", "classify", "segment"):
        model = visionkit.load(write_graph(tmp_path / f"{task}.ONNX", task))
        (result,) = model.detect(picture)
        assert model.task == result.task == task


def test_a_graph_sees_tiles_as_its_model_was_trained(tmp_path: Path, picture: Path) -> None:
    graph = write_graph(tmp_path / "tiles.onnx", text=card(recipe={"tile": 64, "overlap": 0.0}))
    model = visionkit.load(graph, threads=1)
    assert model.tiling == Tiling(64, 0.0)
    (tiled,), (whole,) = model.detect(picture), model.detect(picture, tile=0)
    # Each of the four tiles of 64 px says both boxes, and the whole says them twice as large.
    assert whole.boxes.tolist() == (2 * np.array(BOXES)).tolist()
    assert len(tiled) > len(whole)


def test_a_checkpoint_is_run_by_pytorch(tiny_run: TinyRun) -> None:
    assert isinstance(visionkit.load(tiny_run.result.best, device="cpu").backend, TorchBackend)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"exact": True}, "exact"), ({"why": True}, "why"), ({"amp": True}, "amp"), ({"device": "cuda"}, "device cuda")],
)
def test_a_graph_has_not_what_only_pytorch_does(graph: Path, options: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError) as error:
        visionkit.load(graph, **options)
    assert str(error.value) == (
        f"{word} is for models in PyTorch, {graph} is an exported graph; leave it out, or give the .safetensors file "
        "that it was exported from"
    )
    visionkit.load(graph, amp=False, device="cpu")  # as it is


def test_a_graph_does_not_tell_why(graph: Path, picture: Path) -> None:
    with pytest.raises(UsageError, match="why is told by models in PyTorch, this one is an exported graph; load the"):
        visionkit.load(graph).detect(picture, why=True)


def test_threads_reach_opencv_too(graph: Path) -> None:
    before = cv2.getNumThreads()
    try:
        visionkit.load(graph, threads=3)
        assert cv2.getNumThreads() == 3
        visionkit.load(graph)
        assert cv2.getNumThreads() == 3  # 0 leaves what is there
    finally:
        cv2.setNumThreads(before)


def test_openvino_is_asked_for_by_its_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"model\.xml is not a file"):
        visionkit.load(tmp_path / "model.xml")
    for suffix in (".xml", ".bin"):
        (tmp_path / "model").with_suffix(suffix).write_text("nothing")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match=r"model\.xml is run by OpenVINO, which cannot be imported here \(.*\); pip"):
        visionkit.load(tmp_path / "model.xml")


# The bundled model ----------------------------------------------------------------------------------------------------


def test_the_bundled_model_is_run_by_onnx_runtime(box: Path, picture: Path) -> None:
    said: list[str] = []
    for options in ({}, {"device": "cpu"}, {"imgsz": 64}, {"amp": False}):
        model = visionkit.load(say=said.append, **options)
        assert isinstance(model.backend, GraphBackend)
        assert model.detect(picture)[0].counts() == {"light": 1, "dark": 1}
    assert said == []


def test_a_damaged_graph_in_the_box_is_an_error(box: Path) -> None:
    content = box.read_bytes()
    for damaged in (content.replace(b"light", b"LIGHT"), content[:100]):  # readable still, and not
        box.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=rf"{files.NAME}\.onnx is damaged: its SHA-256 is not the one this"):
            visionkit.load()


@in_the_box
@pytest.mark.parametrize(
    ("options", "word"),
    [({"exact": True}, "exact"), ({"why": True}, "why"), ({"amp": True}, "amp"), ({"imgsz": 64}, "image size 64")],
)
def test_what_only_pytorch_does_it_does_and_that_is_said(options: dict[str, object], word: str) -> None:
    said: list[str] = []
    model = visionkit.load(say=said.append, **options)
    if options.get("imgsz") and isinstance(model.backend, GraphBackend):  # a graph of any size
        assert (said, model.backend.image_size) == ([], 64)
    else:
        assert isinstance(model.backend, TorchBackend)
        assert said == [f"The bundled model runs in PyTorch, for {word}"]


def found(result: Result) -> list[tuple[int, list[float], float]]:
    return list(zip(result.labels.tolist(), result.boxes.tolist(), result.scores.tolist(), strict=True))


@in_the_box
def test_both_runtimes_find_the_same(tmp_path: Path) -> None:
    pictures = sorted((render_sample(tmp_path / "sample", images={"val": 4}, size=320) / "images").iterdir())
    graph, torch = visionkit.load(), visionkit.load(why=True, amp=False, device="cpu")
    pairs = list(zip(graph.detect(*pictures, conf=0.02), torch.detect(*pictures, conf=0.02), strict=True))
    assert sum(len(ours) for ours, _ in pairs) > 0
    for ours, theirs in pairs:
        for one, other in ((ours, theirs), (theirs, ours)):
            for label, box, score in found(one):
                # A decision on the threshold may fall either way.
                assert score < 0.021 or any(
                    label == as_label and np.allclose(box, as_box, atol=0.2) and abs(score - as_score) < 1e-3
                    for as_label, as_box, as_score in found(other)
                ), (label, box, score)


# Where PyTorch is not installed ---------------------------------------------------------------------------------------


def test_without_pytorch_the_bundled_graph_does_what_it_can(box: Path, no_torch: None, picture: Path) -> None:
    assert len(visionkit.load().detect(picture)[0]) == 2
    with pytest.raises(UsageError) as error:
        visionkit.load(why=True)
    assert str(error.value) == (
        "why needs PyTorch, which is not installed here; leave it out, or install torch and torchvision"
    )
    with pytest.raises(UsageError, match=r"image size must be 64, .*\.onnx takes no other, got 96; leave it out"):
        visionkit.load(imgsz=96)


def test_without_pytorch_other_weights_are_refused(tmp_path: Path, no_torch: None) -> None:
    for weights in ("coco", tmp_path / "best.safetensors"):
        with pytest.raises(UsageError) as error:
            visionkit.load(weights)
        assert str(error.value) == (
            f"weights {weights} are run by PyTorch, which is not installed here; install torch and torchvision, or "
            "give a graph that visionkit export wrote"
        )


def test_without_onnx_runtime_pytorch_runs_the_bundled_model(
    tiny_run: TinyRun, box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = box.with_suffix(".safetensors")
    weights.write_bytes(tiny_run.result.best.read_bytes())
    (box.parent / files.CHECKSUMS).write_text("".join(checksum_line(path) + "\n" for path in (box, weights)))
    monkeypatch.setattr(loading, "_is_installed", lambda package: package != "onnxruntime")
    said: list[str] = []
    assert isinstance(visionkit.load(device="cpu", say=said.append).backend, TorchBackend)
    assert said == []
