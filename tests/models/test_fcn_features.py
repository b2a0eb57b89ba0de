"""FCN with one skip more, and with features added in place of scores."""

from typing import Any

import pytest
import torch
from torch import nn

from visionkit.backbones.csp_light import CspLight
from visionkit.backbones.googlenet import GoogLeNet
from visionkit.backbones.resnet import resnet18
from visionkit.build import build_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.errors import ConfigError, UsageError
from visionkit.models.fcn import Fcn, Fcn8s
from visionkit.models.fcn_features import FeatureHead
from visionkit.nn.upsample import BilinearUpsample
from visionkit.types import Target

WIDE: dict[str, Any] = {"fine_skip": True, "skip_width": 16}
OPTIONS: tuple[dict[str, Any], ...] = ({"fine_skip": True}, {"skip_width": 16}, WIDE)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("auxiliary", [False, True])
def test_every_pixel_gets_a_score_for_each_class(options: dict[str, Any], auxiliary: bool) -> None:
    outputs = Fcn8s(CspLight(), 5, auxiliary=auxiliary, **options).eval()(torch.zeros(2, 3, 64, 96))
    assert outputs.logits.shape == (2, 5, 64, 96)
    assert (outputs.auxiliary is not None) == auxiliary


def test_the_fine_skip_reads_the_map_of_stride_4() -> None:
    head = Fcn8s(CspLight(), 5, fine_skip=True).head
    assert head.places == (2, 1, 0)
    assert [skip.in_channels for skip in head.skips] == [128, 64, 32]  # strides 16, 8, 4
    assert [upsample.factor for upsample in (*head.upsample, head.enlarge)] == [2, 2, 2, 4]


def test_a_fresh_fine_skip_changes_no_score_but_how_they_are_enlarged() -> None:
    # Its scores start at zero: twice and four times as large is eight times as large, where maps are flat.
    plain, fine = Fcn8s(CspLight(), 3).eval(), Fcn8s(CspLight(), 3, fine_skip=True).eval()
    fine.backbone.load_state_dict(plain.backbone.state_dict())
    fine.head.coarse.load_state_dict(plain.head.coarse.state_dict())
    x = torch.full((1, 3, 256, 256), 90.0)
    with torch.no_grad():
        a, b = plain(x).logits, fine(x).logits
    torch.testing.assert_close(a[..., 112:144, 112:144], b[..., 112:144, 112:144], rtol=0.05, atol=5e-3)


def test_stripes_of_4_pixels_can_be_told_only_with_the_fine_skip() -> None:
    # Every cell of stride 8 has the same left half and the same right half: its map is flat, and so is what is made of
    # it. The backbone is random and stays so; what is learnt is the head.
    torch.manual_seed(0)
    backbone = CspLight()
    truth = (torch.arange(64) % 8 >= 4).to(torch.uint8).expand(64, 64)
    nothing = torch.zeros(0)
    target = Target(nothing.view(0, 4), nothing.long(), nothing.bool(), truth)
    missed = []
    for fine in (False, True):
        model = Fcn8s(backbone, 2, fine_skip=fine, skip_width=16).train()
        with torch.no_grad():
            maps = model.backbone(model.normalize((60 + 140 * truth).expand(1, 3, 64, 64)))
        optimizer = torch.optim.AdamW(model.head.parameters(), lr=1e-2)
        for _ in range(30):
            optimizer.zero_grad()
            model.loss(model.head(maps), [target]).total.backward()
            optimizer.step()
        (said,) = model.predict(model.head.eval()(maps))
        missed.append((said.labels != truth).float().mean().item())
    assert missed[0] > 0.2
    assert missed[1] < 0.05


@pytest.mark.parametrize("options", OPTIONS)
def test_units_hold_every_parameter(options: dict[str, Any]) -> None:
    model = Fcn8s(CspLight(), 3, auxiliary=True, **options)
    in_units = [p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()]
    assert len(in_units) == len(set(in_units))
    assert set(in_units) == set(model.parameters())
    assert [unit.name for unit in model.units[:10]] == [f"backbone.{unit.name}" for unit in CspLight().units]


def test_units_of_the_wide_head() -> None:
    names = [unit.name for unit in Fcn8s(CspLight(), 3, **WIDE).units[10:]]
    assert names == ["head.coarse", "head.skips", "head.mix", "head.scores", "head.upsample"]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("auxiliary", [True, False])
def test_class_rows_are_all_that_depends_on_the_number_of_classes(options: dict[str, Any], auxiliary: bool) -> None:
    one, other = (Fcn8s(CspLight(), k, auxiliary=auxiliary, **options) for k in (3, 5))
    shapes = {name: value.shape for name, value in other.state_dict().items()}
    differing = {name for name, value in one.state_dict().items() if value.shape != shapes[name]}
    assert differing == set(one.class_rows)
    assert all(shapes[name][0] == 5 for name in differing)


def test_each_sum_is_mixed_and_the_last_one_scored() -> None:
    # One map of 1 at stride 16, the coarsest 2 at stride 32; all convolutions pass on what they get, once.
    model = Fcn(resnet18(), 1, finest=16, skip_width=1)
    head = model.head.eval()
    assert isinstance(head, FeatureHead)
    with torch.no_grad():
        for module in head.modules():
            if isinstance(module, nn.Conv2d):
                middle = module.kernel_size[0] // 2
                module.weight.zero_()[:, 0, middle, middle] = 1
            elif isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
        head.scores[1].bias.zero_()
    maps = [torch.zeros(1, 128, 4, 4), torch.zeros(1, 256, 2, 2), torch.zeros(1, 512, 1, 1)]
    maps[1][0, 0, 0, 0] = 1
    maps[2][0, 0] = 2
    # Hard swish x * min(x + 3, 6) / 6: of 2 it is 2 * 5 / 6 = 5/3; then of 5/3 + 1 = 8/3, and of 5/3 alone.
    swish = [x * min(x + 3, 6) / 6 for x in (8 / 3, 5 / 3)]
    said = head(maps).logits[0, 0]
    assert said.shape == (32, 32)
    assert said[0, 0].item() == pytest.approx(swish[0], rel=1e-5)
    assert said[-1, -1].item() == pytest.approx(swish[1], rel=1e-5)


def test_scores_are_enlarged_in_single_precision() -> None:
    model = Fcn8s(CspLight(), 3, **WIDE).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model(torch.zeros(1, 3, 64, 64)).logits.dtype == torch.float32


# recipes --------------------------------------------------------------------------------------------------------------

CLASSES = ClassTable((3, 17), ("car", "cat"))


def test_a_recipe_names_them() -> None:
    model = build_model(Recipe(model="fcn8s", fine_skip=True, skip_width=24, learnt_upsampling="all"), CLASSES)
    assert isinstance(model.head, FeatureHead)
    assert model.head.scores[1].in_channels == 24
    assert model.head.enlarge.factor == 4
    learnt = [m for m in model.modules() if isinstance(m, BilinearUpsample) and list(m.parameters())]
    assert len(learnt) == 4


@pytest.mark.parametrize(
    ("model", "option", "left"),
    [
        ("yolo", {"fine_skip": True}, "false"),
        ("fcn16s", {"fine_skip": True}, "false"),
        ("fcn32s", {"skip_width": 16}, "own"),
        ("retinanet", {"learnt_upsampling": "all"}, "own"),
    ],
)
def test_models_without_them_refuse_them(model: Any, option: dict[str, Any], left: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_model(Recipe(model=model, **option), CLASSES)
    name = next(iter(option))
    assert str(error.value) == f"model {model} has no option {name}; leave {name} at {left}"


def test_a_backbone_without_the_finer_map_is_refused() -> None:
    with pytest.raises(UsageError, match="the backbone gives no map of stride 4 beside its own; use another, such as"):
        Fcn8s(GoogLeNet(), 3, fine_skip=True)


@pytest.mark.parametrize("width", [0, 4, 12, 1024, "wide"])
def test_a_width_is_own_or_channels_that_8_divides(width: Any) -> None:
    with pytest.raises(ValueError, match="input should be 'own', or channels from 8 to 512 that 8 divides"):
        Recipe(skip_width=width)
