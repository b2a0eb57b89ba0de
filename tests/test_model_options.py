"""Options of a model: norm, activation and first weights of the backbone, the loss of boxes; kept in its file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

from visionkit.backbones.csp_light import CspLight
from visionkit.build import BACKBONES, MODELS, build_model, load_model, save_model
from visionkit.choices import Choices
from visionkit.classes import ClassTable
from visionkit.config import ActivationName, BoxLossName, ClassLossName, InitName, NormName, Recipe
from visionkit.engine.checkpoint import load_weights, save_weights
from visionkit.errors import ConfigError
from visionkit.nn.activations import ACTIVATIONS, Maxout
from visionkit.nn.initialise import INITIALISATIONS
from visionkit.nn.norms import NORMS, SwitchableNorm2d
from visionkit.ops.delta_losses import DELTA_LOSSES
from visionkit.ops.losses import BOX_LOSSES, CLASS_LOSSES, QUALITY_LOSSES, SCORE_LOSSES
from visionkit.transfer import transfer_weights
from visionkit.types import Target

CLASSES = ClassTable((3, 17), ("car", "cat"))
OPTIONS: dict[str, Any] = {
    "norm": "switchable",
    "activation": "maxout",
    "init": "xavier",
    "box_loss": "giou",
    "class_loss": "quality-focal",
}
OF_MASKS = {"mask_loss": "dice"}


def modules(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, kind)]


def test_every_name_is_an_object() -> None:
    for names, objects in (
        (NormName, NORMS),
        (ActivationName, ACTIVATIONS),
        (InitName, INITIALISATIONS),
        (BoxLossName, DELTA_LOSSES),
        (ClassLossName, {**SCORE_LOSSES, **CLASS_LOSSES}),
    ):
        assert get_args(names) == ("own", *objects)


@pytest.mark.parametrize("backbone", ["csp-light", "resnet18", "resnet50"])
def test_norm_and_activation_are_the_backbones_alone(backbone: Any) -> None:
    own = build_model(Recipe(backbone=backbone), CLASSES)
    model = build_model(Recipe(backbone=backbone, norm="group", activation="prelu"), CLASSES)
    assert not modules(model.backbone, nn.BatchNorm2d)
    assert len(modules(model.backbone, nn.GroupNorm)) == len(modules(own.backbone, nn.BatchNorm2d))
    assert len(modules(model.backbone, nn.PReLU)) == len(modules(own.backbone, nn.ReLU | nn.Hardswish))
    assert [str(m) for m in modules(model.head, nn.BatchNorm2d)] == [str(m) for m in modules(own.head, nn.BatchNorm2d)]
    # What learns belongs to a unit, or nothing could freeze it.
    in_units = {p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()}
    assert in_units == set(model.parameters())


@pytest.mark.parametrize("init", ["xavier", "kaiming"])
def test_first_weights_are_the_backbones_alone(init: Any) -> None:
    own, model = build_model(Recipe(), CLASSES), build_model(Recipe(init=init), CLASSES)
    assert not torch.equal(own.backbone.stem.conv.weight, model.backbone.stem.conv.weight)
    for name, tensor in own.head.class_predictors.state_dict().items():
        if name.endswith("bias"):  # the low prior of every class
            assert torch.equal(tensor, model.head.class_predictors.state_dict()[name])


def test_the_loss_of_boxes_is_the_one_that_is_named() -> None:
    images = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    # Thin and taller than the picture: no box of a fresh model holds it or lies within it, where GIoU would be IoU.
    target = Target(torch.tensor([[30.0, -200, 34, 260]]), torch.tensor([1]), torch.tensor([False]))
    losses = {}
    for name in ("own", *BOX_LOSSES):
        model = build_model(Recipe(box_loss=name), CLASSES).eval()
        losses[name] = model.loss(model(images), [target]).parts["box"].item()
    assert losses["own"] == losses["ciou"]
    assert losses["iou"] < losses["diou"] <= losses["ciou"]  # each adds a penalty
    assert len(set(losses.values())) == 4


TRUTH = Target(torch.tensor([[8.0, 10, 40, 44]]), torch.tensor([1]), torch.tensor([False]), masks=torch.ones(1, 28, 28))


def losses_of(**options: Any) -> dict[str, float]:
    """Of a fresh model on one picture."""
    model = build_model(Recipe(**options), CLASSES)
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    proposals = [torch.tensor([[10.0, 10, 40, 40], [0, 0, 20, 20]])] * 2
    parts = model.loss(model(images, targets=[TRUTH] * 2, proposals=proposals), [TRUTH] * 2).parts
    return {name: part.item() for name, part in parts.items()}


@pytest.mark.parametrize("model", ["retinanet", "faster-rcnn", "mask-rcnn", "fast-rcnn"])
def test_who_says_deltas_takes_a_loss_of_them_or_of_their_boxes(model: Any) -> None:
    found = {name: losses_of(model=model, box_loss=name) for name in get_args(BoxLossName)}
    assert found["own"] == found["smooth-l1"]
    assert all(value >= 0 for losses in found.values() for value in losses.values())
    # In both stages, where there are two.
    stages = ["box", "proposal"] if model in ("faster-rcnn", "mask-rcnn") else ["box"]
    for stage in stages:
        assert len({losses[stage] for losses in found.values()}) == len(DELTA_LOSSES)
    others = [{name: value for name, value in losses.items() if name not in stages} for losses in found.values()]
    assert others.count(others[0]) == len(others)


@pytest.mark.parametrize(
    ("model", "own", "losses"),
    [
        ("yolo", "bce", QUALITY_LOSSES),
        ("retinanet", "focal", SCORE_LOSSES),
        ("classifier", "cross-entropy", CLASS_LOSSES),
        *((f"{kind}-rcnn", "cross-entropy", CLASS_LOSSES) for kind in ("fast", "faster", "mask")),
    ],
)
def test_the_loss_of_classes_is_the_one_that_is_named(model: Any, own: str, losses: Mapping[str, Any]) -> None:
    found = {name: losses_of(model=model, class_loss=name) for name in ("own", *losses)}
    assert found["own"] == found[own]
    assert len({of_name["class"] for of_name in found.values()}) == len(losses)
    assert len({tuple(value for part, value in of_name.items() if part != "class") for of_name in found.values()}) == 1


@pytest.mark.parametrize(("model", "own"), [("yolo-masks", "bce + dice"), ("mask-rcnn", "bce")])
def test_the_losses_of_masks_are_those_that_are_named(model: Any, own: str) -> None:
    said = ("own", own, "bce", "focal", "dice", "2*focal", "bce + 0.5*dice")
    found = {sum_: losses_of(model=model, mask_loss=sum_) for sum_ in said}
    parts = {sum_: sum(of[part] for part in ("mask", "focal", "dice") if part in of) for sum_, of in found.items()}
    assert parts["own"] == parts[own]
    assert parts["2*focal"] == pytest.approx(2 * parts["focal"])
    assert parts["bce + 0.5*dice"] == pytest.approx(parts["bce"] + 0.5 * parts["dice"])
    assert len({parts[name] for name in ("bce", "focal", "dice")}) == 3
    assert len({of["box"] for of in found.values()}) == 1


@pytest.mark.parametrize("model", ["yolo-masks", "mask-rcnn"])
def test_a_loss_that_masks_do_not_have(model: Any) -> None:
    with pytest.raises(ConfigError) as error:
        build_model(Recipe(model=model, mask_loss="lovasz"), CLASSES)
    assert str(error.value) == (
        "mask_loss must be a sum of bce, focal, dice, each at most once, got 'lovasz'; for example bce + 0.5*dice"
    )


def test_a_file_remembers_the_options(tmp_path: Path) -> None:
    path, recipe = tmp_path / "best.safetensors", Recipe(imgsz=64, **OPTIONS)
    model = build_model(recipe, CLASSES).eval()
    save_model(path, model, CLASSES, recipe, {})
    loaded = load_model(path)
    assert loaded.recipe == recipe
    assert modules(loaded.model, SwitchableNorm2d)
    assert modules(loaded.model, Maxout)
    images = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(loaded.model(images).class_logits, model(images).class_logits)


def test_a_file_from_before_there_were_options_loads(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    model = build_model(Recipe(), CLASSES).eval()
    save_model(path, model, CLASSES, Recipe(), {})
    tensors, card = load_weights(path)
    for name in OPTIONS:
        del card["recipe"][name]
    for name in ("schedule", "l1", "l2", "clip_value"):
        del card["recipe"]["train"][name]
    save_weights(path, tensors, card)
    assert load_model(path).recipe == Recipe()


def test_weights_trained_with_batches_fine_tune_with_frozen_ones(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    trained = build_model(Recipe(), CLASSES)
    nn.init.uniform_(trained.backbone.stem.norm.running_mean)
    save_model(path, trained, CLASSES, Recipe(), {})
    model = build_model(Recipe(norm="frozen-batch"), CLASSES)
    transfer_weights(model, CLASSES, load_model(path))
    images = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(model.eval()(images).class_logits, trained.eval()(images).class_logits)


# Refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["norm", "activation"])
def test_an_option_that_a_backbone_lacks(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def bare() -> nn.Module:
        return CspLight()

    monkeypatch.setitem(BACKBONES, "csp-light", bare)
    with pytest.raises(ConfigError) as error:
        build_model(Recipe.model_validate({key: OPTIONS[key]}), CLASSES)
    assert str(error.value) == f"backbone csp-light has no option {key}; leave {key} at own"


@pytest.mark.parametrize(
    ("model", "option"),
    [
        ("yolov1", "box_loss"),
        ("yolov1", "class_loss"),
        ("classifier", "box_loss"),
        ("fcn8s", "class_loss"),
        ("yolo", "mask_loss"),
    ],
)
def test_an_option_that_a_model_lacks(model: Any, option: str) -> None:
    assert model in MODELS
    with pytest.raises(ConfigError) as error:
        build_model(Recipe.model_validate({"model": model, option: {**OPTIONS, **OF_MASKS}[option]}), CLASSES)
    assert str(error.value) == f"model {model} has no option {option}; leave {option} at own"


@pytest.mark.parametrize(
    ("model", "of", "option", "value", "choices"),
    [
        ("yolo", "yolo", "box_loss", "l1", "iou, giou, diou, ciou"),
        ("yolo", "yolo", "class_loss", "focal", "bce, quality-focal, varifocal"),
        ("retinanet", "retinanet", "class_loss", "cross-entropy", "bce, quality-focal, varifocal, focal, hinge"),
        ("classifier", "classifier", "class_loss", "focal", "cross-entropy, softmax-focal"),
        ("faster-rcnn", "the R-CNN head", "class_loss", "bce", "cross-entropy, softmax-focal"),
    ],
)
def test_a_loss_that_a_model_cannot_learn_by(model: str, of: str, option: str, value: str, choices: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_model(Recipe.model_validate({"model": model, option: value}), CLASSES)
    assert str(error.value) == f"{option} of {of} must be one of {choices}, got {value}; choose one of these"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            {"norm": "bach"},
            "norm = 'bach': input should be 'own', 'batch', 'frozen-batch', 'group', 'layer', 'instance', 'switchable' "
            "or 'none'",
        ),
        ({"init": "he"}, "init = 'he': input should be 'own', 'xavier' or 'kaiming'"),
        (
            {"box_loss": "l2"},
            "box_loss = 'l2': input should be 'own', 'iou', 'giou', 'diou', 'ciou', 'l1', 'smooth-l1' or 'mse'",
        ),
        (
            {"class_loss": "dice"},
            "class_loss = 'dice': input should be 'own', 'bce', 'quality-focal', 'varifocal', 'focal', 'hinge', "
            "'cross-entropy' or 'softmax-focal'",
        ),
        (
            {"train.optimizer": "lion"},
            "train.optimizer = 'lion': input should be 'muon', 'adamw', 'adam', 'sgd', 'momentum', 'nesterov', "
            "'adagrad', 'rmsprop' or 'adadelta'",
        ),
        (
            {"train.schedule": "linear"},
            "train.schedule = 'linear': input should be 'cosine', 'constant', 'step' or 'one-cycle'",
        ),
        (
            {"train.schedule": "step", "train.final_lr": 0},
            "train.schedule = 'step': steps go down to final_lr by factors, so it must be above 0; "
            "use train.final_lr=0.01",
        ),
        ({"train.l1": -1}, "train.l1 = -1: input should be greater than or equal to 0"),
        ({"train.l2": -1}, "train.l2 = -1: input should be greater than or equal to 0"),
        ({"train.clip_value": -1}, "train.clip_value = -1: input should be greater than or equal to 0"),
    ],
)
def test_what_a_recipe_refuses(values: dict[str, Any], problem: str) -> None:
    choices = Choices()
    choices.say(values, "set")
    with pytest.raises(ConfigError) as error:
        choices.config()
    assert str(error.value) == problem


def test_an_unknown_activation_lists_the_choices() -> None:
    choices = Choices()
    choices.say({"activation": "mish"}, "set")
    with pytest.raises(ConfigError, match=r"'own', 'relu', 'relu6', .*, 'swish' or 'hard-swish'$"):
        choices.config()
