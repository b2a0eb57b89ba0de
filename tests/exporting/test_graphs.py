"""Every head as an ONNX graph, traced at one size and run at others, against its model in PyTorch."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sure_models import CLASSES, HEADS, SIDE, in_torch, pictures, sure_model

from visionkit.build import Model, build_model
from visionkit.config import Recipe
from visionkit.errors import UsageError
from visionkit.exporting.onnx_file import about, check_exportable, check_packages, write_onnx
from visionkit.exporting.parity import ClassParity, DetectionParity, MapParity, Parity, overlaps
from visionkit.predict.backend import RawDetections

ONNX = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")), reason="ONNX is not installed"
)
DETECTORS = [head for head in HEADS if head not in ("fcn8s", "classifier")]
OWN_IOU = {"retinanet": 0.5, "faster-rcnn": 0.5, "mask-rcnn": 0.5}


@pytest.fixture(scope="module", params=[head for head in HEADS if head != "yolo"])  # tests/api has that
def head(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(head: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A model and its graph: traced once, as that takes seconds."""
    model, recipe = sure_model(head)
    path = tmp_path_factory.mktemp("graphs") / f"{head}.onnx"
    write_onnx(model, card(model, recipe), path)
    return model, path


def card(model: Model, recipe: Recipe) -> dict[str, object]:
    return about(
        model,
        name=recipe.architecture,
        classes=CLASSES,
        image_size=SIDE,
        sha256="ab" * 32,
        recipe=recipe.model_dump(mode="json"),
    )


def compared(model: Model, path: Path, images: NDArray[np.uint8], parity: Parity) -> Parity:
    from visionkit.predict.onnx_backend import open_onnx

    ours = in_torch(model).run(images, score=0.05, iou=0.5, max_det=60)
    theirs = open_onnx(path, threads=1).run(images, score=0.05, iou=0.5, max_det=60)
    parity.add(ours, list(theirs))
    return parity


@ONNX
def test_it_says_what_its_model_says_for_batches_and_images_of_any_size(head: str, made: tuple[Model, Path]) -> None:
    model, path = made
    parity = {"fcn8s": MapParity, "classifier": ClassParity}.get(head, lambda: DetectionParity(0.5, 60))()
    # It was traced with two images of 10 by 11 strides.
    for images in (pictures(1), pictures(3, seed=1), pictures(2, 64, 192, seed=2), pictures(1, 320, 96, seed=3)):
        compared(model, path, images, parity)
    facts = parity.facts()
    assert parity.images == 7
    assert facts["largest_score_difference"] < 1e-4
    if head not in DETECTORS:
        assert facts.get("other_best_class", facts.get("pixels_of_another_class")) == 0
        return
    assert facts["matched"] >= 40
    assert (facts["unmatched"], facts["on_edge"]) == (0, 0)
    assert facts["smallest_iou"] > 0.999
    assert ("largest_mask_difference" in facts) == model.says_masks
    # Sides of random numbers differ by up to 0.06 px, which is another place for a mask to be read at.
    assert facts.get("largest_mask_difference", 0.0) < 0.05


def most_overlap(raw: RawDetections) -> float:
    """Of two detections of one class."""
    same = (raw.labels[:, None] == raw.labels) & ~np.eye(len(raw.labels), dtype=bool)
    return float(overlaps(raw.boxes, raw.boxes)[same].max(initial=0.0))


@ONNX
def test_thresholds_are_inputs_and_decisions_come_best_first(head: str, made: tuple[Model, Path]) -> None:
    if head not in DETECTORS:
        pytest.skip("it has none")
    from visionkit.predict.onnx_backend import open_onnx

    backend, images = open_onnx(made[1], threads=1), pictures(2)
    found = backend.run(images, score=0.05, iou=0.5, max_det=60)
    few = backend.run(images, score=0.05, iou=0.5, max_det=3)
    sure = backend.run(images, score=0.5, iou=0.5, max_det=60)
    apart = backend.run(images, score=0.05, iou=0.01, max_det=60)
    none = backend.run(images, score=1.0, iou=0.5, max_det=60)
    for b, raw in enumerate(found):
        assert (np.diff(raw.scores) <= 0).all()
        assert (raw.boxes.dtype, raw.scores.dtype, raw.labels.dtype) == (np.float32, np.float32, np.int64)
        np.testing.assert_array_equal(few[b].scores, raw.scores[:3])
        np.testing.assert_array_equal(sure[b].boxes, raw.boxes[: len(sure[b].boxes)])
        assert (raw.scores[len(sure[b].scores) :] <= 0.5).all()
        assert most_overlap(raw) > 0.1 or head.startswith("yolo")  # whose random boxes are small and apart
        assert most_overlap(apart[b]) < 0.011
        assert len(none[b].scores) == 0
        assert none[b].boxes.shape == (0, 4)
        assert none[b].masks is None or none[b].masks.shape == (0, 28, 28)


@ONNX
def test_it_keeps_the_contract_and_no_secrets(head: str, made: tuple[Model, Path]) -> None:
    import onnx

    model, path = made
    graph = onnx.load(str(path))
    onnx.checker.check_model(graph)
    detects = head in DETECTORS
    assert [value.name for value in graph.graph.input] == ["images", *(["score", "iou", "max_det"] if detects else [])]
    masks = ["masks"] if model.says_masks else []
    assert [value.name for value in graph.graph.output] == (
        ["boxes", "scores", "labels", "image", *masks] if detects else ["scores"]
    )
    sizes = [dim.dim_param or dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", "height", "width", 3]
    (said,) = graph.metadata_props
    content = json.loads(said.value)
    assert said.key == "visionkit"
    assert said.value == json.dumps(content, sort_keys=True, ensure_ascii=False)
    assert {
        name: content[name] for name in ("schema", "task", "model", "classes", "imgsz", "stride", "iou", "sha256")
    } == {
        "schema": "visionkit.onnx/1",
        "task": model.task,
        "model": f"{HEADS[head]['model']}/{HEADS[head]['backbone']}",
        "classes": [{"id": 3, "name": "car"}, {"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
        "imgsz": SIDE,
        "stride": model.stride,
        "iou": OWN_IOU.get(head, 0.7) if detects else None,
        "sha256": "ab" * 32,
    }
    assert Recipe.model_validate(content["recipe"]).model == HEADS[head]["model"]
    # Nothing of the machine it was made on, no line of code.
    raw = path.read_bytes()
    assert b".py" not in raw
    assert str(Path.home()).encode() not in raw
    assert str(Path(__file__).parents[2]).encode() not in raw
    names = {node.name for node in graph.graph.node}
    assert len(names) == len(graph.graph.node)
    assert any(name.startswith("backbone.") and name.endswith("/Conv") for name in names)


@ONNX
def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        model, recipe = sure_model("classifier")
        write_onnx(model, card(model, recipe), tmp_path / f"{name}.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "fast-rcnn",
            "my model is fed by proposals of each image from a file, a graph takes images alone; export a faster-rcnn, "
            "which makes its own",
        ),
        (
            "rcnn",
            "my model searches for regions outside of its network, a graph takes images alone; export a faster-rcnn, "
            "whose search is a network",
        ),
    ],
)
def test_what_cannot_be_a_graph_says_why(name: str, words: str) -> None:
    model = build_model(Recipe(model=name, backbone="lenet5"), CLASSES)  # type: ignore[arg-type]
    with pytest.raises(UsageError) as error:
        check_exportable(model, "my model")
    assert str(error.value) == words


def test_a_package_that_is_missing_is_named_with_its_extra() -> None:
    with pytest.raises(UsageError) as error:
        check_packages(needed=("json", "no_such_package"), extra="openvino")
    assert str(error.value) == (
        "this export needs the package no_such_package, not installed here; "
        "install by: pip install 'visionkit[openvino]'"
    )
