"""The unit table: numbers, names, shapes, parameters, multiply-adds, fields; and that looking changes nothing."""

import torch
from torch import Tensor, nn

from visionkit.backbones.resnet import resnet18
from visionkit.nn.squeeze_excitation import SqueezeExcitation
from visionkit.nn.units import parameter_count, unit_list, unit_rows
from visionkit.types import Unit


class TwoLevels(nn.Module):
    """A trunk, a list of convolutions run one a level, a merge that returns both levels, and a list never run."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.lateral = nn.ModuleList([nn.Conv2d(4, 5, 1), nn.Conv2d(4, 6, 1)])
        self.merge = Pair()
        self.spare = nn.ModuleList()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.trunk(images)
        fine, coarse = self.merge(self.lateral[0](x), self.lateral[1](x[..., ::2, ::2]))
        return {"fine": fine, "coarse": coarse}


class Pair(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> list[dict[str, Tensor] | tuple[Tensor]]:
        return [a, b]


UNITS = tuple(Unit(name, (name,)) for name in ("trunk", "lateral", "merge", "spare"))


def test_rows_of_resnet18() -> None:
    model = resnet18()
    rows = unit_rows(model, model.units, 64, frozen={0, 1})
    assert [row.number for row in rows] == list(range(10))
    assert [row.output for row in rows] == [
        "64x32x32",  # stem: 64 / 2
        "64x16x16",  # maxpool: / 2 again
        *["64x16x16"] * 2,
        *["128x8x8"] * 2,
        *["256x4x4"] * 2,
        *["512x2x2"] * 2,
    ]
    # stem: 3 * 64 * 7 * 7 = 9,408 weights + 2 * 64 of its norm.
    assert [row.parameters for row in rows][:3] == [9_536, 0, 73_984]
    # layer1.0: two of 64 * 64 * 3 * 3 = 36,864 and two norms of 128 make 73,984.
    assert sum(row.parameters for row in rows) == 11_176_512
    assert [row.frozen for row in rows] == [True, True, *[False] * 8]
    # Of all parameters so far: 9,536 / 11,176,512, nothing more in the pooling, and in the end all.
    assert [row.share for row in rows][:3] == [9_536 / 11_176_512, 9_536 / 11_176_512, 83_520 / 11_176_512]
    assert rows[-1].share == 1
    # stem: 64 * 32 * 32 results of 3 * 7 * 7 products; layer1.0: two times 64 * 16 * 16 results of 64 * 3 * 3.
    assert [row.multiply_adds for row in rows][:3] == [9_633_792, 0, 18_874_368]
    # 7, then 2 steps of 2 px, then two times 2 steps and 2 steps of 4 px.
    assert [row.maps[0].receptive_field for row in rows][:4] == [7, 11, 27, 43]
    assert [row.maps[0].stride for row in rows] == [2, 4, 4, 4, 8, 8, 16, 16, 32, 32]
    assert [row.type for row in rows] == ["Conv2d +2", "MaxPool2d", *["BasicBlock"] * 8]
    assert rows[0].types == ("Conv2d", "BatchNorm2d", "ReLU")


def test_units_with_several_maps_lists_of_modules_and_no_call() -> None:
    rows = unit_rows(TwoLevels(), UNITS, 8)
    assert [row.output for row in rows] == ["4x8x8", "5x8x8, 6x4x4", "5x8x8, 6x4x4", ""]
    assert rows[1].shapes == ((5, 8, 8), (6, 4, 4))
    assert [row.type for row in rows] == ["Conv2d +2", "Conv2d x2", "Pair", ""]
    # 1x1 convolutions see a pixel; the second reads each other one.
    assert [[(m.receptive_field, m.stride) for m in row.maps] for row in rows] == [
        [(1, 1)], [(1, 1), (1, 2)], [(1, 1), (1, 2)], [],
    ]  # fmt: skip
    # 4 * 8 * 8 * 3; 5 * 8 * 8 * 4 and 6 * 4 * 4 * 4.
    assert [row.multiply_adds for row in rows] == [768, 1664, 0, 0]


def test_looking_changes_nothing() -> None:
    model = TwoLevels()
    model.trunk[1].eval()  # one module differs from the rest: each flag comes back as it was
    flags = {name: module.training for name, module in model.named_modules()}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    unit_rows(model, UNITS, 8)
    assert {name: module.training for name, module in model.named_modules()} == flags
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(p.grad is None for p in model.parameters())
    assert all(not module._forward_hooks for module in model.modules())


def test_flags_and_hooks_are_restored_when_the_forward_fails() -> None:
    model = TwoLevels()
    model.merge.forward = lambda a, b: 1 / 0
    try:
        unit_rows(model, UNITS, 8)
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("the model's own error must come through")
    assert model.training
    assert all(not module._forward_hooks for module in model.modules())


class Gated(nn.Module):
    """Squeeze and excitation, then the average over everything."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = SqueezeExcitation(3, 1)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.cells = nn.Flatten(2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.gate(images)
        return self.average(x), self.cells(images)


def test_fields_without_a_number() -> None:
    rows = unit_rows(Gated(), tuple(Unit(name, (name,)) for name in ("gate", "average", "cells")), 8)
    # Rows and columns of the last are one axis: there is no saying how far its cells are apart.
    assert [(row.maps[0].receptive_field, row.maps[0].stride) for row in rows] == [
        ("global", 1), ("global", None), (None, None),
    ]  # fmt: skip


def test_a_parameter_of_two_units_is_shared_out_once() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False))
    model[1].weight = model[0].weight
    rows = unit_rows(model, (Unit("a", ("0",)), Unit("b", ("1",))), 4)
    assert [(row.parameters, row.share) for row in rows] == [(9, 1), (9, 1)]


def test_a_shared_parameter_counts_once() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    # 9 shared weights and two biases of 3.
    assert parameter_count(model, Unit("both", ("a", "b"))) == 15


def test_unit_list() -> None:
    assert unit_list(UNITS[:2]) == "  0  trunk\n  1  lateral"
