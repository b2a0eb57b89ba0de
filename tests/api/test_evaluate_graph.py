"""`evaluate` and `compare` on exported graphs: the scores of what `detect` says with them. They look at brightness."""

import json
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from graphs import BOXES, card, write_graph
from masks import write_masks

import visionkit
from visionkit.api import tiled_evaluation
from visionkit.errors import CheckpointError, UsageError
from visionkit.formats.coco import read_coco
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.semantic_map import semantic_map, with_background
from visionkit.imaging.reader import read_image
from visionkit.metrics.classification import ClassificationScores
from visionkit.metrics.coco_map import CocoScores
from visionkit.metrics.mean_iou import MapCounts
from visionkit.predict.coco_writer import coco_rows
from visionkit.predict.writers import save_picture


def grey_data(root: Path, side: int, boxes: list[list[int]]) -> Path:
    """Two grey pictures, each with these boxes, `light` and `dark` by turns; ids are not those of the graph."""
    rows, annotations = [], []
    for i, level in enumerate((200, 90), 1):
        save_picture(root / "images" / f"{i}.png", np.full((side, side, 3), level, np.uint8))
        rows.append({"id": i, "file_name": f"{i}.png", "width": side, "height": side})
        for label, (x1, y1, x2, y2) in enumerate(boxes):
            box = [x1, y1, x2 - x1, y2 - y1]
            of = {"image_id": i, "category_id": (2, 1)[label], "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, **of})
    names = [{"id": 2, "name": "light"}, {"id": 1, "name": "dark"}]
    (root / "annotations").mkdir()
    content = {"images": rows, "annotations": annotations, "categories": names}
    (root / "annotations" / "val.json").write_text(json.dumps(content))
    return root


def test_a_detector(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "brightness.onnx")
    data = grey_data(tmp_path / "data", 64, BOXES)
    scores = visionkit.evaluate(graph, data, threads=1, errors=True)
    # It always says both boxes, surer of one or the other.
    assert isinstance(scores, CocoScores)
    assert (scores.AP, scores.images) == (pytest.approx(1.0), 2)
    assert visionkit.compare(graph, graph, data=data, threads=1).to_json()["AP"]["difference"] == 0


def test_pictures_are_read_while_others_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[threading.Thread] = []

    def read(path: Path) -> NDArray[np.uint8]:
        readers.append(threading.current_thread())
        return read_image(path)

    monkeypatch.setattr(tiled_evaluation, "read_image", read)
    data = grey_data(tmp_path / "data", 64, BOXES)
    visionkit.evaluate(write_graph(tmp_path / "brightness.onnx"), data, threads=1)
    assert len(readers) == 2
    assert threading.main_thread() not in readers


def test_it_sees_the_tiles_its_model_learnt_from(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "tiles.onnx", text=card(recipe={"tile": 64, "overlap": 0.0}))
    # In the left upper and the right lower of four tiles of 64 px.
    data = grey_data(tmp_path / "data", 128, [[0, 0, 16, 8], [72, 72, 88, 96]])
    said: list[str] = []
    predictions = tmp_path / "of a new folder" / "predictions.json"
    in_tiles = visionkit.evaluate(graph, data, threads=1, say=said.append, save_predictions=predictions)
    assert "Tiles of 64 px, overlapping by 0, as trained" in said
    assert isinstance(in_tiles, CocoScores)
    whole = visionkit.evaluate(graph, data, threads=1, tile=0)
    # Seen whole, all that it says is twice as large.
    assert (whole.AP, in_tiles.AP > 0.2) == (0, True)  # type: ignore[union-attr]
    model, truth = visionkit.load(graph, threads=1), read_coco(data / "annotations" / "val.json")
    rows = []
    for record in truth.images:
        (result,) = model.detect(data / "images" / record.file_name, conf=0.001)
        rows += [row["bbox"] for row in coco_rows(result, record.id)]
    assert [row["bbox"] for row in json.loads(predictions.read_text())] == rows


def test_a_classifier(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "classes.onnx", "classify")
    for name, levels in (("light", (200, 250, 90)), ("dark", (10, 20, 30))):
        for level in levels:
            picture = np.full((20, 30, 3), level, np.uint8)
            save_picture(tmp_path / "data" / "val" / name / f"{level}.png", picture)
    scores = visionkit.evaluate(graph, tmp_path / "data", threads=1)
    assert isinstance(scores, ClassificationScores)
    # The light one of level 90 is taken for dark: 90 / 255 is below a half.
    assert scores.accuracy == pytest.approx(5 / 6)


def test_a_segmenter(tmp_path: Path) -> None:
    # Its two classes are red and green: of a red block red has more, of grey noise either.
    graph = write_graph(tmp_path / "maps.onnx", "segment")
    data = write_masks(tmp_path / "data", {"val": 2}, names=("light", "dark"))
    for file in (data / "masks" / "val").iterdir():
        labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(file), np.where(labels == 2, 0, labels))
    scores = visionkit.evaluate(graph, data, threads=1)
    val = with_background(read_split(find_layout(data), "val"))
    model, counts = visionkit.load(graph, threads=1), MapCounts(val.classes, boundaries=True, intervals=True)
    for record in val.images:
        (result,) = model.detect(data / "images" / "val" / record.file_name)
        assert result.semantic is not None
        counts.add(semantic_map(record, val.classes), result.semantic)
    assert scores == counts.scores()


def test_what_a_graph_has_not(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "brightness.onnx")
    data = grey_data(tmp_path / "data", 64, BOXES)
    for options, words in (
        ({"task": "segm"}, f"{graph} is a yolo, task segm compares masks of objects; use task bbox"),
        (
            {"calibrate": tmp_path / "new.safetensors"},
            f"{graph} is an exported graph, and --calibrate writes a model's file; calibrate that and export it",
        ),
        (
            {"amp": True},
            f"amp is for models in PyTorch, {graph} is an exported graph; leave it out, or give the .safetensors file "
            "that it was exported from",
        ),
    ):
        with pytest.raises(UsageError) as error:
            visionkit.evaluate(graph, data, **options)  # type: ignore[arg-type]
        assert str(error.value) == words
    newer = write_graph(tmp_path / "newer.onnx", text=card(recipe={"model": "yolo", "invented": 3}))
    with pytest.raises(
        CheckpointError, match=r"newer\.onnx has a recipe this version cannot read \(invented\); update"
    ):
        visionkit.evaluate(newer, data)
