"""A model that learnt from tiles sees them, says so, and can be told otherwise."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import CommandLine

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from graphs import card, write_graph

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")

SAID = "Larger images are seen in tiles of 64 px, as trained; --tile 0 sees them whole"


def test_detect_sees_what_the_model_learnt_from(command_line: CommandLine, tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "tiles.onnx", text=card(recipe={"tile": 64, "overlap": 0.0}))
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((128, 128, 3), 128, np.uint8))
    boxes = {}
    for options in ((), ("--tile", 64, "--overlap", 0), ("--tile", 0)):
        done = command_line("detect", tmp_path / "grey.png", "--weights", graph, "--no-save", "--json", *options)
        assert (done.code, SAID in done.stderr) == (0, not options), done.stderr
        boxes[options] = [item["bbox"] for item in done.json["items"]]
    as_trained, told, whole = boxes.values()
    assert as_trained == told != whole


def test_a_classifier_is_not_served_in_tiles(command_line: CommandLine, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    graph = write_graph(tmp_path / "classes.onnx", "classify")
    done = command_line("serve", "--weights", graph, "--port", 0, "--tile", 64)
    assert done.code == 2
    assert "is a classifier, tiles are for detectors and segmenters; leave out --tile" in done.error
    done = command_line("serve", "--weights", graph, "--port", 0, "--overlap", 0.5)
    assert (done.code, "no tile is given; give --tile too" in done.error) == (2, True)
