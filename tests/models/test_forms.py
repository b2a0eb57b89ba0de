"""The forms that torchvision publishes weights of: built by name, and filled with torchvision's tensors."""

from typing import Any, get_args

import pytest
import torch
import torchvision
from torch import nn

from visionkit.backbones.names import BackboneName
from visionkit.build import FORMS, MODELS, build_model, published_recipe
from visionkit.classes import ClassTable
from visionkit.config import ModelName, Recipe
from visionkit.errors import ConfigError
from visionkit.models.forms import FORM_PARTS, OWN_FORM, FormName
from visionkit.models.torchvision_fcn import from_torchvision_fcn
from visionkit.models.torchvision_names import from_torchvision
from visionkit.nn.norms import FrozenBatchNorm2d

CLASSES = ClassTable((3, 17), ("car", "cat"))


def recipe(form: str, **settings: Any) -> Recipe:
    model, backbone = FORM_PARTS[form]
    return Recipe(model=model, backbone=backbone, form=form, **settings)


def test_every_name_is_an_object_and_goes_with_a_model_and_a_backbone() -> None:
    assert [*get_args(FormName)] == [OWN_FORM, *FORM_PARTS]
    assert [*FORMS] == [*FORM_PARTS]
    for model, backbone in FORM_PARTS.values():
        assert model in get_args(ModelName)
        assert backbone in get_args(BackboneName)


@pytest.mark.parametrize("form", FORM_PARTS)
def test_a_form_is_its_model_with_other_parts(form: str) -> None:
    with torch.device("meta"):
        network = build_model(recipe(form), CLASSES)
    kind = MODELS[FORM_PARTS[form][0]]
    assert isinstance(network, kind) or issubclass(kind, type(network))  # fcn8s is an Fcn with other skips
    assert network.classes == 2
    assert network.task == kind.task


@pytest.mark.parametrize("form", FORM_PARTS)
def test_published_tensors_have_all_the_names_and_shapes(form: str) -> None:
    own, classes = published_recipe(form, auxiliary=form == "fcn_resnet50")
    of_kind = torchvision.models.segmentation if form == "fcn_resnet50" else torchvision.models.detection
    theirs: dict[str, Any] = {"aux_loss": True} if form == "fcn_resnet50" else {}
    with torch.device("meta"):
        ours = build_model(own, classes)
        state = getattr(of_kind, form)(
            weights=None, weights_backbone=None, num_classes=21 if form == "fcn_resnet50" else 91, **theirs
        ).state_dict()
    if any(isinstance(module, FrozenBatchNorm2d) for module in ours.modules()):
        # torchvision's frozen norms count no batches.
        state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    if form == "fcn_resnet50":
        tensors = from_torchvision_fcn(state, auxiliary=True)
    else:
        tensors = from_torchvision(state, classes.category_ids)
    ours.load_state_dict(tensors, assign=True)  # strict: no name is missing, none too many


@pytest.mark.parametrize(
    ("form", "norm", "eps"),
    [
        ("fasterrcnn_resnet50_fpn", FrozenBatchNorm2d, 0),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", FrozenBatchNorm2d, 1e-5),
        ("fasterrcnn_resnet50_fpn_v2", nn.BatchNorm2d, 1e-5),
        ("maskrcnn_resnet50_fpn", FrozenBatchNorm2d, 0),
        ("retinanet_resnet50_fpn", FrozenBatchNorm2d, 0),
    ],
)
def test_its_norms_are_those_that_torchvision_gives_the_weights(form: str, norm: type[nn.Module], eps: float) -> None:
    with torch.device("meta"):
        norms = [m for m in build_model(recipe(form), CLASSES).backbone.modules() if isinstance(m, norm)]
        assert len(norms) > 40
        assert {module.eps for module in norms} == {eps}
        measured = build_model(recipe(form, norm="batch"), CLASSES)
        assert not any(isinstance(module, FrozenBatchNorm2d) for module in measured.modules())


def test_options_that_a_form_has_not() -> None:
    message = "form retinanet_resnet50_fpn has no option activation; leave activation at own"
    with pytest.raises(ConfigError, match=message):
        build_model(recipe("retinanet_resnet50_fpn", activation="relu"), CLASSES)


def test_first_weights_of_the_backbone() -> None:
    drawn = [
        build_model(recipe("fasterrcnn_mobilenet_v3_large_320_fpn", init=init), CLASSES).state_dict()
        for init in ("own", "xavier")
    ]
    changed = {name for name in drawn[0] if not torch.equal(drawn[0][name], drawn[1][name])}
    assert changed
    assert all(name.startswith("backbone.") for name in changed)


def test_a_form_is_named_after_itself_and_refuses_other_parts() -> None:
    assert recipe("maskrcnn_resnet50_fpn").architecture == "maskrcnn_resnet50_fpn"
    assert Recipe().architecture == "yolo/csp-light"
