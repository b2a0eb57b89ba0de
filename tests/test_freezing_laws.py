"""Every line printed about freezing is true, whatever the backbone, the spec and the schedule: what is frozen keeps
every byte and is in no optimizer, its norms do not count, and what has thawed learns."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from visionkit.api.freezing import hold_still
from visionkit.build import Model, build_model
from visionkit.classes import ClassTable
from visionkit.config import Config
from visionkit.engine.optim import set_learning_rate
from visionkit.engine.train import TrainingState
from visionkit.errors import UsageError
from visionkit.nn.freeze import select_units
from visionkit.nn.norms import SwitchableNorm2d
from visionkit.nn.thaw import plan_thaws
from visionkit.types import Target

CLASSES = ClassTable((1, 2), ("cat", "dog"))
EPOCHS = 3
COUNTING = (nn.BatchNorm2d, SwitchableNorm2d)

# Light ones of each kind: partial stages, residual, squeeze and excitation, dropout, plain, and norms of another kind.
NETWORKS: list[dict[str, Any]] = [
    {"backbone": "csp-light"},
    {"backbone": "csp-light", "norm": "switchable"},
    {"backbone": "resnet18"},
    {"backbone": "mobilenetv3-small"},
    {"backbone": "csp-light", "model": "retinanet"},
    {"backbone": "nin", "model": "classifier"},
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


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(network=st.sampled_from(NETWORKS), spec=st.sampled_from(SPECS), schedule=st.sampled_from(SCHEDULES))
def test_law_frozen_is_frozen_and_thawed_learns(network: dict[str, Any], spec: str, schedule: str) -> None:
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
        return  # units that are not there, or nothing to thaw
    state = TrainingState.begin(model, config.train, 1, thaws=thaws)
    thaws.seal(model)
    begins = {number: each.epoch for each in plan for number in each.numbers}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if frozen:
        held = sum(p.numel() for p in {p for n in frozen for p in _parameters(model, n)})
        assert said[0].startswith(f"Frozen {len(frozen)} of {len(model.units)} units, ")
        assert f"({100 * held / sum(p.numel() for p in model.parameters()):.1f} %)" in said[0]
    for epoch in range(1, EPOCHS + 1):
        state.thaw(lambda event: said.append(event.sentence()))  # type: ignore[union-attr]
        learn(state, model)
        still = [number for number in frozen if begins.get(number, EPOCHS + 1) > epoch]
        given = {p for group in state.optimizer.param_groups for p in group["params"]}
        assert given == {p for p in model.parameters() if p.requires_grad}
        for number in still:
            assert not given & set(_parameters(model, number))
            for one in (model, state.average.model):
                tensors = tensors_of(one, number)  # type: ignore[arg-type]
                moved = [name for name, tensor in tensors.items() if not torch.equal(tensor, before[name])]
                assert moved == [], (epoch, model.units[number].name)
        for number in range(len(model.units)):
            if number in still:
                continue
            assert set(_parameters(model, number)) <= given
            for name in model.units[number].modules:
                for norm in model.get_submodule(name).modules():
                    assert not isinstance(norm, COUNTING) or norm.training
    assert len([line for line in said if line.startswith("Thawed")]) == len([e for e in plan if e.epoch <= EPOCHS])


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
