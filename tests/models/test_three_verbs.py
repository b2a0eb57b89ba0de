"""Every model is asked alike: the three verbs take the same arguments, and its class says what is known before."""

import inspect
from typing import Any, get_args

import pytest
import torch
from torch import nn

from visionkit.backbones.csp_light import CspLight
from visionkit.build import MODELS, build_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.models.assembly import frame_multiple_of, levels_of, loss_names_of, unknown_loss, unpadded_sizes
from visionkit.models.rcnn import Rcnn
from visionkit.types import Level, Target, Task

each_model = pytest.mark.parametrize("kind", MODELS.values(), ids=MODELS)


@each_model
def test_forward_and_loss_take_the_same_of_all(kind: type[nn.Module]) -> None:
    forward = inspect.signature(kind.forward).parameters
    assert list(forward) == ["self", "images", "sizes", "targets", "proposals"]
    assert [forward[name].default for name in ("sizes", "targets", "proposals")] == [None] * 3
    if kind is not Rcnn:  # which is fitted instead
        assert list(inspect.signature(kind.loss).parameters) == ["self", "outputs", "targets"]


@each_model
def test_predict_may_be_asked_the_same_of_all(kind: type[nn.Module]) -> None:
    of_self, outputs, *options = inspect.signature(kind.predict).parameters.values()
    assert (of_self.name, outputs.name) == ("self", "outputs")
    assert [option.name for option in options if option.name != "candidates"] == ["score", "iou", "max_det", "masks"]
    # By name only, and each has a value of the model's own.
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in options)
    assert all(option.default is not inspect.Parameter.empty for option in options)


@each_model
def test_a_class_says_what_is_known_before_one_is_built(kind: type[nn.Module]) -> None:
    assert kind.task in get_args(Task)
    assert all(type(fact) is bool for fact in (kind.says_masks, kind.wants_proposals, kind.weighs_classes, kind.snug))
    model = kind(CspLight(), 3)
    buffers = dict(model.named_buffers())
    assert ("class_weights" in buffers) == kind.weighs_classes
    assert not kind.weighs_classes or buffers["class_weights"].tolist() == [1, 1, 1]


def test_who_says_masks_wants_proposals_and_weighs_classes() -> None:
    assert [name for name, kind in MODELS.items() if kind.says_masks] == ["yolo-masks", "mask-rcnn"]
    assert [name for name, kind in MODELS.items() if kind.wants_proposals] == ["fast-rcnn"]
    assert [name for name, kind in MODELS.items() if kind.weighs_classes] == ["fcn32s", "fcn16s", "fcn8s"]


def test_detectors_that_look_at_every_place_alike_are_snug() -> None:
    # Cells of yolov1 say shares of the whole square; what is fed by proposals, classifies or segments keeps to squares.
    snug = ["yolo", "yolo-masks", "faster-rcnn", "retinanet", "mask-rcnn"]
    assert {name for name, kind in MODELS.items() if kind.snug} == set(snug)
    assert frame_multiple_of(MODELS["yolo"](CspLight(), 3)) == 32
    assert frame_multiple_of(MODELS["yolov1"](CspLight(), 3)) is None


FURTHER_LOSSES: dict[str, dict[str, Any]] = {
    "classifier with auxiliary heads": {"model": "classifier", "backbone": "googlenet"},
    "fcn8s with an auxiliary head": {"model": "fcn8s", "auxiliary": True},
    "fcn8s with two losses": {"model": "fcn8s", "semantic_loss": "dice + 0.5*lovasz", "auxiliary": True},
    "fcn8s that adds features": {"model": "fcn8s", "skip_width": 32, "auxiliary": True},
    "yolo-masks with other losses": {"model": "yolo-masks", "mask_loss": "dice + focal"},
    "mask-rcnn with two losses": {"model": "mask-rcnn", "mask_loss": "bce + 0.5*dice"},
}


@pytest.mark.parametrize(
    "options", [*({"model": name} for name in MODELS), *FURTHER_LOSSES.values()], ids=[*MODELS, *FURTHER_LOSSES]
)
def test_a_model_names_the_parts_of_its_loss_before_it_has_one(options: dict[str, Any]) -> None:
    model = build_model(Recipe(**options), ClassTable((3, 17), ("car", "cat")))
    if isinstance(model, Rcnn):  # which is fitted instead
        assert loss_names_of(model) == ()
        return
    boxes = torch.tensor([[4.0, 6, 40, 44]])
    semantic, masks = torch.zeros(64, 64, dtype=torch.uint8), torch.ones(1, 28, 28, dtype=torch.uint8)
    truth = [Target(boxes, torch.tensor([1]), torch.tensor([False]), semantic, masks)] * 2
    for mode in (True, False):
        outputs = model.train(mode)(torch.zeros(2, 3, 64, 64), targets=truth, proposals=[boxes] * 2)
        assert loss_names_of(model) == tuple(model.loss(outputs, truth).parts)


def test_a_name_that_no_loss_has() -> None:
    names = ("class", "box")
    assert unknown_loss({}, names) == unknown_loss({"box": 2.0, "class": 0.0}, names) == ""
    assert unknown_loss({"box": 2.0, "boxx": 1.0}, names) == (
        "train.loss_weights has 'boxx', the losses of this model are class, box; name these"
    )


def test_sizes_are_those_that_are_known_or_the_images() -> None:
    images = torch.zeros(2, 3, 32, 64)
    assert unpadded_sizes(images, None) == ((32, 64), (32, 64))
    assert unpadded_sizes(images, [(30, 64), (32, 7)]) == ((30, 64), (32, 7))
    assert unpadded_sizes(images[:0], None) == ()


def test_levels_are_those_that_a_part_publishes() -> None:
    assert levels_of(CspLight())[-1] == Level(CspLight().levels[-1].channels, 32)
