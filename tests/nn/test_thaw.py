"""Gradual thawing: what each schedule means, every refusal, that thawed units move and frozen ones keep every byte."""

import copy
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from visionkit.errors import UsageError
from visionkit.nn.freeze import freeze, frozen_sha256, hold_of
from visionkit.nn.thaw import Thaw, plan_thaws, thaw, thaw_line
from visionkit.types import Unit

UNITS = [Unit(name, (name,)) for name in ("backbone.a", "backbone.b.0", "backbone.b.1", "neck.c", "head.d")]
FORM = "UNITS@EPOCH, several separated by commas, such as backbone.layer4@5,all@20"


# What a schedule means ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "planned"),
    [
        # Frozen are 0, 1 and 2.
        (["all@2"], [(2, [0, 1, 2])]),
        (["backbone.b@5,all@20"], [(5, [1, 2]), (20, [0])]),
        (["all@20,backbone.b@5"], [(5, [1, 2]), (20, [0])]),
        (["backbone.b@5", "all@20"], [(5, [1, 2]), (20, [0])]),
        (["1,2@5,0-0@20"], [(5, [1, 2]), (20, [0])]),
        ([" backbone.b.1 @ 5 , all @ 20 "], [(5, [2]), (20, [0, 1])]),
        (["2@3"], [(3, [0, 1])]),  # the first two
        (["1-2@3"], [(3, [1, 2])]),
        (["backbone.b.0@3,backbone.a@3"], [(3, [0, 1])]),
        (["backbone.?@4"], [(4, [0, 1, 2])]),  # dotted beginnings match too: backbone.b is a beginning of two
        (["all-but-head@4"], [(4, [0, 1, 2])]),
        ([], []),
    ],
)
def test_schedule(schedule: list[str], planned: list[tuple[int, Sequence[int]]]) -> None:
    assert plan_thaws(UNITS, {0, 1, 2}, schedule) == tuple(Thaw(epoch, tuple(numbers)) for epoch, numbers in planned)


def test_what_two_entries_name_thaws_at_the_earlier_epoch() -> None:
    planned = plan_thaws(UNITS, {0, 1, 2}, ["backbone.b.1@4,backbone.b@9", "all@12"])
    assert planned == (Thaw(4, (2,)), Thaw(9, (1,)), Thaw(12, (0,)))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (["backbone"], f"--unfreeze takes {FORM}; got 'backbone'"),
        (["@5"], f"--unfreeze takes {FORM}; got '@5'"),
        (["backbone@"], f"--unfreeze takes {FORM}; got 'backbone@'"),
        (["backbone@x"], f"--unfreeze takes {FORM}; got 'backbone@x'"),
        (["backbone@-5"], f"--unfreeze takes {FORM}; got 'backbone@-5'"),
        (["backbone@5.5"], f"--unfreeze takes {FORM}; got 'backbone@5.5'"),
        (["backbone@5,"], f"--unfreeze takes {FORM}; got 'backbone@5,'"),
        (["backbone.a@5backbone.b@6"], f"--unfreeze takes {FORM}; got 'backbone.a@5backbone.b@6'"),
        ([""], f"--unfreeze takes {FORM}; got ''"),
        (
            ["all@1"],
            "--unfreeze all@1 must name an epoch from 2 on, since what learns from the first is not frozen; leave it "
            "out of --freeze",
        ),
        (["neck@5"], "--unfreeze neck@5 names no frozen unit, it has nothing to thaw; name units that --freeze holds"),
        (["backbne@5"], "--unfreeze backbne matches no unit; did you mean backbone?"),
        (["7-8@5"], "--unfreeze 7-8 names unit 8, which does not exist; use numbers 0 to 4"),
        (["all@5,backbone.a@9"], "--unfreeze backbone.a@9 comes too late, its units learn before; leave it out"),
    ],
)
def test_refused_schedule(schedule: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_thaws(UNITS, {0, 1, 2}, schedule)
    assert str(caught.value) == message
    assert caught.value.exit_code == 2
    (note,) = caught.value.__notes__
    assert note.splitlines()[0] == "  0  backbone.a"


def test_without_anything_frozen_there_is_nothing_to_thaw() -> None:
    with pytest.raises(UsageError, match="--unfreeze all@5 names no frozen unit"):
        plan_thaws(UNITS, (), ["all@5"])


def test_the_line() -> None:
    assert thaw_line(Thaw(5, (1, 2)), UNITS) == (
        "Thaws at the beginning of epoch 5: 2 units, backbone.b.0, backbone.b.1"
    )
    assert thaw_line(Thaw(20, (0,)), UNITS) == "Thaws at the beginning of epoch 20: 1 unit, backbone.a"
    many = thaw_line(Thaw(2, (0, 1, 2, 3, 4)), UNITS)
    assert many.endswith("5 units, backbone.a, backbone.b.0, backbone.b.1, neck.c and 1 more")


# Letting go -----------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """Convolution, norm, dropout: everything that a hold holds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(self.conv(x)))


class Net(nn.Module):
    """Four blocks in a row, a unit each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block(3) for _ in range(4))
        self.units = tuple(Unit(f"blocks.{i}", (f"blocks.{i}",)) for i in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def learn(model: nn.Module, steps: int = 1) -> None:
    """SGD with momentum and decay, given all parameters, frozen ones included."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for step in range(steps):
        torch.manual_seed(step)
        model.train()
        model(torch.randn(4, 3, 4, 4)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def moved(model: nn.Module, before: dict[str, Tensor]) -> set[int]:
    """Numbers of the blocks of which a tensor is not what it was."""
    names = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    return {int(name.split(".")[1]) for name in names}


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_what_thaws_learns_counts_and_drops_again_and_what_stays_does_not() -> None:
    model = Net()
    first, second = hold_of(model, model.units, (0,)), hold_of(model, model.units, (1, 2))
    freeze(model, model.units, (0, 1, 2))
    before = snapshot(model)
    learn(model)
    assert moved(model, before) == {3}
    assert thaw(model, second, still=[first]) == second.parameters
    model.train()
    assert model.blocks[1].norm.training
    assert model.blocks[1].drop.training
    learn(model)
    assert moved(model, before) == {1, 2, 3}
    assert model.blocks[2].norm.num_batches_tracked == 1
    thaw(model, first)
    learn(model)
    assert moved(model, before) == {0, 1, 2, 3}
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_copy_thaws_by_itself() -> None:
    # Handles belong to the model that was frozen: a copy, as is measured for --minutes, has none.
    model = Net()
    held = hold_of(model, model.units, (0, 1))
    freeze(model, model.units, (0, 1))
    twin = copy.deepcopy(model)
    thaw(twin, held)
    before = snapshot(model)
    learn(twin)
    learn(model)
    assert moved(twin, before) == {0, 1, 2, 3}
    assert moved(model, before) == {2, 3}


def test_a_parameter_that_never_learnt_does_not_begin_to() -> None:
    model = Net()
    model.blocks[0].conv.bias.requires_grad_(False)
    held = hold_of(model, model.units, (0,))
    freeze(model, model.units, (0,))
    thaw(model, held)
    assert not model.blocks[0].conv.bias.requires_grad
    assert model.blocks[0].conv.weight.requires_grad


def test_a_parameter_shared_with_a_unit_that_stays_frozen_waits_for_it() -> None:
    model = Net()
    model.blocks[1].conv.weight = model.blocks[0].conv.weight
    first, second = hold_of(model, model.units, (0,)), hold_of(model, model.units, (1,))
    freeze(model, model.units, (0, 1))
    learning = thaw(model, second, still=[first])
    assert "blocks.1.conv.weight" not in learning
    assert not model.blocks[1].conv.weight.requires_grad
    assert model.blocks[1].conv.bias.requires_grad
    assert set(thaw(model, first)) >= {"blocks.0.conv.weight", "blocks.1.conv.weight"}
    assert model.blocks[1].conv.weight.requires_grad


@settings(max_examples=40)
@given(epochs=st.lists(st.sampled_from([None, 0, 2, 3, 4]), min_size=4, max_size=4))
def test_law_a_unit_moves_from_its_epoch_on_and_not_before(epochs: list[int | None]) -> None:
    """Each unit learns always (None), or is frozen to the end (0) or until an epoch."""
    if None not in epochs:
        epochs[3] = None
    model = Net()
    frozen = [i for i, epoch in enumerate(epochs) if epoch is not None]
    schedule = [f"{i}-{i}@{epoch}" for i, epoch in enumerate(epochs) if epoch]
    plan = plan_thaws(model.units, frozen, schedule)
    held = [hold_of(model, model.units, each.numbers) for each in plan]
    rest = hold_of(model, model.units, [i for i in frozen if not epochs[i]])
    freeze(model, model.units, frozen)
    before = snapshot(model)
    hashes = [frozen_sha256(model, each) for each in held]
    for epoch in range(1, 6):
        for number, each in enumerate(plan):
            if each.epoch == epoch:
                assert frozen_sha256(model, held[number]) == hashes[number]
                thaw(model, held[number], still=[*held[number + 1 :], rest])
        learn(model)
        learning = {i for i, begins in enumerate(epochs) if begins is None or 0 < begins <= epoch}
        assert moved(model, before) == learning
