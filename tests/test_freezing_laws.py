"""Every line printed about freezing is true, whatever the backbone, the spec and the schedule, and wherever a run was
stopped: what is frozen keeps every byte and is in no optimizer, its norms do not count, and what has thawed learns."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from visionkit.api.freezing import hold_still
from visionkit.build import BACKBONES, Model, build_model
from visionkit.classes import ClassTable
from visionkit.config import Config
from visionkit.engine.events import Thawed
from visionkit.engine.optim import set_learning_rate
from visionkit.engine.train import TrainingState
from visionkit.errors import UsageError
from visionkit.nn.fingerprint import tensors_sha256
from visionkit.nn.freeze import frozen_sha256, select_units
from visionkit.nn.norms import LayerNorm2d, SwitchableNorm2d
from visionkit.nn.thaw import plan_thaws, thaw_line
from visionkit.types import Target

CLASSES = ClassTable((1, 2), ("cat", "dog"))
EPOCHS = 3
COUNTING = (nn.BatchNorm2d, SwitchableNorm2d)
# All that the networks here have.
NORMS = (*COUNTING, LayerNorm2d)

# Light ones of each kind: partial stages, residual, squeeze and excitation, dropout, plain, and norms of another kind.
NETWORKS: list[dict[str, Any]] = [
    {"backbone": "csp-light"},
    {"backbone": "csp-light", "norm": "switchable"},
    {"backbone": "resnet18"},
    {"backbone": "mobilenetv3-small"},
    {"backbone": "csp-light", "model": "retinanet"},
    {"backbone": "nin", "model": "classifier"},
]
# One of each other family, as small as it has any.
FAMILIES = [
    "lenet5",
    "alexnet",
    "vgg11-bn",
    "googlenet",
    "se-resnet18",
    "mobilenetv3-large",
    "efficientnet-b0",
    "convnext-tiny",
]
SPECS = ["none", "1", "3", "10", "backbone", "0-2", "1,4", "backbone.*", "all-but-head", "neck", "2-5"]
SCHEDULES = ["", "all@2", "all@3", "backbone@2", "0-1@3", "1-4@2,all@4", "backbone.*@3", "all@9", "0-0@2"]


def learn(state: TrainingState, model: Model) -> None:
    """An epoch of one step on two pictures of 64 px, with an object each."""
    model.train()
    torch.manual_seed(state.step)
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    whole = model.task == "classify"
    boxes = torch.tensor([[0.0, 0, 64, 64] if whole else [8.0, 8, 40, 40]])
    targets = [Target(boxes, torch.tensor([i]), torch.zeros(1, dtype=torch.bool)) for i in range(2)]
    set_learning_rate(state.optimizer, 0.01)
    state.optimizer.zero_grad()
    model.loss(model(images, targets=targets), targets).total.backward()
    state.optimizer.step()
    state.step += 1
    state.average.update(state.step)
    state.epoch += 1


def tensors_of(model: Model, number: int) -> dict[str, Tensor]:
    """Parameters and buffers of a unit."""
    inside = tuple(f"{module}." for module in model.units[number].modules)
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(inside)}


def sha256_of(tensors: dict[str, Tensor], model: Model, numbers: Iterable[int]) -> str:
    """Of the tensors of units, as they are in `tensors`."""
    names = {name for number in numbers for name in tensors_of(model, number)}
    return tensors_sha256({name: tensors[name] for name in names})


def amount(elements: int) -> str:
    return f"{elements / 1e6:.2f} M" if elements >= 10_000 else f"{elements:,}"


def holds(network: dict[str, Any], spec: str, schedule: str, *, stopped: bool = False) -> bool:
    """Train a network for some epochs, and compare all that was said of its freezing with what became of it; False
    where it has no such units, or nothing to thaw.

    Args:
        stopped: after each epoch the run is stopped, and goes on from its saved state.
    """
    config = Config.model_validate(
        {**network, "freeze": [spec], "unfreeze": [schedule] if schedule else [], "force": True}
    )
    model = build_model(config, CLASSES)
    said: list[str] = []
    try:
        frozen = select_units(model.units, config.freeze)
        plan = plan_thaws(model.units, frozen, config.unfreeze)
        thaws = hold_still(model, config, (), said.append)
    except UsageError:
        return False
    state = TrainingState.begin(model, config.train, 1, thaws=thaws)
    thaws.seal(model)
    begins = {number: each.epoch for each in plan for number in each.numbers}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if frozen:
        assert said[0] == first_line(model, frozen)
        assert said[1:] == [
            f"Thaws at the beginning of epoch {each.epoch}: {units_in_words(model, each.numbers)}" for each in plan
        ]
    for epoch in range(1, EPOCHS + 1):
        if stopped:
            said.clear()
            model, state = gone_on_with(state, config, said)
            thaws = state.thaws
            held = [number for number in frozen if begins.get(number, epoch) >= epoch]
            assert said == [
                *([first_line(model, held)] if frozen else []),
                *(thaw_line(each, model.units) for each in plan if each.epoch >= epoch),
            ]
        events: list[Thawed] = []
        state.thaw(events.append)  # type: ignore[arg-type]
        learn(state, model)
        due = [each for each in plan if each.epoch == epoch]
        assert [event.sentence() for event in events] == [
            f"Thawed at the beginning of epoch {epoch}: {len(each.numbers)} unit{'s' * (len(each.numbers) > 1)}, "
            f"unchanged until then: SHA-256 {sha256_of(before, model, each.numbers)} before and after"
            for each in due
        ]
        still = [number for number in frozen if begins.get(number, EPOCHS + 1) > epoch]
        given = {p for group in state.optimizer.param_groups for p in group["params"]}
        assert given == {p for p in model.parameters() if p.requires_grad}
        for number in still:
            require_still(state, model, number, before, given)
        for number in set(range(len(model.units))) - set(still):
            assert set(_parameters(model, number)) <= given
            for name in model.units[number].modules:
                for norm in model.get_submodule(name).modules():
                    assert not isinstance(norm, COUNTING) or norm.training
    late = [each for each in plan if each.epoch > EPOCHS]
    assert [*thaws.prove_rest((model, state.average.model))] == [  # type: ignore[list-item]
        f"Training ended before the thaw of epoch {each.epoch}: SHA-256 {sha256_of(before, model, each.numbers)} "
        "before and after"
        for each in late
    ]
    staying = [number for number in frozen if number not in begins]
    assert (thaws.rest is not None) == bool(staying)
    if thaws.rest is not None:
        for one in (model, state.average.model):
            assert frozen_sha256(one, thaws.rest) == sha256_of(before, model, staying)  # type: ignore[arg-type]
    return True


def gone_on_with(state: TrainingState, config: Config, said: list[str]) -> tuple[Model, TrainingState]:
    """The run of a saved state, made ready to go on as `prepare` does, and what that says."""
    model = build_model(config, CLASSES)
    thaws = hold_still(model, config, (), said.append, state.thaws.done)
    again = TrainingState.begin(model, config.train, 1, thaws=thaws)
    again.restore(copy.deepcopy(state.to_dict()))
    thaws.seal(model, state.thaws.sha256)
    assert thaws.sha256 == state.thaws.sha256
    return model, again


def units_in_words(model: Model, numbers: Sequence[int]) -> str:
    names = [model.units[number].name for number in numbers]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{len(names)} unit{'s' * (len(names) != 1)}, {', '.join(names[:4])}{more}"


def first_line(model: Model, frozen: Sequence[int]) -> str:
    """What is to be said of frozen units before step 1, counted here."""
    held = sum(p.numel() for p in {p for number in frozen for p in _parameters(model, number)})
    every = sum(p.numel() for p in model.parameters())
    modules = {
        module
        for number in frozen
        for name in model.units[number].modules
        for module in model.get_submodule(name).modules()
    }
    norms = sum(isinstance(module, NORMS) for module in modules)
    return (
        f"Frozen {len(frozen)} of {len(model.units)} units, {amount(held)} of {amount(every)} parameters "
        f"({100 * held / every:.1f} %), {norms} norm layer{'s' * (norms != 1)} held"
    )


def require_still(
    state: TrainingState, model: Model, number: int, before: dict[str, Tensor], given: set[nn.Parameter]
) -> None:
    """A unit that is frozen: every byte the same in model and average, no gradient, nothing of it in the optimizer,
    and its norms and dropouts in eval although the model is in training."""
    parameters = set(_parameters(model, number))
    assert not given & parameters
    assert not set(state.optimizer.state) & parameters
    assert all(p.grad is None for p in parameters)
    for one in (model, state.average.model):
        tensors = tensors_of(one, number)  # type: ignore[arg-type]
        moved = [name for name, tensor in tensors.items() if not torch.equal(tensor, before[name])]
        assert moved == [], model.units[number].name
    assert model.training
    for name in model.units[number].modules:
        for module in model.get_submodule(name).modules():
            # A container that is never called, such as a list, has no say.
            assert not (isinstance(module, (*NORMS, nn.Dropout)) and module.training)


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(
    network=st.sampled_from(NETWORKS),
    spec=st.sampled_from(SPECS),
    schedule=st.sampled_from(SCHEDULES),
    stopped=st.booleans(),
)
def test_law_frozen_is_frozen_and_thawed_learns(
    network: dict[str, Any], spec: str, schedule: str, stopped: bool
) -> None:
    holds(network, spec, schedule, stopped=stopped)


def test_what_is_said_of_a_run_that_goes_on_is_true_too() -> None:
    assert holds(NETWORKS[0], "backbone", "0-1@2,4-4@3", stopped=True)


@pytest.mark.parametrize(("spec", "schedule"), [("backbone", "0-1@2"), ("3", "")])
@pytest.mark.parametrize("backbone", FAMILIES)
def test_the_law_holds_for_a_backbone_of_each_family(backbone: str, spec: str, schedule: str) -> None:
    assert holds({"backbone": backbone, "model": "classifier"}, spec, schedule)


def test_every_family_of_backbones_is_among_them() -> None:
    names = [*FAMILIES, *(network["backbone"] for network in NETWORKS)]
    assert {BACKBONES[name].__module__ for name in names} == {make.__module__ for make in BACKBONES.values()}


def _parameters(model: Model, number: int) -> list[nn.Parameter]:
    return [p for name in model.units[number].modules for p in model.get_submodule(name).parameters()]


@pytest.mark.parametrize("network", NETWORKS)
def test_the_check_of_the_check_without_freezing_norms_count_and_all_learns(network: dict[str, Any]) -> None:
    model = build_model(Config.model_validate(network), CLASSES)
    state = TrainingState.begin(model, Config().train, 1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learn(state, model)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    running = {name for name in before if name.startswith("backbone.") and "running" in name}
    assert running <= moved
    assert len(moved) > 0.5 * len(before)
