"""What a run will take, measured by a clock that each part of a toy run moves by a known time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visionkit.engine.settings import TrainSettings
from visionkit.engine.throughput import RunCost, epochs_within, time_epoch_ends, time_steps
from visionkit.engine.train import TrainingState
from visionkit.imaging.letterbox import Frame
from visionkit.metrics.coco_map import CocoScores
from visionkit.types import Batch, Losses, Target

CPU = torch.device("cpu")


@dataclass
class Clock:
    """Stands still unless it is moved."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Toy(nn.Module):
    """Learns one number; a forward takes 2 seconds."""

    task = "detect"

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor, **given: Any) -> Tensor:
        self.clock.now += 2
        return self.weight * images.mean()

    def loss(self, outputs: Tensor, targets: Sequence[Target]) -> Losses:
        return Losses({"far": (outputs - 5).square().sum()})


@dataclass
class Batches:
    """Batches of one image: the first takes 7 seconds, the next `prefetched` none, all others 1. Two an epoch."""

    clock: Clock
    prefetched: int = 0
    given: int = 0
    batches_per_epoch: int = 2
    starts: list[tuple[int, int]] = field(default_factory=list)

    def start(self, epoch: int, batch: int) -> Iterator[Batch]:
        self.starts.append((epoch, batch))
        target = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0).bool())
        while True:
            self.clock.now += 7 if self.given == 0 else 0 if self.given <= self.prefetched else 1
            self.given += 1
            yield Batch(torch.ones(1, 3, 2, 2), (target,), (Frame(2, 2, 1.0, 1.0, 0, 0),), (0,))


def begun(clock: Clock, settings: TrainSettings) -> TrainingState:
    return TrainingState.begin(Toy(clock), settings, 2)


# Steps ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_is_loaded_and_learnt_from_and_the_first_ones_do_not_count(accumulate: int) -> None:
    clock = Clock()
    settings = TrainSettings(accumulate=accumulate)
    batches = Batches(clock, prefetched=4)
    times = time_steps(
        begun(clock, settings), batches, settings, device=CPU, available=1000, prefetched=4, seconds=30, clock=clock
    )
    assert times.start == 7
    assert times.batch == 3  # 1 to load, 2 to learn
    assert batches.given == 7 + 10  # 4 in advance and 3 more, then 30 / 3
    assert batches.starts == [(0, 0)]


def test_warming_up_takes_no_longer_than_measuring() -> None:
    clock = Clock()
    settings = TrainSettings()
    batches = Batches(clock)
    times = time_steps(
        begun(clock, settings), batches, settings, device=CPU, available=1000, prefetched=64, seconds=12, clock=clock
    )
    # 7 + 2 and one more batch of 3 make 12 seconds; then 12 / 3.
    assert (batches.given, times.batch) == (2 + 4, 3)


def test_two_batches_are_enough() -> None:
    clock = Clock()
    settings = TrainSettings()
    times = time_steps(
        begun(clock, settings), Batches(clock), settings, device=CPU, available=2, prefetched=8, seconds=60, clock=clock
    )
    assert times.batch == 3


# What follows an epoch ------------------------------------------------------------------------------------------------


def test_an_evaluation_counts_without_what_the_first_one_had_to_load() -> None:
    clock = Clock()
    settings = TrainSettings()
    seconds = {"evaluate": [100, 4], "save_epoch": [0.5, 30, 1.5], "save_state": [8, 0.25, 0.25, 0.25]}
    seen: list[Any] = []

    def spend(name: str) -> None:
        clock.now += seconds[name].pop(0)

    def evaluate(model: nn.Module) -> CocoScores:
        spend("evaluate")
        seen.append(float(model.get_parameter("weight")))
        return CocoScores("bbox", 1, 0.5, *(None,) * 11, mean_iou_matched=None, per_class={})

    times = time_epoch_ends(
        begun(clock, settings),
        Batches(clock),
        settings,
        device=CPU,
        evaluate=evaluate,
        save_state=lambda state: spend("save_state"),
        save_epoch=lambda state, scores, best: spend("save_epoch"),
        clock=clock,
    )
    assert times.evaluation == 4
    assert times.files == 0.5 + 0.25
    assert times.files_evaluated == 1.5 + 0.25
    assert not any(seconds.values())
    assert seen == pytest.approx([1, 1], abs=1e-4)  # the model that starts, not one that has learnt


# How many epochs fit --------------------------------------------------------------------------------------------------


def test_a_run_by_hand() -> None:
    # 10 epochs of 4 batches at 0.5 s and files of 0.1 s, evaluations after 3, 6, 9 and 10: 1 + 10 * 2.1 + 4 * 2 = 30.
    settings = TrainSettings(epochs=10, evaluate_every=3)
    assert RunCost(start=1, batch=0.5, epoch=0.1, evaluation=2).of_run(settings, 4) == pytest.approx(30)


def test_a_longer_run_may_take_less_time() -> None:
    # An evaluation of 10 s after each of up to 99 epochs of 1 s, and after every second of 100: 100 + 50 * 10 = 600.
    cost, settings = RunCost(start=0, batch=1, epoch=0, evaluation=10), TrainSettings()
    assert epochs_within(600, cost, settings, 1) == 100
    assert epochs_within(599, cost, settings, 1) == 54  # 11 s each


@pytest.mark.parametrize("every", [0, 1, 7])
@pytest.mark.parametrize("seconds", [0, 3, 40, 1000])
def test_equals_trying_all(every: int, seconds: float) -> None:
    cost, settings = RunCost(start=2, batch=0.3, epoch=0.2, evaluation=1.5), TrainSettings(evaluate_every=every)
    fitting = [
        epochs for epochs in range(1, 2000) if cost.of_run(settings.model_copy(update={"epochs": epochs}), 5) <= seconds
    ]
    assert epochs_within(seconds, cost, settings, 5) == max(fitting, default=0)


@pytest.mark.parametrize("every", [0, 5])
def test_a_hundred_thousand_epochs_are_found_in_few_trials(every: int) -> None:
    asked: list[int] = []

    def effort(epochs: int) -> float:
        asked.append(epochs)
        return float(epochs)

    # 0.01 s an epoch, and 50 evaluations of 0.02 s, or one of 0.001 s for every fifth epoch.
    cost = RunCost(0, 0.01, 0, 0.001 if every else 0.02, effort)
    settings = TrainSettings(evaluate_every=every)
    epochs = epochs_within(1000, cost, settings, 1)
    assert 98_000 <= epochs < 100_000
    assert cost.of_run(settings.model_copy(update={"epochs": epochs}), 1) <= 1000
    assert cost.of_run(settings.model_copy(update={"epochs": epochs + 1}), 1) > 1000
    assert len(asked) < 200


def test_nothing_fits_into_no_time() -> None:
    assert epochs_within(-3, RunCost(0, 1, 0, 0), TrainSettings(), 1) == 0


def test_what_follows_the_last_epoch_is_taken_from_them() -> None:
    settings, cost = TrainSettings(epochs=10, evaluate_every=10), RunCost(1, 0.5, 0.1, 2, end=3)
    # The start, 10 epochs of 4 batches and their files, an evaluation, the end.
    assert cost.of_run(settings, 4) == pytest.approx(1 + 10 * 2.1 + 2 + 3)
    assert epochs_within(27.0001, cost, settings, 4) == 10
    assert epochs_within(26.9999, cost, settings, 4) == 9
    assert epochs_within(26.9999, RunCost(1, 0.5, 0.1, 2), settings, 4) == 10


def test_small_images_count_as_parts_of_epochs() -> None:
    # Ten epochs at half the effort are five: 1 + 5 * 4 * 0.5 + 10 * 0.1 + 10 evaluations of 2.
    cost = RunCost(start=1, batch=0.5, epoch=0.1, evaluation=2, effort=lambda epochs: epochs / 2)
    assert cost.of_run(TrainSettings(epochs=10), 4) == pytest.approx(1 + 10 + 1 + 20)
    # In 32 seconds they fit just so, where ten epochs of full effort take 42.
    assert epochs_within(32.0001, cost, TrainSettings(), 4) == 10
    assert epochs_within(32.0001, RunCost(1, 0.5, 0.1, 2), TrainSettings(), 4) == 7  # 1 + 14 + 0.7 + 14
