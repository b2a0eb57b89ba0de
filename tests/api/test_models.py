"""The zoo is what `visionkit.build` can build, no more and no less."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from visionkit.api import models as api
from visionkit.backbones.csp_light import CspLight
from visionkit.backbones.names import BackboneName
from visionkit.build import BACKBONES, MODELS, build_model, save_model
from visionkit.classes import ClassTable
from visionkit.config import ModelName, Recipe
from visionkit.errors import UsageError
from visionkit.models.forms import FORM_PARTS

SCORES = {"AP": 0.31, "AP50": 0.5}


@pytest.fixture(scope="module")
def zoo() -> api.Zoo:
    before = torch.random.get_rng_state()
    zoo = api.zoo()
    assert torch.equal(before, torch.random.get_rng_state())  # nothing was drawn
    return zoo


def test_the_zoo_has_what_build_and_recipes_have(zoo: api.Zoo) -> None:
    assert [model.name for model in zoo.models] == list(MODELS) == list(get_args(ModelName))
    assert [backbone.name for backbone in zoo.backbones] == list(BACKBONES) == list(get_args(BackboneName))
    for entry in (*zoo.models, *zoo.backbones):
        assert len(entry.summary) > 10, f"{entry.name} needs a docstring"
        assert entry.licence == "Apache-2.0"
    assert zoo.weights[-1].name == "scratch"
    assert zoo.weights[-1].scores is None


def test_parameters_are_those_of_the_real_thing(zoo: api.Zoo) -> None:
    table = ClassTable(tuple(range(80)), tuple(map(str, range(80))))
    network = build_model(Recipe(model="yolo", backbone="csp-light"), table)
    sizes = {model.name: model.parameters for model in zoo.models}
    assert sizes["yolo"]["csp-light"] == sum(math.prod(p.shape) for p in network.parameters())
    sizes_of_backbones = {backbone.name: backbone.parameters for backbone in zoo.backbones}
    # Torchvision's ResNet-18 has 11,689,512; its classifier, left out here, 512 x 1000 + 1000 of them.
    assert sizes_of_backbones["resnet18"] == 11_689_512 - 513_000
    assert "lenet5" not in sizes["yolo"]  # its stride ends at 4


def test_a_combination_that_a_model_refuses_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(backbone: nn.Module, classes: int) -> nn.Module:
        """Takes the light backbone only."""
        if not isinstance(backbone, CspLight):
            raise UsageError("picky goes with csp-light only; choose that")
        return nn.Linear(10, classes)

    monkeypatch.setattr(api, "MODELS", {"picky": picky})
    monkeypatch.setattr(api, "BACKBONES", {"csp-light": CspLight, "resnet18": BACKBONES["resnet18"]})
    (model,) = api.zoo().models
    assert model.parameters == {"csp-light": 10 * 80 + 80}
    assert model.refused == {"resnet18": "picky goes with csp-light only"}


def test_published_weights_are_listed_with_their_licence_and_where_they_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from visionkit.cli.models import models

    monkeypatch.setenv("COLUMNS", "118")
    monkeypatch.setenv("VISIONKIT_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "vgg16-397923af.pth").touch()
    weights = api._imagenet()
    assert weights.name == "imagenet"
    assert "BSD-3-Clause" in weights.licence
    assert "non-commercial" in weights.licence
    assert {file.backbone for file in weights.published} < set(BACKBONES)
    assert [file.backbone for file in weights.published if file.cached] == ["vgg16"]
    assert {len(file.sha256) for file in weights.published} == {8, 64}
    monkeypatch.setattr(api, "zoo", lambda: api.Zoo((), (), (weights,)))
    models()
    rows = [" ".join(row.split()) for row in capsys.readouterr().out.splitlines()]
    assert "resnet18 top1 0.698 47 MB resnet18-f37072fd.pth" in rows
    assert "vgg16 top1 0.716 553 MB vgg16-397923af.pth, in the cache" in rows
    assert "accuracy from torchvision's documentation; nothing of it was measured here." in " ".join(rows)
    models(json_=True)
    (found,) = json.loads(capsys.readouterr().out)["weights"]
    assert found["published"][10]["url"] == "https://download.pytorch.org/models/resnet18-f37072fd.pth"


def test_whole_models_are_listed_with_what_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from visionkit.cli.models import models

    monkeypatch.setenv("COLUMNS", "118")
    monkeypatch.setenv("VISIONKIT_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "fcn_resnet50_coco-1167a1af.pth").touch()
    weights = api._published_models()
    assert weights.name == "torchvision:NAME"
    assert "CC BY 4.0" in weights.licence
    assert {(file.model, file.backbone) for file in weights.published} == set(FORM_PARTS.values())
    monkeypatch.setattr(api, "zoo", lambda: api.Zoo((), (), (weights,)))
    models()
    text = capsys.readouterr().out
    rows = [" ".join(row.split()) for row in text.splitlines()]
    assert "maskrcnn_resnet50_fpn 178 MB mask-rcnn/resnet50 AP 0.379, mask_AP 0.346" in rows
    assert "fcn_resnet50 142 MB fcn8s/resnet50 mIoU 0.605, in the cache" in rows
    assert "Scores from torchvision's documentation; nothing of it was measured here." in " ".join(rows)
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("# Model card\n\n**Licence:** Apache-2.0, but for the photos\n", "Apache-2.0, but for the photos"),
        ("- License: CC BY 4.0.\n", "CC BY 4.0"),
        ("Nothing is said.\n", "as its model card says"),
    ],
)
def test_the_bundled_model_shows_its_card(
    card: str, licence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in-the-box.safetensors"
    recipe, classes = Recipe(), ClassTable((1, 2), ("cat", "dog"))
    save_model(path, build_model(recipe, classes), classes, recipe, SCORES)
    monkeypatch.setattr(api, "bundled_weights", lambda: path)
    monkeypatch.setattr(api, "bundled_model_card", lambda: card)
    (first,) = api._bundled()
    assert (first.name, first.summary) == ("default", "the bundled model, in-the-box")
    assert (first.model, first.classes, first.licence) == ("yolo/csp-light", ("cat", "dog"), licence)
    assert first.scores == SCORES
    assert first.scores_from == "the validation split of its training data; its model card says more"


def test_the_command_tells_all_of_it(
    zoo: api.Zoo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from visionkit.cli.models import models

    in_the_box = api.Weights(
        "default", "the bundled model", "CC0", "yolo/csp-light", ("cat", "dog"), SCORES, "its card"
    )
    monkeypatch.setattr(api, "zoo", lambda: replace(zoo, weights=(in_the_box, *zoo.weights)))
    models(json_=True)
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["models"]] == list(MODELS)
    assert set(found["models"][0]["parameters"]) <= set(BACKBONES)
    assert found["weights"][0]["scores"] == SCORES
    models()
    text = " ".join(capsys.readouterr().out.split())
    for name in (*MODELS, *BACKBONES, "default", "scratch"):
        assert f" {name} " in text, name
    assert "yolo/csp-light, 2 classes: cat, dog. AP 0.310, AP50 0.500, from its card. Licence: CC0." in text
    assert "csp-light 0.90 1.89 1.99 1.58" in text  # alone, yolo, yolo-masks, yolov1
    assert "lenet5 0.05 - -" in text  # its levels are too fine
    # Why not, and those together that say the same.
    assert "lenet5 yolo, yolo-masks: needs a backbone with maps of stride 8, 16, 32, but this one has 2, 4." in text
    assert "lenet5 yolov1, fcn32s: needs a backbone with maps of stride 32, but this one has 2, 4." in text


def test_every_pair_goes_together_or_says_why_not(zoo: api.Zoo) -> None:
    for model in zoo.models:
        assert {*model.parameters, *model.refused} == set(BACKBONES)
        assert not set(model.parameters) & set(model.refused)
    refused = {model.name: model.refused for model in zoo.models}
    assert refused["yolov1"] == {
        "lenet5": "model yolov1 needs a backbone with maps of stride 32, but this one has 2, 4"
    }
    assert refused["classifier"] == {}


@pytest.mark.parametrize("columns", [60, 80, 118, 300])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_lost(
    columns: int, zoo: api.Zoo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from visionkit.cli.models import models

    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(api, "zoo", lambda: zoo)
    models()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= min(columns, 118)
    # Of each table the heads, and the numbers of one backbone, in the order of the models whatever the width.
    begun = next(i for i, line in enumerate(lines) if line.startswith("Which go together"))
    tables = [line.split() for line in lines[begun:]]
    heads = [words for words in tables if words and set(words) <= {"alone", *MODELS}]
    assert [name for words in heads for name in words] == ["alone", *MODELS]
    numbers = [word for words in tables if words[0] == "resnet18" for word in words[1:]]
    assert numbers[0] == "11.18"
    assert numbers[1:] == [f"{model.parameters['resnet18'] / 1e6:.2f}" for model in zoo.models]
