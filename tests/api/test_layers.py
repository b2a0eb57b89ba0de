"""The unit table of every model on every backbone that it goes with."""

from contextlib import suppress

import pytest
import torch
from torch import nn

from visionkit.api.layers import layers
from visionkit.build import BACKBONES, MODELS
from visionkit.errors import UsageError
from visionkit.models.assembly import run_whole
from visionkit.nn.squeeze_excitation import SqueezeExcitation
from visionkit.nn.units import unit_rows


def empty_backbone(name: str) -> nn.Module:
    """All of it is zero, which takes no time to draw."""
    with torch.device("meta"):
        backbone = BACKBONES[name]()
    backbone.to_empty(device="cpu")
    for tensor in (*backbone.parameters(), *backbone.buffers()):
        tensor.data.zero_()
    return backbone


@pytest.mark.parametrize("name", BACKBONES)
def test_every_model_on_this_backbone(name: str) -> None:
    backbone = empty_backbone(name)
    gated = any(isinstance(module, SqueezeExcitation) for module in backbone.modules())
    tables = {}
    for model, make in MODELS.items():
        with suppress(UsageError):  # how a model says that it does not go with a backbone
            network = make(backbone, 3)
            tables[model] = unit_rows(network, network.units, 64, run=run_whole)
    assert tables
    for model, rows in tables.items():
        if model == "rcnn":  # its backbone sees regions, each warped to a square
            assert not {of_map.stride for row in rows for of_map in row.maps} - {None}
            continue
        assert [row.number for row in rows] == list(range(len(rows)))
        shares = [row.share for row in rows]
        assert shares == sorted(shares)
        assert shares[-1] == 1
        for row in rows:
            assert row.maps
            # What learns multiplies, but for a norm by itself, which no unit is.
            assert (row.parameters > 0) == (row.multiply_adds > 0)
            regions = [of_map for of_map in row.maps if of_map.count != 1]
            assert {of_map.receptive_field for of_map in regions} <= {"global", None}
            if regions:
                part = (model, row.name.split(".")[0])
                assert part in {
                    *((f"{kind}-rcnn", "head") for kind in ("fast", "faster", "mask")),
                    ("mask-rcnn", "mask"),
                }
            # A classifier decides by the average over the last map.
            whole = gated or (model == "classifier" and row.name.startswith("head."))
            for of_map in set(row.maps) - set(regions):
                assert of_map.receptive_field is not None
                assert whole or of_map.receptive_field != "global"
        of_backbone = [row for row in rows if row.name.startswith("backbone.")]
        last = of_backbone[-1].maps[-1]
        assert last.stride == backbone.levels[-1].stride
        assert (last.receptive_field == "global") == gated
        # Fields and strides only grow on the way through a backbone.
        if not gated:
            sides = [row.maps[0].receptive_field for row in of_backbone]
            assert sides == sorted(sides)


def test_what_a_weights_file_and_a_name_give_together() -> None:
    found = layers("yolo", backbone="resnet18", freeze_specs=["10"], imgsz=64, classes=3)
    assert (found.name, found.image_size, found.regions) == ("yolo/resnet18", 64, None)
    assert found.parameters == sum(row.parameters for row in found.rows)
    assert found.multiply_adds == sum(row.multiply_adds for row in found.rows)
    assert [row.frozen for row in found.rows] == [True] * 10 + [False] * (len(found.rows) - 10)
    assert found.sentence.startswith("Frozen 10 of 18 units, ")


def test_regions_are_counted() -> None:
    found = layers("faster-rcnn", imgsz=64, classes=3)
    assert found.regions is not None
    tower, class_predictor, _ = found.rows[-3:]
    assert tower.maps[0].shape == (256,)
    # 256 features of each region to 3 classes and background.
    assert class_predictor.multiply_adds == found.regions * 256 * 4
    assert found.masks is None
    # Proposals from outside are as many.
    assert layers("fast-rcnn", imgsz=64, classes=3).regions == 300


def test_masks_are_counted_of_detections() -> None:
    found = layers("mask-rcnn", imgsz=64, classes=3)
    assert found.masks == 100  # the most that there may be
    # 64 channels of 28 x 28 cells to a mask of each class.
    assert found.rows[-1].multiply_adds == 100 * 28 * 28 * 64 * 3


def test_rcnn_is_told_by_a_region_of_an_image() -> None:
    # Its backbone sees regions alone, each as a square of 96 px, whatever the image.
    of_regions, of_images = layers("rcnn", imgsz=640, classes=3), layers("classifier", imgsz=96, classes=3)
    assert (of_regions.name, of_regions.region, of_regions.regions) == ("rcnn/csp-light", 96, None)
    backbone = [row for row in of_images.rows if row.name.startswith("backbone.")]
    assert [(row.name, row.maps, row.multiply_adds) for row in of_regions.rows] == [
        (row.name, row.maps, row.multiply_adds) for row in backbone
    ]
    assert of_regions.parameters == sum(row.parameters for row in backbone)
    assert of_regions.rows[-1].share == 1
    # 192 channels in quarters are 768 features: their mean and one scale; of each class an SVM of 769, regressors of
    # 4 * 769, and 2 numbers that make a margin a probability.
    assert of_regions.fitted == 768 + 1 + 3 * (769 + 4 * 769 + 2)
    assert (of_images.region, of_images.fitted) == (None, 0)
