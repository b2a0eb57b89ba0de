"""The classifier: outputs, loss and decisions by hand, every backbone, and GoogLeNet's heads half way."""

import copy
import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from visionkit.backbones.csp_light import CspLight
from visionkit.backbones.googlenet import GoogLeNet
from visionkit.backbones.lenet import lenet5
from visionkit.backbones.names import BackboneName
from visionkit.build import BACKBONES
from visionkit.errors import ConfigError, UsageError
from visionkit.models.classifier import AUXILIARY_WEIGHT, Classifier, ClassifierOutputs
from visionkit.types import Level, Target, Unit


class Pixels(nn.Module):
    """A backbone without weights, whose last map is the picture itself."""

    levels = (Level(3, 1),)
    units: tuple[Unit, ...] = ()

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (images,)


def pictures(count: int, side: int = 64) -> Tensor:
    return torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def of_class(label: int, side: int = 64) -> Target:
    return Target(torch.tensor([[0.0, 0, side, side]]), torch.tensor([label]), torch.tensor([False]))


def outputs_of(*probabilities: list[float]) -> ClassifierOutputs:
    return ClassifierOutputs(torch.tensor(probabilities).log(), ())


# forward --------------------------------------------------------------------------------------------------------------


def test_the_logits_are_a_linear_map_of_the_mean_of_the_last_map() -> None:
    model = Classifier(Pixels(), 2).eval()
    with torch.no_grad():
        model.head.linear.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2.0, 1.0]]))
        model.head.linear.bias.copy_(torch.tensor([0.0, 0.5]))
    images = pictures(2, side=4)
    red, green, blue = model.normalize(images).mean((2, 3)).unbind(1)
    torch.testing.assert_close(model(images).logits, torch.stack((red, 2 * green + blue + 0.5), 1))


def test_a_fresh_classifier_finds_all_classes_about_as_likely() -> None:
    torch.manual_seed(0)
    probabilities = Classifier(CspLight(), 4).eval()(pictures(3)).logits.softmax(1)
    assert (probabilities - 1 / 4).abs().max() < 0.1


def test_a_batch_equals_a_loop() -> None:
    torch.manual_seed(0)
    model, images = Classifier(CspLight(), 3).eval(), pictures(3)
    one_by_one = torch.cat([model(image[None]).logits for image in images])
    torch.testing.assert_close(model(images).logits, one_by_one, rtol=1e-4, atol=1e-5)


def test_dropout_is_for_training() -> None:
    torch.manual_seed(0)
    model = Classifier(Pixels(), 2, dropout=0.5)
    images = pictures(1)
    assert len({model(images).logits[0, 0].item() for _ in range(20)}) > 1
    model.eval()
    assert torch.equal(model(images).logits, model(images).logits)


def test_a_side_that_the_stride_does_not_divide() -> None:
    with pytest.raises(UsageError) as error:
        Classifier(CspLight(), 2)(pictures(1, side=48))
    assert str(error.value) == "image size must be divisible by 32, got 48x48; use 64x64"


# loss -----------------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_cross_entropy() -> None:
    model = Classifier(Pixels(), 2, label_smoothing=0.0)
    losses = model.loss(outputs_of([0.75, 0.25], [0.5, 0.5]), [of_class(0), of_class(1)])
    assert list(losses.parts) == ["class"]
    assert losses.total.item() == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)


def test_smoothed_labels_by_hand() -> None:
    # A smoothing of 0.2 over two classes asks for 0.9 and 0.1.
    model = Classifier(Pixels(), 2, label_smoothing=0.2)
    loss = model.loss(outputs_of([0.75, 0.25]), [of_class(0)]).total.item()
    assert loss == pytest.approx(-(0.9 * math.log(0.75) + 0.1 * math.log(0.25)))
    best = model.loss(outputs_of([0.9, 0.1]), [of_class(0)]).total.item()
    surer = model.loss(outputs_of([0.99, 0.01]), [of_class(0)]).total.item()
    assert best < loss
    assert best < surer  # to be too sure is a mistake


def test_the_loss_is_the_one_that_is_named_and_smoothed_likewise() -> None:
    # (1 - 3/4)² of the cross-entropy that 0.9 and 0.1 are asked for by.
    model = Classifier(Pixels(), 2, label_smoothing=0.2, class_loss="softmax-focal")
    loss = model.loss(outputs_of([0.75, 0.25]), [of_class(0)]).total.item()
    assert loss == pytest.approx(-(0.9 * math.log(0.75) + 0.1 * math.log(0.25)) / 16)
    with pytest.raises(ConfigError) as error:
        Classifier(Pixels(), 2, class_loss="hinge")
    assert str(error.value) == (
        "class_loss of classifier must be one of cross-entropy, softmax-focal, got hinge; choose one of these"
    )


def test_the_loss_reaches_every_weight() -> None:
    torch.manual_seed(0)
    model = Classifier(GoogLeNet(), 3)
    model.loss(model(pictures(2)), [of_class(0), of_class(2)]).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.head.linear.weight.grad is not None
    assert model.head.linear.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", get_args(BackboneName))
def test_every_backbone_classifies(name: BackboneName) -> None:
    torch.manual_seed(0)
    model = Classifier(BACKBONES[name](), 3)
    with torch.no_grad():
        outputs = model(pictures(2))
        losses = model.loss(outputs, [of_class(1), of_class(0)])
    assert outputs.logits.shape == (2, 3)
    assert list(losses.parts) == (["class", "auxiliary"] if name == "googlenet" else ["class"])
    assert losses.total.isfinite()


# predict --------------------------------------------------------------------------------------------------------------


def test_the_best_class_and_those_that_score_enough() -> None:
    model = Classifier(Pixels(), 3)
    (found,) = model.predict(outputs_of([0.3, 0.6, 0.1]), score=0.25)
    assert found.labels.tolist() == [1, 0]
    torch.testing.assert_close(found.scores, torch.tensor([0.6, 0.3]))
    (found,) = model.predict(outputs_of([0.3, 0.6, 0.1]), score=0.7)
    assert found.labels.tolist() == [1]  # the best always
    (found,) = model.predict(outputs_of([0.3, 0.6, 0.1]), score=0.0, max_det=2)
    assert found.labels.tolist() == [1, 0]


def test_of_equal_scores_the_lower_label_first() -> None:
    (found,) = Classifier(Pixels(), 4).predict(ClassifierOutputs(torch.zeros(1, 4), ()), score=0.0)
    assert found.labels.tolist() == [0, 1, 2, 3]


def test_no_image_at_all() -> None:
    model = Classifier(Pixels(), 2).eval()
    assert model.predict(model(pictures(0))) == []


# GoogLeNet's auxiliary heads ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def googlenet() -> Classifier:
    torch.manual_seed(0)
    return Classifier(GoogLeNet(), 5).eval()


def test_the_paper_s_heads_read_behind_4a_and_4d(googlenet: Classifier) -> None:
    assert list(googlenet.head.auxiliary) == ["inception4a", "inception4d"]
    images = pictures(1)
    x = googlenet.backbone.renormalize(googlenet.normalize(images))
    expected = []
    for unit in googlenet.backbone.units:
        x = googlenet.backbone.get_submodule(unit.name)(x)
        if unit.name in googlenet.head.auxiliary:
            expected.append(googlenet.head.auxiliary[unit.name](x))
    outputs = googlenet(images)
    assert len(outputs.auxiliary) == 2
    for ours, theirs in zip(outputs.auxiliary, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_their_loss_counts_three_tenths(googlenet: Classifier) -> None:
    outputs = googlenet(pictures(1))
    parts = googlenet.loss(outputs, [of_class(2)]).parts
    alone = [googlenet.loss(ClassifierOutputs(logits, ()), [of_class(2)]).total for logits in outputs.auxiliary]
    assert AUXILIARY_WEIGHT == 0.3
    torch.testing.assert_close(parts["auxiliary"], 0.3 * (alone[0] + alone[1]))


def test_a_copy_has_heads_of_its_own(googlenet: Classifier) -> None:
    copied = copy.deepcopy(googlenet)
    with torch.no_grad():
        copied.head.auxiliary["inception4a"].fc2.bias += 1
    images = pictures(1)
    torch.testing.assert_close(copied(images).auxiliary[0], googlenet(images).auxiliary[0] + 1)


def test_no_hook_stays_behind(googlenet: Classifier) -> None:
    googlenet(pictures(1))
    with pytest.raises(UsageError):
        googlenet(pictures(1, side=33))
    assert not any(module._forward_hooks for module in googlenet.modules())


# Units ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "head"),
    [(lenet5, ["head.linear"]), (GoogLeNet, ["head.auxiliary", "head.linear"])],
    ids=["lenet5", "googlenet"],
)
def test_what_learns_belongs_to_a_unit(backbone: type[nn.Module], head: list[str]) -> None:
    model = Classifier(backbone(), 2)
    assert [unit.name for unit in model.units if unit.name.startswith("head")] == head
    in_units = {p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()}
    assert in_units == set(model.parameters())
