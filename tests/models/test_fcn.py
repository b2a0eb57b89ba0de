"""FCN: scores of every pixel, from one map or several; torchvision's is one of them."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from visionkit.backbones.csp_light import CspLight
from visionkit.backbones.lenet import lenet5
from visionkit.backbones.resnet import resnet18, resnet50
from visionkit.backbones.unit_maps import UnitMaps
from visionkit.build import BACKBONES
from visionkit.errors import CheckpointError, ConfigError, UsageError
from visionkit.models.fcn import AUXILIARY_WEIGHT, Fcn
from visionkit.models.fcn_head import FcnOutputs
from visionkit.models.torchvision_fcn import fcn_resnet50, from_torchvision_fcn
from visionkit.types import Level, Target


def images(side: int = 64, count: int = 2) -> Tensor:
    return torch.randint(256, (count, 3, side, side), dtype=torch.uint8)


def target(labels: Tensor) -> Target:
    nothing = torch.zeros(0)
    return Target(nothing.view(0, 4), nothing.long(), nothing.bool(), labels.to(torch.uint8))


# the network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finest", [8, 16, 32])
def test_every_pixel_gets_a_score_for_each_class(finest: int) -> None:
    outputs = Fcn(CspLight(), 5, finest=finest).eval()(torch.zeros(2, 3, 64, 96))
    assert outputs.logits.shape == (2, 5, 64, 96)
    assert outputs.auxiliary is None


@pytest.mark.parametrize("backbone", sorted(set(BACKBONES) - {"lenet5"}))
def test_it_is_built_on_every_backbone_that_has_the_levels(backbone: str) -> None:
    with torch.device("meta"):
        outputs = Fcn(BACKBONES[backbone](), 3)(torch.zeros(2, 3, 64, 64))
    assert outputs.logits.shape == (2, 3, 64, 64)


def test_a_backbone_without_the_levels_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        Fcn(lenet5(), 3, finest=16)
    assert str(error.value) == (
        "model fcn16s needs a backbone with maps of stride 16, but this one has 2, 4; choose another"
    )


def test_a_backbone_of_one_map_has_none_for_an_auxiliary_head() -> None:
    backbone = UnitMaps(resnet18(), {"layer4.1": Level(512, 32)})
    assert Fcn(backbone, 3, finest=32).eval()(images()).logits.shape == (2, 3, 64, 64)
    with pytest.raises(UsageError) as error:
        Fcn(backbone, 3, finest=32, auxiliary=True)
    assert str(error.value) == (
        "an auxiliary head scores the map before the last, and this backbone gives one map; leave auxiliary at false, "
        "or use another"
    )


def test_a_size_that_does_not_fit_is_refused_with_one_that_does() -> None:
    with pytest.raises(UsageError, match="image size must be divisible by 32, got 60x64; use 64x64"):
        Fcn(CspLight(), 3)(torch.zeros(1, 3, 60, 64))


def test_more_classes_than_labels_are_refused() -> None:
    with pytest.raises(UsageError, match="tells at most 255 classes apart, got 256; merge some"):
        Fcn(CspLight(), 256)


def test_a_fresh_finer_model_says_what_the_coarse_one_says_smoothly() -> None:
    # Skips start at zero (section 4.2), so what differs is only how the coarse scores are made larger: where they are
    # flat, inside of a constant image, not at all.
    coarse, fine = Fcn(CspLight(), 3, finest=32).eval(), Fcn(CspLight(), 3, finest=8).eval()
    fine.load_state_dict({k: v for k, v in coarse.state_dict().items() if "enlarge" not in k}, strict=False)
    x = torch.full((1, 3, 256, 256), 90.0)
    with torch.no_grad():
        a, b = coarse(x).logits, fine(x).logits
    assert all(parameter.abs().max() == 0 for parameter in fine.head.skips.parameters())
    torch.testing.assert_close(a.mean(), b.mean(), rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(a[..., 112:144, 112:144], b[..., 112:144, 112:144], rtol=0.05, atol=5e-3)


def test_scores_of_a_map_reach_the_pixels_of_its_cells() -> None:
    # One skip alone, of a map of one channel that is 1 in a single cell: its peak lies where the cell lies.
    model = Fcn(resnet18(), 1)
    for parameter in model.head.parameters():
        nn.init.zeros_(parameter) if parameter.ndim == 1 or parameter.shape[-1] < 4 else None
    nn.init.ones_(model.head.skips[1].weight)
    maps = [torch.zeros(1, c, s, s) for c, s in ((128, 8), (256, 4), (512, 2))]
    maps[0][0, 0, 5, 2] = 1
    said = model.head.eval()(maps).logits[0, 0]
    assert said[44, 20] > 0.85  # the centre of the cell in row 5, column 2: (5.5, 2.5) * 8
    assert said[40:48, 16:24].sum() > 0.5 * said.sum()
    assert said.sum().item() == pytest.approx(64, rel=1e-4)  # 8 x 8 pixels of 1


@pytest.mark.parametrize(
    ("learnt", "kernels"),
    [("skips", ["upsample.0.weight", "upsample.1.weight"]), ("none", [])],
)
def test_transposed_convolutions_learn_as_asked(learnt: str, kernels: list[str]) -> None:
    head = Fcn(CspLight(), 3, learnt_upsampling=learnt).head  # type: ignore[arg-type]
    assert [n for n, _ in head.named_parameters() if n.startswith(("upsample", "enlarge"))] == kernels
    assert [n for n in head.state_dict() if n.startswith("enlarge")] == ["enlarge.weight"]


def test_all_transposed_convolutions_can_learn() -> None:
    assert "enlarge.weight" in dict(Fcn(CspLight(), 3, learnt_upsampling="all").head.named_parameters())


def test_units_are_those_of_the_backbone_then_the_head_and_hold_every_parameter() -> None:
    model = Fcn(CspLight(), 3, auxiliary=True)
    names = [unit.name for unit in model.units]
    assert names[10:] == ["head.coarse", "head.skips", "head.upsample", "head.auxiliary"]
    in_units = [p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()]
    assert len(in_units) == len(set(in_units))
    assert set(in_units) == set(model.parameters())


@pytest.mark.parametrize("auxiliary", [True, False])
def test_class_rows_are_all_that_depends_on_the_number_of_classes(auxiliary: bool) -> None:
    one, other = (Fcn(CspLight(), k, auxiliary=auxiliary) for k in (3, 5))
    shapes = {name: value.shape for name, value in other.state_dict().items()}
    differing = {name for name, value in one.state_dict().items() if value.shape != shapes[name]}
    assert differing == set(one.class_rows)
    assert all(shapes[name][0] == 5 for name in differing)


# loss and predict -----------------------------------------------------------------------------------------------------


def test_the_loss_is_that_of_the_judged_pixels() -> None:
    model = Fcn(CspLight(), 2)
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1, 0, 0] = 100
    # Three of four pixels are judged: one right beyond doubt, one wrong by 100, one undecided (log 2).
    labels = torch.tensor([[1, 1], [0, 255]])
    logits[0, 0, 0, 1] = 100
    parts = model.loss(FcnOutputs(logits), [target(labels)]).parts
    assert list(parts) == ["cross-entropy"]
    assert parts["cross-entropy"].item() == pytest.approx((0 + 100 + 0.693147) / 3, rel=1e-5)


def test_losses_add_up_by_name_and_factor() -> None:
    model = Fcn(CspLight(), 2, semantic_loss="cross-entropy + 0.5*dice")
    outputs = FcnOutputs(torch.randn(2, 2, 8, 8))
    truth = [target(torch.randint(2, (8, 8))) for _ in range(2)]
    parts = model.loss(outputs, truth).parts
    whole = Fcn(CspLight(), 2, semantic_loss="dice").loss(outputs, truth).parts
    assert list(parts) == ["cross-entropy", "dice"]
    torch.testing.assert_close(parts["dice"], 0.5 * whole["dice"])


def test_the_auxiliary_head_is_judged_at_full_size_and_counts_less() -> None:
    model = Fcn(CspLight(), 2, auxiliary=True)
    truth = [target(torch.ones(8, 8))]
    flat = torch.zeros(1, 2, 8, 8)
    parts = model.loss(FcnOutputs(flat, torch.zeros(1, 2, 1, 1)), truth).parts
    assert parts["auxiliary"].item() == pytest.approx(AUXILIARY_WEIGHT * 0.693147, rel=1e-5)
    outputs = model(images(count=1))
    assert outputs.auxiliary.shape == (1, 2, 4, 4)


def test_class_weights_are_in_the_loss_and_not_in_the_file() -> None:
    model = Fcn(CspLight(), 2)
    model.class_weights.copy_(torch.tensor([1.0, 3.0]))
    logits = torch.zeros(1, 2, 1, 2)
    logits[0, 0] = 2.0  # of class 0 by 2: losses log(1 + e^-2) = 0.126928 and 2.126928
    parts = model.loss(FcnOutputs(logits), [target(torch.tensor([[0, 1]]))]).parts
    assert parts["cross-entropy"].item() == pytest.approx((0.126928 + 3 * 2.126928) / 4, rel=1e-4)
    assert "class_weights" not in model.state_dict()


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match="semantic_loss must be a sum of cross-entropy, focal, dice, lovasz, "):
        Fcn(CspLight(), 2, semantic_loss="iou")


def test_predicting_takes_the_highest_score() -> None:
    logits = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])
    (said,) = Fcn(CspLight(), 2).predict(FcnOutputs(logits), score=0.25, iou=0.7, max_det=300)
    assert said.labels.tolist() == [[0, 1]]
    assert said.labels.dtype == torch.uint8


def test_predictions_do_not_depend_on_the_training_flag_beyond_the_layers_own() -> None:
    model = Fcn(CspLight(), 3, auxiliary=True)
    assert type(model.train()(images())) is type(model.eval()(images())) is FcnOutputs


def test_it_learns_one_picture_by_heart() -> None:
    torch.manual_seed(0)
    picture = torch.full((2, 3, 64, 64), 60, dtype=torch.uint8)
    picture[:, :, 16:48, 16:48] = 200
    truth = [target((picture[0, 0] > 100).long())] * 2
    model = Fcn(CspLight(), 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.loss(model(picture), truth).total
        loss.backward()
        optimizer.step()
    (said, _) = model.predict(model(picture))
    assert (said.labels == truth[0].semantic).float().mean() > 0.97


# torchvision's --------------------------------------------------------------------------------------------------------


def randomised(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return network.eval()


@pytest.mark.parametrize("auxiliary", [True, False])
def test_torchvisions_weights_give_torchvisions_scores(auxiliary: bool) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    )
    randomised(theirs)
    ours = fcn_resnet50(21, auxiliary=auxiliary).eval()
    ours.load_state_dict(from_torchvision_fcn(theirs.state_dict(), auxiliary=auxiliary))
    x = images(96)
    with torch.no_grad():
        said, wanted = ours(x), theirs(ours.normalize(x))
    torch.testing.assert_close(said.logits, wanted["out"], rtol=1e-5, atol=1e-5)
    if auxiliary:
        full = nn.functional.interpolate(said.auxiliary, (96, 96), mode="bilinear", align_corners=False)
        torch.testing.assert_close(full, wanted["aux"], rtol=1e-5, atol=1e-5)
    else:
        assert said.auxiliary is None


def test_foreign_weights_are_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match=r"a tensor 'fc.weight', which torchvision's fcn_resnet50 has not"):
        from_torchvision_fcn({"fc.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"the weights have no classifier.4.bias"):
        from_torchvision_fcn({"backbone.conv1.weight": torch.zeros(1)})


@pytest.mark.parametrize(("dilated", "sides"), [(0, (8, 4, 2)), (1, (8, 4, 4)), (2, (8, 8, 8))])
def test_a_dilated_resnet_keeps_its_size(dilated: int, sides: tuple[int, ...]) -> None:
    with torch.device("meta"):
        network = resnet50(dilated=dilated)
        maps = network(torch.zeros(1, 3, 64, 64))
    assert tuple(m.shape[-1] for m in maps) == sides
    assert tuple(64 // level.stride for level in network.levels) == sides
