"""`detect --why` and `evaluate --why` of every detector beside yolo, out of a file: where boxes came from, what removed
them, what learns each object."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visionkit
from tests.outspoken import outspoken
from visionkit.api.why_objects import why_objects
from visionkit.build import build_model, save_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.formats.coco import read_coco
from visionkit.models import searched_regions

CLASSES = ClassTable((3, 8), ("red block", "blue block"))
ANCHOR = {"stride", "cell", "anchor", "anchor_size", "anchor_ratio"}
PROPOSAL = {"proposal", "proposal_number", "read_stride"}
PROPOSED = {*ANCHOR, *PROPOSAL, "objectness", "objectness_logit", "background", "logit"}

# What its candidates came from, and of each stage what learns an object and where that is.
SOURCES: dict[str, tuple[set[str], dict[str, set[str]]]] = {
    "yolo-masks": ({"stride", "cell", "logit"}, {"points": {"stride", "cell"}}),
    "yolov1": ({"stride", "cell", "box_of_cell", "confidence", "class_probability"}, {"cells": {"stride", "cell"}}),
    "retinanet": ({*ANCHOR, "logit"}, {"anchors": ANCHOR}),
    "faster-rcnn": (PROPOSED, {"anchors": ANCHOR, "proposals": PROPOSAL}),
    "mask-rcnn": (PROPOSED, {"anchors": ANCHOR, "proposals": PROPOSAL}),
    "fast-rcnn": ({*PROPOSAL, "background", "logit"}, {"proposals": PROPOSAL}),
    "rcnn": ({*PROPOSAL, "margin"}, {"proposals": PROPOSAL}),
}
FED = ("fast-rcnn", "rcnn")


@pytest.fixture(scope="module", params=SOURCES)
def name(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def weights(name: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with opinions, in a file."""
    path = tmp_path_factory.mktemp("outspoken") / f"{name}.safetensors"
    recipe = Recipe(model=name, imgsz=64, warp=32 if name == "rcnn" else "own")
    torch.manual_seed(0)
    save_model(path, outspoken(build_model(recipe, CLASSES)), CLASSES, recipe, {})
    return path


@pytest.fixture(scope="module")
def proposals(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each object of the val split, somewhat displaced, and some boxes that overlap."""
    content = json.loads((tiny_data / "annotations" / "val.json").read_text())
    rows = [
        {"image_id": row["image_id"], "bbox": [row["bbox"][0] + 1, row["bbox"][1] + 1, *row["bbox"][2:]]}
        for row in content["annotations"]
    ]
    rows += [{"image_id": image["id"], "bbox": [x, 8, 30, 30]} for image in content["images"] for x in range(0, 30, 3)]
    path = tmp_path_factory.mktemp("proposals") / "val.json"
    path.write_text(json.dumps(rows))
    return path


def require_sources(candidates: list[dict[str, Any]], name: str) -> None:
    """Each says where it is from, and those that are gone which one removed them."""
    assert {"kept", "suppressed"} <= {one["fate"] for one in candidates}
    for one in candidates:
        assert set(one["from"]) == SOURCES[name][0]
        if one["fate"] == "suppressed":
            by = candidates[one["by"]]
            assert by["name"] == one["name"]
            assert by["score"] >= one["score"]
            assert one["iou"] > 0.3


def test_what_became_of_each_object(name: str, weights: Path, proposals: Path, tiny_data: Path) -> None:
    record = read_coco(tiny_data / "annotations" / "val.json").images[0]
    fed = proposals if name in FED else None
    document = why_objects(
        weights, tiny_data, record.file_name, conf=0.01, iou=0.3, proposals=fed, device="cpu", threads=1
    )
    json.dumps(document, allow_nan=False)
    require_sources(document["why"]["candidates"], name)
    assert len(document["objects"]) == len(record.annotations) == 2
    learning = 0
    for one in document["objects"]:
        assert one["step"]
        stages = {stage["what"]: stage for stage in one["assigned"]}
        assert list(stages) == list(SOURCES[name][1])
        for what, stage in stages.items():
            places = stage["places"]
            assert len(places) == min(50, sum(stage["positives"].values()))
            assert all(set(place) == {"iou", *SOURCES[name][1][what]} for place in places)
            overlaps = [place["iou"] for place in places]
            assert overlaps == sorted(overlaps, reverse=True)
            assert max(overlaps, default=0) <= stage["best_iou"] + 1e-3
            learning += len(places)
    assert learning
    if name in FED:  # each object has the proposal that was put beside it
        assert all(one["assigned"][0]["places"][0]["iou"] > 0.6 for one in document["objects"])


def test_what_is_kept_is_what_is_detected(
    name: str, weights: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = visionkit.load(weights, device="cpu", threads=1)
    image = tiny_data / "images" / "val_0.png"
    found = np.array([[x, 8, x + 30, 38] for x in range(0, 30, 3)], np.float32)
    monkeypatch.setattr(searched_regions, "selective_search", lambda pixels, most: found)
    options = {"conf": 0.01, "iou": 0.3, "max_det": 50}
    (plain,), (explained,) = detector.detect(image, **options), detector.detect(image, **options, why=True)
    assert explained.why is not None
    candidates = explained.why["candidates"]
    require_sources(candidates, name)
    kept = [one for one in candidates if one["fate"] == "kept"]
    assert candidates[: len(kept)] == kept
    np.testing.assert_allclose([one["bbox"] for one in kept], plain.boxes, atol=0.006)
    np.testing.assert_allclose([one["score"] for one in kept], plain.scores, atol=1e-5)
