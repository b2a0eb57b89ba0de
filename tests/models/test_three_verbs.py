"""Every model is asked alike: the three verbs take the same arguments, and its class says what is known before."""

import inspect
from typing import get_args

import pytest
import torch
from torch import nn

from visionkit.backbones.csp_light import CspLight
from visionkit.build import MODELS
from visionkit.models.assembly import frame_multiple_of, levels_of, unpadded_sizes
from visionkit.models.rcnn import Rcnn
from visionkit.types import Level, Task

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


def test_sizes_are_those_that_are_known_or_the_images() -> None:
    images = torch.zeros(2, 3, 32, 64)
    assert unpadded_sizes(images, None) == ((32, 64), (32, 64))
    assert unpadded_sizes(images, [(30, 64), (32, 7)]) == ((30, 64), (32, 7))
    assert unpadded_sizes(images[:0], None) == ()


def test_levels_are_those_that_a_part_publishes() -> None:
    assert levels_of(CspLight())[-1] == Level(CspLight().levels[-1].channels, 32)
