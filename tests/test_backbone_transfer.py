"""What a backbone takes over from the weights of a torchvision classifier."""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from visionkit.backbone_transfer import BackboneTransfer, BackboneWeights, imagenet_weights, transfer_backbone
from visionkit.backbones.checkpoints import read_torchvision
from visionkit.build import build_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.errors import CheckpointError, UsageError
from visionkit.published.weights import IMAGENET

CLASSES = ClassTable((3, 17), ("car", "cat"))
BACKBONE = "mobilenetv3-small"
PEER = "mobilenet_v3_small"

State = OrderedDict[str, Tensor]


@pytest.fixture(scope="module")
def peer() -> State:
    """The state dict of a randomly initialised torchvision model, with statistics that do something."""
    torch.manual_seed(0)
    state: State = torchvision.models.get_model(PEER, weights=None).state_dict()
    return OrderedDict(
        (name, torch.rand_like(tensor) + 0.5 if "running" in name else tensor) for name, tensor in state.items()
    )


def detector(**settings: Any) -> nn.Module:
    return build_model(Recipe(backbone=BACKBONE, imgsz=64, **settings), CLASSES)


def transfer(model: nn.Module, state: State, tmp_path: Path) -> BackboneTransfer:
    path = tmp_path / "peer.pth"
    torch.save(state, path)
    return transfer_backbone(model, BackboneWeights(BACKBONE, path, "f" * 64))


def test_the_backbone_is_loaded_the_rest_starts_fresh_and_the_classifier_is_named(peer: State, tmp_path: Path) -> None:
    model = detector()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    done = transfer(model, peer, tmp_path)
    after = model.state_dict()
    assert {*done.loaded, *done.reinitialised} == set(after)
    for name in done.loaded:
        assert torch.equal(after[name], peer[name.removeprefix("backbone.")]), name
    for name in done.reinitialised:
        assert name.split(".")[0] in ("neck", "head")
        assert torch.equal(after[name], before[name]), name
    assert done.unused == ("classifier.0.weight", "classifier.0.bias", "classifier.3.weight", "classifier.3.bias")
    assert len(done.loaded) + len(done.unused) == len(peer)


def test_the_table_says_what_was_loaded_fresh_and_unused_and_why(peer: State, tmp_path: Path) -> None:
    done = transfer(detector(), peer, tmp_path)
    neck, head = (sum(name.startswith(part) for name in done.reinitialised) for part in ("neck.", "head."))
    assert done.lines() == [
        f"Weights imagenet from {tmp_path / 'peer.pth'}:",
        f"  backbone    {len(peer) - 4} tensors loaded",
        f"  neck        {neck} tensors start fresh, imagenet has only the backbone",
        f"  head        {head} tensors start fresh, imagenet has only the backbone",
        "  unused      4 tensors, classifier.0.weight, classifier.0.bias, classifier.3.weight, classifier.3.bias: its "
        "classifier, over other classes",
    ]
    machine = done.to_json()
    assert machine["loaded"] == list(done.loaded)
    assert (machine["weights"], machine["sha256"]) == ("imagenet", "f" * 64)


def test_of_many_unused_tensors_the_first_are_named() -> None:
    done = BackboneTransfer("imagenet", Path("a.pth"), "", ("backbone.a",), (), tuple(f"fc.{i}" for i in range(6)))
    assert (
        done.lines()[-1]
        == "  unused      6 tensors, fc.0, fc.1, fc.2, fc.3 and 2 more: its classifier, over other classes"
    )


def test_the_network_then_gives_torchvisions_maps(peer: State, tmp_path: Path) -> None:
    model = detector().eval()
    transfer(model, peer, tmp_path)
    theirs = torchvision.models.get_model(PEER, weights=None).eval()
    theirs.load_state_dict(peer)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = model.get_submodule("backbone")(images)[-1]
        expected = theirs.features(images)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_old_checkpoints_that_do_not_count_batches_load(peer: State, tmp_path: Path) -> None:
    old = OrderedDict((name, tensor) for name, tensor in peer.items() if not name.endswith("num_batches_tracked"))
    model = detector()
    transfer(model, old, tmp_path)
    assert torch.equal(model.state_dict()["backbone.features.0.1.running_var"], peer["features.0.1.running_var"])


def test_frozen_norms_take_the_weights_of_those_that_learn(peer: State, tmp_path: Path) -> None:
    model = detector(norm="frozen-batch")
    transfer(model, peer, tmp_path)
    assert torch.equal(model.state_dict()["backbone.features.0.1.running_var"], peer["features.0.1.running_var"])


# Each change leaves one tensor that does not fit.
MISFITS: dict[str, tuple[Callable[[State], Any], str]] = {
    "missing": (lambda state: state.pop("features.0.0.weight"), "features.0.0.weight"),
    "unknown": (lambda state: state.update({"stem.weight": torch.zeros(1)}), "stem.weight"),
    "shape": (lambda state: state.update({"features.0.1.bias": torch.zeros(17)}), "features.0.1.bias"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_mismatch_outside_the_classifier_is_an_error_and_changes_nothing(
    misfit: str, peer: State, tmp_path: Path
) -> None:
    change, name = MISFITS[misfit]
    state = peer.copy()
    change(state)
    model = detector()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        transfer(model, state, tmp_path)
    assert str(caught.value) == (
        f"weights imagenet do not fit this {BACKBONE}: 1 tensor missing, unknown or of another shape, such as "
        f"{name}; leave norm and activation at own, or give --weights scratch"
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_other_norms_than_the_weights_were_trained_with_do_not_fit(peer: State, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="leave norm and activation at own"):
        transfer(detector(norm="group"), peer, tmp_path)


def test_a_backbone_that_nobody_published() -> None:
    with pytest.raises(UsageError) as caught:
        imagenet_weights("csp-light")
    assert str(caught.value) == (
        f"weights imagenet are not published for backbone csp-light, they are for {', '.join(IMAGENET)}; name one of "
        "these by --backbone, or give --weights scratch or a file"
    )


# Files ----------------------------------------------------------------------------------------------------------------


class Runs:
    """Unpickled without care, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"weight": Runs(trace)}, path)
    with pytest.raises(CheckpointError, match=r"evil.pth is not a state dict, tensors by name"):
        read_torchvision(path)
    path.write_bytes(pickle.dumps(Runs(trace)))
    with pytest.raises(CheckpointError):
        read_torchvision(path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {}, torch.zeros(1), None])
def test_a_file_that_holds_something_else(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="is not a state dict"):
        read_torchvision(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [{"a": torch.zeros(1), "epoch": 3}, {7: torch.zeros(1)}])
def test_a_file_that_holds_more_than_tensors_by_name(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    stranger = next(repr(name) for name in content if name != "a")
    with pytest.raises(CheckpointError, match=f"must hold tensors by name and nothing else, {stranger} is not one"):
        read_torchvision(tmp_path / "a.pth")


def test_a_file_with_numbers_that_are_none(peer: State, tmp_path: Path) -> None:
    weight = peer["features.0.0.weight"].clone()  # 16 filters of 3x3 over 3 channels: 432 numbers
    weight[3] = float("inf")
    model = detector()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        transfer(model, OrderedDict(peer, **{"features.0.0.weight": weight}), tmp_path)
    assert str(error.value) == (
        f"{tmp_path / 'peer.pth'} has 27 of 432 numbers in features.0.0.weight that are NaN or infinite, weights must "
        "be finite; give the file that torchvision published"
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_old_format_of_files_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert read_torchvision(tmp_path / "a.pth")["a"].tolist() == [1, 1]
