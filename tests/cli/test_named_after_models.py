"""`classify` and `segment` are `detect` under other names, but never run the bundled detector under them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import CommandLine

from visionkit.cli.loaded import require_other_than_bundled
from visionkit.errors import UsageError

REMEDIES = {
    "classify": "classify needs the weights of a classifier, and the bundled model is a detector; give --weights FILE, "
    "which visionkit finetune --model classifier makes of your pictures, or use visionkit detect",
    "segment": "segment needs the weights of a segmenter, and the bundled model is a detector; give --weights FILE, "
    "which visionkit finetune --model fcn8s makes, or torchvision:fcn_resnet50, or use visionkit detect",
}


@pytest.mark.parametrize("said", [[], ["--weights", "default"]], ids=["nothing", "default"])
@pytest.mark.parametrize("command", REMEDIES)
def test_without_weights_it_says_where_some_come_from(
    command: str, said: list[str], command_line: CommandLine, tmp_path: Path
) -> None:
    done = command_line(command, "photo.jpg", *said, folder=tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert done.error == REMEDIES[command]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", REMEDIES)
def test_without_pictures_it_names_itself(command: str, command_line: CommandLine, tmp_path: Path) -> None:
    done = command_line(command, "--weights", "best.safetensors", folder=tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert done.error == (
        f"{command} needs at least one image, folder, glob or list; for example: visionkit {command} image.jpg"
    )


def test_any_other_weights_pass() -> None:
    require_other_than_bundled("best.safetensors", "classify", "classifier", "")
    require_other_than_bundled("coco", "classify", "classifier", "")
    with pytest.raises(UsageError):
        require_other_than_bundled("default", "classify", "classifier", "")


@pytest.mark.parametrize("task", ["detect", "segment", "classify"])
def test_what_is_written_lies_under_the_task_whichever_command_is_typed(
    task: str, command_line: CommandLine, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    graphs = pytest.importorskip("graphs", reason="graphs are made by onnx")
    graph = graphs.write_graph(tmp_path / "model.onnx", task)
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((32, 32, 3), 128, np.uint8))
    for number, command in enumerate(("detect", task), start=1):
        done = command_line(command, "grey.png", "--weights", graph, "--conf", 0, folder=tmp_path)
        assert done.code == 0, done.stderr
        assert f": runs/{task}/{task}-{number}\n" in done.stderr
        assert (tmp_path / "runs" / task / f"{task}-{number}" / "grey.png").exists()
