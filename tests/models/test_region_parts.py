"""The light parts of the R-CNN family, and the form of it that looks at a single map."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from visionkit.build import build_model, load_model, save_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.errors import ConfigError
from visionkit.models.region_parts import light_proposals
from visionkit.nn.single_map import SingleMap
from visionkit.types import Level, Target

CLASSES = ClassTable((3, 17, 18), ("car", "cat", "dog"))
LEVELS = (Level(8, 8), Level(8, 16), Level(8, 32))


def sizes_of(cells: Tensor) -> list[float]:
    """Of the anchors of a cell: roots of their areas, in whole pixels, each once."""
    width, height = (cells[:, 2:] - cells[:, :2]).unbind(1)
    square = width == height
    return sorted(width[square].tolist())


def test_one_map_has_the_anchors_of_all_levels() -> None:
    # 2.5 and 4 strides on strides 8, 16, 32 and 64.
    pyramid = light_proposals(LEVELS, (*LEVELS, Level(8, 64)))
    assert [sizes_of(cells) for cells in pyramid.cells] == [[20, 32], [40, 64], [80, 128], [160, 256]]
    single = light_proposals(LEVELS, LEVELS[1:2])
    assert [sizes_of(cells) for cells in single.cells] == [[20, 32, 40, 64, 80, 128, 160, 256]]
    assert single.objectness_predictor.out_channels == 3 * 8  # three shapes each


@pytest.mark.parametrize(
    ("name", "backbone", "stride"),
    [
        ("faster-rcnn", "csp-light", 16),
        ("mask-rcnn", "lenet5", 4),  # the coarsest that it has
        ("fast-rcnn", "lenet5", 4),
    ],
)
def test_a_detector_on_one_map_learns_and_its_file_says_the_same(
    name: Any, backbone: str, stride: int, tmp_path: Path
) -> None:
    recipe = Recipe(model=name, backbone=backbone, imgsz=64, single_level=True)
    model: Any = build_model(recipe, CLASSES).train()
    assert isinstance(model.neck, SingleMap)
    assert model.head.strides == (stride,)
    assert not any(unit.name.startswith("neck") for unit in model.units)  # where nothing is learnt
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    masks = torch.ones(1, 28, 28, dtype=torch.uint8)
    truth = [
        Target(torch.tensor([[4.0, 4, 40, 40]]), torch.tensor([2]), torch.tensor([False]), masks=masks),
        Target(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool(), masks=masks[:0]),
    ]
    proposals = [torch.tensor([[6.0, 6, 40, 44], [0, 0, 64, 64]])] * 2
    losses = model.loss(model(images, targets=truth, proposals=proposals), truth)
    assert losses.total.isfinite()
    losses.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

    expected = model.eval().predict(model(images, proposals=proposals), score=0.0, max_det=9)
    save_model(tmp_path / "best.safetensors", model, CLASSES, recipe, {})
    loaded = load_model(tmp_path / "best.safetensors")
    again: Any = loaded.model
    assert loaded.recipe.single_level
    found = again.predict(again(images, proposals=proposals), score=0.0, max_det=9)
    for one, other in zip(found, expected, strict=True):
        assert len(one.scores)
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.scores, other.scores)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "model yolo has no option single_level; leave single_level at false"),
        ({"model": "retinanet"}, "model retinanet has no option single_level; leave single_level at false"),
        (
            {"model": "mask-rcnn", "backbone": "resnet50", "form": "maskrcnn_resnet50_fpn"},
            "form maskrcnn_resnet50_fpn has no option single_level; leave single_level at false",
        ),
    ],
)
def test_who_has_no_single_level(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_model(Recipe(**settings, single_level=True), CLASSES)
    assert str(error.value) == words
