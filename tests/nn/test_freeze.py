"""Freezing: which units each spec means, every refusal, and that frozen units keep every byte through training."""

import copy
import hashlib
import io
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.backbones.resnet import resnet18
from visionkit.errors import UsageError, VisionkitError
from visionkit.nn.freeze import freeze, frozen_sha256, prove_frozen, select_units
from visionkit.types import Unit

BACKBONE = [f"backbone.{unit.name}" for unit in resnet18().units]
UNITS = [Unit(name, (name,)) for name in (*BACKBONE, "neck.down", "neck.up", "head.classes", "head.boxes")]
FORMS = "a count (10), a range (0-9), a list (0,1,2), a name or glob (backbone), all-but-head or none"


# What a spec means ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("specs", "numbers"),
    [
        # UNITS: 0 stem, 1 maxpool, 2-3 layer1, 4-5 layer2, 6-7 layer3, 8-9 layer4, 10-11 neck, 12-13 head
        (["10"], range(10)),
        (["13"], range(13)),
        (["0"], []),
        (["0-9"], range(10)),
        (["5-5"], [5]),
        (["0,1,2"], [0, 1, 2]),
        (["7, 3 ,3"], [3, 7]),
        (["0-1,head,5"], [0, 1, 5, 12, 13]),
        (["backbone"], range(10)),
        (["backbone.stem"], [0]),
        (["backbone.layer3"], [6, 7]),
        (["backbone.layer3.1"], [7]),
        (["backbone.layer[12]*"], [2, 3, 4, 5]),
        (["backbone.layer[12]"], [2, 3, 4, 5]),
        (["*.layer4.?"], [8, 9]),
        (["all-but-head"], range(12)),
        (["none"], []),
        ([], []),
        (["2", "backbone.layer4", "neck.up"], [0, 1, 8, 9, 11]),
        (["none", "1"], [0]),
        ([" 2 "], [0, 1]),
    ],
)
def test_spec(specs: list[str], numbers: Sequence[int]) -> None:
    assert select_units(UNITS, specs) == tuple(numbers)


def test_a_name_does_not_match_the_middle_of_another() -> None:
    units = [Unit(name, ()) for name in ("backbone.layer1.0", "backbone.layer10.0", "head.x")]
    assert select_units(units, ["backbone.layer1"]) == (0,)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["14"], "--freeze 14 must be below the number of units, 14, or nothing is left to train; use 13 or less"),
        (["300"], "--freeze 300 must be below the number of units, 14, or nothing is left to train; use 13 or less"),
        (["-1"], f"--freeze -1 is negative, but units are counted from 0 at the input; give {FORMS}"),
        (["2,-3"], f"--freeze -3 is negative, but units are counted from 0 at the input; give {FORMS}"),
        (["9-0"], "--freeze 9-0 runs backwards, but a range is FIRST-LAST; use 0-9"),
        (["0-14"], "--freeze 0-14 names unit 14, which does not exist; use numbers 0 to 13"),
        (["3,99"], "--freeze 99 names unit 99, which does not exist; use numbers 0 to 13"),
        ([""], f"--freeze '' has an empty entry; give {FORMS}"),
        (["1,,2"], f"--freeze '1,,2' has an empty entry; give {FORMS}"),
        (["1.5"], f"--freeze 1.5 matches no unit; give {FORMS}"),
        (["§!"], f"--freeze §! matches no unit; give {FORMS}"),
        (["layer3"], "--freeze layer3 matches no unit; did you mean backbone.layer3?"),
        (["bakbone"], "--freeze bakbone matches no unit; did you mean backbone?"),
        (
            ["backbone.layer3.0.conv1"],
            "--freeze backbone.layer3.0.conv1 matches no unit; units freeze whole, use backbone.layer3.0",
        ),
        (["10", "xyz"], f"--freeze xyz matches no unit; give {FORMS}"),
        (
            ["all-but-head", "head"],
            "--freeze all-but-head head covers all 14 units and leaves nothing to train; "
            "leave out at least one, as all-but-head does",
        ),
        (
            ["*"],
            "--freeze * covers all 14 units and leaves nothing to train; leave out at least one, as all-but-head does",
        ),
    ],
)
def test_refused_spec(specs: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        select_units(UNITS, specs)
    assert str(caught.value) == message
    assert caught.value.exit_code == 2
    # The command line shows the unit table beside the message.
    (note,) = caught.value.__notes__
    assert note.splitlines()[0] == "  0  backbone.stem"
    assert note.splitlines()[13] == " 13  head.boxes"


# A network in which everything that could move does -------------------------------------------------------------------


class Block(nn.Module):
    """Convolution, norm, and a dropout that reads its parent's flag instead of being a module."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.drop(F.relu(self.norm(self.conv(x)))), 0.5, self.training)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Block(3, 4)
        self.middle = nn.ModuleList([Block(4, 4), Block(4, 4)])
        self.last = Block(4, 2)
        self.units = (Unit("first", ("first",)), Unit("middle", ("middle",)), Unit("last", ("last",)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.middle:
            x = block(x)
        return self.last(x)


def make_net() -> Net:
    torch.manual_seed(0)
    return Net()


def train(model: nn.Module, steps: int = 3, seed: int = 1) -> None:
    """SGD with everything that can move a weight, given all parameters, frozen ones included."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    torch.manual_seed(seed)
    for _ in range(steps):
        model.train()
        model(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_frozen_units_keep_every_byte_and_the_rest_moves() -> None:
    model = make_net()
    frozen = freeze(model, model.units, (0, 1))
    before, sha256 = snapshot(model), frozen_sha256(model, frozen)
    train(model)
    prove_frozen(sha256, frozen_sha256(model, frozen))
    assert moved(model, before) == {name for name in before if name.startswith("last.")}
    assert set(frozen.parameters) | set(frozen.buffers) == {name for name in before if not name.startswith("last.")}


def test_without_freezing_everything_moves() -> None:
    # The check of the check: the same training moves each tensor when nothing holds it.
    model = make_net()
    before = snapshot(model)
    train(model)
    assert moved(model, before) == set(before)


def test_norms_and_dropout_of_frozen_units_are_off_in_train_mode() -> None:
    model = make_net()
    freeze(model, model.units, (0, 1))
    images = torch.randn(2, 3, 8, 8)
    model.train()
    x = model.middle[1](model.middle[0](model.first(images)))
    # Two dropouts of one half in each of three blocks would make two runs differ.
    torch.testing.assert_close(x, model.middle[1](model.middle[0](model.first(images))), rtol=0, atol=0)
    assert not any(module.training for module in model.first.modules())
    assert model.training
    assert model.last.training


def test_eval_then_train_again_still_holds() -> None:
    model = make_net()
    frozen = freeze(model, model.units, (0,))
    sha256 = frozen_sha256(model, frozen)
    model.eval()
    model(torch.randn(2, 3, 8, 8))
    model.train()
    model.first.norm.train()
    train(model, 1)
    assert frozen_sha256(model, frozen) == sha256


def test_a_module_put_into_a_frozen_block_later_is_held_by_the_block() -> None:
    # `convert_sync_batchnorm` replaces modules in this way; the newcomer has no hook of its own.
    model = make_net()
    freeze(model, model.units, (0,))
    model.first.norm = nn.BatchNorm2d(4)
    train(model)
    assert model.first.norm.num_batches_tracked == 0


def test_a_gradient_from_before_freezing_is_not_applied() -> None:
    model = make_net()
    model(torch.randn(2, 3, 8, 8)).mean().backward()
    frozen = freeze(model, model.units, (0,))
    sha256 = frozen_sha256(model, frozen)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert frozen_sha256(model, frozen) == sha256


def test_a_deep_copy_is_frozen_too() -> None:
    model = make_net()
    frozen = freeze(model, model.units, (0, 1))
    twin = copy.deepcopy(model)
    before, sha256 = snapshot(twin), frozen_sha256(model, frozen)
    train(twin)
    assert frozen_sha256(twin, frozen) == sha256
    assert moved(twin, before) == {name for name in before if name.startswith("last.")}


def test_a_pickled_model_is_frozen_too() -> None:
    model = make_net()
    frozen = freeze(model, model.units, (0, 1))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    twin = torch.load(file, weights_only=False)
    train(twin)
    assert frozen_sha256(twin, frozen) == frozen_sha256(model, frozen)


def test_resume_gives_the_same_bytes_and_stays_frozen() -> None:
    model = make_net()
    frozen = freeze(model, model.units, (0, 1))
    sha256 = frozen_sha256(model, frozen)
    train(model, 2)
    # A new process: build anew, load what was saved, freeze by the same spec.
    torch.manual_seed(99)
    resumed = Net()
    resumed.load_state_dict(snapshot(model))
    again = freeze(resumed, resumed.units, (0, 1))
    assert again == frozen
    train(resumed, 2)
    assert frozen_sha256(resumed, again) == sha256


def test_loading_weights_into_a_frozen_model_keeps_it_frozen() -> None:
    model = make_net()
    frozen = freeze(model, model.units, (0, 1))
    torch.manual_seed(99)
    model.load_state_dict(Net().state_dict(), assign=True)
    sha256 = frozen_sha256(model, frozen)
    train(model)
    assert frozen_sha256(model, frozen) == sha256


def test_compiled_training_holds_without_a_graph_break() -> None:
    model = make_net()
    frozen = freeze(model, model.units, (0, 1))
    sha256 = frozen_sha256(model, frozen)
    train(torch.compile(model, backend="eager", fullgraph=True))
    assert frozen_sha256(model, frozen) == sha256


def test_a_frozen_model_exports() -> None:
    model = make_net()
    freeze(model, model.units, (0, 1))
    images = torch.randn(2, 3, 8, 8)
    exported = torch.export.export(model.eval(), (images,)).module()
    torch.testing.assert_close(exported(images), model(images))


def test_frozen_units_save_the_work_of_their_gradients() -> None:
    model = make_net()
    freeze(model, model.units, (0, 1))
    assert not model.middle[1](model.first(torch.randn(1, 3, 8, 8))).requires_grad


def test_handles_take_the_hold_off() -> None:
    model = make_net()
    frozen = freeze(model, model.units, (0,))
    for handle in frozen.handles:
        handle.remove()
    model.train()
    model(torch.randn(2, 3, 8, 8))
    assert model.first.norm.training
    assert model.first.norm.num_batches_tracked == 1


# The record and its sentence ------------------------------------------------------------------------------------------


class Detector(nn.Module):
    """ResNet-18 with neck and head of 1.72 M parameters: the numbers of the sentence in the documentation."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = resnet18()
        self.neck = nn.ModuleDict({"down": nn.Linear(1000, 859), "up": nn.Linear(1000, 859)})
        self.head = nn.ModuleDict({"classes": nn.Linear(1, 1), "boxes": nn.BatchNorm1d(8)})
        units = [Unit(f"backbone.{u.name}", tuple(f"backbone.{m}" for m in u.modules)) for u in self.backbone.units]
        self.units = (*units, *UNITS[10:])


def test_the_sentence() -> None:
    model = Detector()
    frozen = freeze(model, model.units, select_units(model.units, ["10"]))
    # 11,176,512 of 11,176,512 + 2 * 859 * 1001 + 2 + 16 = 12,896,248: 86.66 %
    assert frozen.sentence() == "Frozen 10 of 14 units, 11.18 M of 12.90 M parameters (86.7 %), 20 norm layers held"
    assert (frozen.frozen_elements, frozen.all_elements) == (11_176_512, 12_896_248)
    assert frozen.units == tuple(BACKBONE)
    assert {"backbone.conv1", "backbone.bn1", "backbone.layer1.0", "backbone.layer1.0.bn2"} <= set(frozen.modules)
    assert "backbone.layer1" not in frozen.modules  # it holds units, it is none
    assert "backbone.bn1.num_batches_tracked" in frozen.buffers
    assert len(frozen.parameters) == 60  # 20 convolutions, 20 norms of weight and bias
    assert len(frozen.buffers) == 60  # mean, variance and counter of 20 norms


def test_the_sentence_with_few_parameters() -> None:
    model = make_net()
    frozen = freeze(model, model.units, (0,))
    # first: 3 * 4 * 9 + 4 + 8 = 120; middle: 2 * (4 * 4 * 9 + 4 + 8) = 312; last: 4 * 2 * 9 + 2 + 4 = 78
    assert frozen.sentence() == "Frozen 1 of 3 units, 120 of 510 parameters (23.5 %), 1 norm layer held"
    nothing = freeze(make_net(), model.units, ())
    assert nothing.sentence() == "Frozen 0 of 3 units, 0 of 510 parameters (0.0 %), 0 norm layers held"


def test_a_shared_parameter_counts_once_and_is_frozen_under_both_names() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    frozen = freeze(model, [Unit("a", ("a",)), Unit("b", ("b",))], (1,))
    # 9 shared weights and one bias of 3 are frozen; the other bias trains.
    assert (frozen.frozen_elements, frozen.all_elements) == (12, 15)
    assert frozen.parameters == ("a.weight", "b.weight", "b.bias")
    assert [p.requires_grad for p in model.parameters()] == [False, True, False]


def test_nothing_left_to_train_is_refused_and_changes_nothing() -> None:
    # Only a pooling would be left: the numbers are in order, the parameters are not.
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 3, 1), "pool": nn.MaxPool2d(2)})
    units = [Unit("conv", ("conv",)), Unit("pool", ("pool",))]
    with pytest.raises(UsageError) as caught:
        freeze(model, units, (0,))
    assert str(caught.value) == "freezing 1 of 2 units leaves no parameter to train; freeze fewer"
    assert caught.value.__notes__ == ["  0  conv\n  1  pool"]
    assert all(p.requires_grad for p in model.parameters())
    assert model["conv"].training
    assert not model["conv"]._forward_pre_hooks


# The hash -------------------------------------------------------------------------------------------------------------


def _last_bit_of_a_weight(model: Net) -> None:
    with torch.no_grad():
        weight = model.first.conv.weight.view(torch.int32)
        weight[0, 0, 0, 0] ^= 1


def _a_counter(model: Net) -> None:
    model.first.norm.num_batches_tracked += 1


def _a_running_mean(model: Net) -> None:
    model.first.norm.running_mean[0] += 1


def _type(model: Net) -> None:
    model.first.norm.num_batches_tracked = model.first.norm.num_batches_tracked.to(torch.int32)


def test_the_hash_is_this_one() -> None:
    model = nn.ModuleDict({"norm": nn.BatchNorm1d(1), "rest": nn.Linear(1, 1)})
    frozen = freeze(model, [Unit("norm", ("norm",)), Unit("rest", ("rest",))], (0,))
    zero, one = bytes(4), struct.pack("<f", 1)
    expected = hashlib.sha256(
        b"norm.bias torch.float32 (1,)\n" + zero
        + b"norm.num_batches_tracked torch.int64 ()\n" + bytes(8)
        + b"norm.running_mean torch.float32 (1,)\n" + zero
        + b"norm.running_var torch.float32 (1,)\n" + one
        + b"norm.weight torch.float32 (1,)\n" + one
    )  # fmt: skip
    assert frozen_sha256(model, frozen) == expected.hexdigest()


@pytest.mark.parametrize("change", [_last_bit_of_a_weight, _a_counter, _a_running_mean, _type])
def test_the_hash_sees(change) -> None:
    model = make_net()
    frozen = freeze(model, model.units, (0,))
    before = frozen_sha256(model, frozen)
    change(model)
    after = frozen_sha256(model, frozen)
    assert after != before
    with pytest.raises(VisionkitError) as caught:
        prove_frozen(before, after)
    assert str(caught.value) == (
        f"frozen units must keep their bytes, but they changed (SHA-256 before {before}, after {after}); "
        f"do not use these weights, and report the command that made them"
    )
    assert caught.value.exit_code == 1


def test_the_hash_does_not_see_what_trains_nor_the_memory_format() -> None:
    model = make_net()
    frozen = freeze(model, model.units, (0,))
    before = frozen_sha256(model, frozen)
    with torch.no_grad():
        model.last.conv.weight += 1
    assert frozen_sha256(model.to(memory_format=torch.channels_last), frozen) == before


def test_the_hash_takes_half_precision() -> None:
    model = make_net().bfloat16()
    frozen = freeze(model, model.units, (0,))
    assert len(frozen_sha256(model, frozen)) == 64


# Two processes --------------------------------------------------------------------------------------------------------

ONE_OF_TWO = """
import sys
sys.path.insert(0, sys.argv[3])
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from test_freeze import freeze, frozen_sha256, make_net, moved, prove_frozen, snapshot, train

rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
try:
    model = make_net()
    frozen = freeze(model, model.units, (0, 1))
    before, sha256 = snapshot(model), frozen_sha256(model, frozen)
    train(DistributedDataParallel(model), seed=rank)  # different images on each rank
    prove_frozen(sha256, frozen_sha256(model, frozen))
    assert moved(model, before) == {name for name in before if name.startswith("last.")}
    print(sha256)
finally:
    dist.destroy_process_group()
"""


def test_frozen_units_survive_training_in_two_processes(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", ONE_OF_TWO]
    ranks = [
        subprocess.Popen(
            [*arguments, str(rank), str(tmp_path / "store"), str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
