"""Thaws in a run: at which epoch, proven by hash, and the same after a stop anywhere."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visionkit.engine.ema import WeightAverage
from visionkit.engine.events import Thawed
from visionkit.engine.optim import set_learning_rate
from visionkit.engine.settings import TrainSettings
from visionkit.engine.thawing import Held, Thaws
from visionkit.engine.train import TrainingState
from visionkit.errors import VisionkitError
from visionkit.nn.freeze import freeze, frozen_sha256, hold_of
from visionkit.nn.thaw import plan_thaws
from visionkit.types import Unit


class Net(nn.Module):
    """Three layers with norms, a unit each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), nn.Dropout(0.5)) for _ in range(3)
        )
        self.units = tuple(Unit(f"layers.{i}", (f"layers.{i}",)) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def begun(schedule: str = "1-1@3,0-0@5", optimizer: str = "muon") -> TrainingState:
    """A run whose first two layers are frozen, with a schedule for them."""
    model = Net()
    plan = plan_thaws(model.units, (0, 1), [schedule])
    held = tuple(Held(each.epoch, hold_of(model, model.units, each.numbers)) for each in plan)
    staying = [i for i in (0, 1) if not any(i in each.numbers for each in plan)]
    rest = hold_of(model, model.units, staying) if staying else None
    freeze(model, model.units, (0, 1))
    settings = TrainSettings.model_validate({"optimizer": optimizer, "lr": 0.1})
    state = TrainingState.begin(model, settings, 2, thaws=Thaws(held, rest))
    state.thaws.seal(model)
    return state


def learn(state: TrainingState, epochs: int) -> list[Thawed]:
    """Epochs of two steps; returns what thawed."""
    told: list[Thawed] = []
    for _ in range(epochs):
        state.thaw(told.append)  # type: ignore[arg-type]
        state.model.train()
        for _ in range(2):
            torch.manual_seed(state.step)
            set_learning_rate(state.optimizer, 0.1)
            state.optimizer.zero_grad()
            state.model(torch.randn(4, 4)).square().sum().backward()
            state.optimizer.step()
            state.step += 1
            state.average.update(state.step)
        state.epoch += 1
    return told


def parameters_of(state: TrainingState) -> list[set[Tensor]]:
    return [set(group["params"]) for group in state.optimizer.param_groups]


def of_layer(state: TrainingState, number: int) -> set[Tensor]:
    return set(state.model.layers[number].parameters())  # type: ignore[union-attr, index]


def test_each_epoch_has_in_the_optimizer_what_learns_in_it() -> None:
    state = begun()
    for epoch, learning in ((1, {2}), (2, {2}), (3, {1, 2}), (4, {1, 2}), (5, {0, 1, 2}), (6, {0, 1, 2})):
        learn(state, 1)
        given = set().union(*parameters_of(state))
        assert given == set().union(*(of_layer(state, number) for number in learning)), epoch
        assert {i for i in range(3) if state.model.layers[i][1].training} == learning  # type: ignore[union-attr, index]


def test_what_was_frozen_has_the_bytes_it_began_with_when_it_thaws_and_the_average_too() -> None:
    state = begun()
    before = state.thaws.sha256
    told = learn(state, 6)
    assert [(each.epoch, each.units, each.sha256) for each in told] == [
        (3, ("layers.1",), before[0]),
        (5, ("layers.0",), before[1]),
    ]
    assert state.thaws.thawed == tuple(told)
    # And then it moves, norms and all.
    for held, sha256 in zip(state.thaws.held, before, strict=True):
        assert frozen_sha256(state.model, held.frozen) != sha256
        assert frozen_sha256(state.average.model, held.frozen) != sha256
    assert told[0].sentence() == (
        f"Thawed at the beginning of epoch 3: 1 unit, unchanged until then: SHA-256 {before[0]} before and after"
    )


def test_what_is_never_thawed_stays() -> None:
    state = begun("1-1@2")
    assert state.thaws.rest is not None
    before = frozen_sha256(state.model, state.thaws.rest)
    learn(state, 4)
    assert frozen_sha256(state.model, state.thaws.rest) == before


@pytest.mark.parametrize("which", ["model", "average"])
def test_a_tensor_that_moved_in_secret_stops_the_run_at_the_thaw(which: str) -> None:
    state = begun()
    learn(state, 1)
    model = state.model if which == "model" else state.average.model
    with torch.no_grad():
        model.layers[1][1].running_mean += 1  # type: ignore[union-attr, index, operator]
    learn(state, 1)
    with pytest.raises(VisionkitError, match="frozen units must keep their bytes, but they changed"):
        learn(state, 1)


def test_a_run_that_ends_before_a_thaw_proves_it_at_the_end() -> None:
    state = begun()
    learn(state, 3)
    models = (state.model, state.average.model)
    assert list(state.thaws.prove_rest(models)) == [
        f"Training ended before the thaw of epoch 5: SHA-256 {state.thaws.sha256[1]} before and after"
    ]
    with torch.no_grad():
        state.model.layers[0][1].running_mean += 1  # type: ignore[union-attr, index, operator]
    with pytest.raises(VisionkitError, match="frozen units must keep their bytes"):
        list(state.thaws.prove_rest(models))


def test_the_state_of_what_learnt_before_is_left_as_it_is() -> None:
    state = begun(optimizer="adamw")
    learn(state, 2)
    before = copy.deepcopy({id(p): values for p, values in state.optimizer.state.items()})
    list(state.thaws.begin_epoch(3, state.model, state.average.model, state.optimizer, state.rules))
    assert before.keys() == {id(p) for p in state.optimizer.state}
    for p, values in state.optimizer.state.items():
        kept = before[id(p)]
        assert all(torch.equal(torch.as_tensor(value), torch.as_tensor(kept[key])) for key, value in values.items())


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd", "adagrad"])
@pytest.mark.parametrize("epochs", range(7))
def test_law_stopped_after_any_epoch_it_ends_in_the_same_bytes(optimizer: str, epochs: int) -> None:
    whole = begun(optimizer=optimizer)
    learn(whole, 6)
    stopped = begun(optimizer=optimizer)
    learn(stopped, epochs)
    saved: dict[str, Any] = copy.deepcopy(stopped.to_dict())
    resumed = begun(optimizer=optimizer)
    resumed.restore(saved)
    resumed.thaws.seal(resumed.model, stopped.thaws.sha256)
    assert resumed.thaws.sha256 == stopped.thaws.sha256
    if epochs < 6:
        learn(resumed, 6 - epochs)
        for one, other in ((whole.model, resumed.model), (whole.average.model, resumed.average.model)):
            named = other.state_dict()
            assert all(torch.equal(tensor, named[name]) for name, tensor in one.state_dict().items())
        assert str(resumed.optimizer.state_dict()["param_groups"]) == str(whole.optimizer.state_dict()["param_groups"])


def test_a_state_from_before_there_were_thaws_is_read() -> None:
    state = begun()
    saved = copy.deepcopy(state.to_dict())
    del saved["thawed"]
    again = begun()
    again.restore(saved)
    assert again.thaws.done == 0


def test_the_average_takes_thawed_parameters_up() -> None:
    # It looks up by itself who learns; nobody tells it.
    state = begun()
    assert isinstance(state.average, WeightAverage)
    learn(state, 2)
    weight = state.average.model.layers[1][0].weight.clone()  # type: ignore[union-attr, index, operator]
    learn(state, 1)
    assert not torch.equal(weight, state.average.model.layers[1][0].weight)  # type: ignore[union-attr, index, arg-type]
