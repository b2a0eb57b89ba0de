"""A graph in eight bits: what is quantised and what is not, and that it still says much the same."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sure_models import CLASSES, SIDE, in_torch, pictures, sure_model

from visionkit.errors import UsageError, VisionkitError
from visionkit.exporting.int8 import write_int8
from visionkit.exporting.onnx_file import about, write_onnx
from visionkit.exporting.openvino_file import check_openvino, write_openvino
from visionkit.exporting.parity import ClassParity, DetectionParity

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")), reason="ONNX is not installed"
)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, recipe = sure_model("classifier")
    path = tmp_path_factory.mktemp("int8") / "fp32.onnx"
    said = about(
        model, name="classifier/lenet5", classes=CLASSES, image_size=SIDE, sha256="", recipe=recipe.model_dump()
    )
    write_onnx(model, said | {"recipe": recipe.model_dump(mode="json")}, path)
    return path


def test_the_backbone_is_in_eight_bits_and_the_head_is_not(graph: Path, tmp_path: Path) -> None:
    import onnx

    from visionkit.predict.onnx_backend import open_onnx

    for name in ("one", "two"):
        write_int8(graph, tmp_path / f"{name}.onnx", (pictures(2, seed=seed) for seed in range(4)))
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    source, written = onnx.load(str(graph)), onnx.load(str(tmp_path / "one.onnx"))
    assert [(one.key, one.value) for one in written.metadata_props] == [
        (one.key, one.value) for one in source.metadata_props
    ]
    weights = {initializer.name: initializer for initializer in written.graph.initializer}
    eight = [name for name, tensor in weights.items() if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims]
    shapes = sorted(tuple(weights[name].dims) for name in eight if len(weights[name].dims) == 4)
    assert shapes == [(6, 3, 5, 5), (16, 6, 5, 5), (120, 16, 5, 5)]  # the convolutions of LeNet-5
    # Seven bits of each weight, so that x86 without VNNI does not overflow.
    for name in eight:
        assert np.abs(onnx.numpy_helper.to_array(weights[name]).astype(int)).max() <= 64
    assert any(tuple(tensor.dims) in {(3, 120), (120, 3)} for tensor in weights.values() if tensor.data_type == 1)

    model, _ = sure_model("classifier")
    images = pictures(6, seed=9)
    parity = ClassParity()
    ours = in_torch(model).run(images, score=0.0, iou=None, max_det=3)
    parity.add(ours, list(open_onnx(tmp_path / "one.onnx", threads=1).run(images, score=0.0, iou=None, max_det=3)))
    difference = parity.largest_score_difference
    assert difference is not None
    assert 1e-5 < difference < 0.1  # it is quantised, and little is lost


def test_a_graph_without_a_backbone_s_convolutions_is_refused(tmp_path: Path) -> None:
    import onnx

    value = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1])
    nodes = [onnx.helper.make_node("Identity", ["images"], ["out"])]
    out = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [1])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [value], [out])), str(tmp_path / "g.onnx"))
    with pytest.raises(
        VisionkitError, match="has no convolution of a backbone, which INT8 is for; export without --int8"
    ):
        write_int8(tmp_path / "g.onnx", tmp_path / "h.onnx", iter(()))


def test_without_openvino_it_says_how_to_install_it() -> None:
    if find_spec("openvino") is not None:
        pytest.skip("OpenVINO is installed")
    with pytest.raises(UsageError, match=r"needs the package openvino, not installed here; .* 'visionkit\[openvino\]'"):
        check_openvino()


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_openvino_says_what_pytorch_says(tmp_path: Path) -> None:
    from visionkit.predict.openvino_backend import open_openvino

    model, recipe = sure_model("retinanet")
    recipe_said = recipe.model_dump(mode="json")
    said = about(model, name="retinanet/lenet5", classes=CLASSES, image_size=SIDE, sha256="", recipe=recipe_said)
    write_onnx(model, said, tmp_path / "fp32.onnx")
    write_openvino(tmp_path / "fp32.onnx", tmp_path / "graph.xml")
    parity = DetectionParity(iou=0.5, most=60)
    for images in (pictures(1), pictures(3, seed=1)):
        ours = in_torch(model).run(images, score=0.05, iou=0.5, max_det=60)
        graph = open_openvino(tmp_path / "graph.xml", image_size=SIDE, threads=1, amp=False)
        parity.add(ours, list(graph.run(images, score=0.05, iou=0.5, max_det=60)))
    assert parity.matched >= 40
    assert parity.unmatched == 0
    assert str(tmp_path).encode() not in (tmp_path / "graph.xml").read_bytes()
