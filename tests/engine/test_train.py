"""The training loop on toy models: what happens, in which order, how far each step goes, and how it goes on."""

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visionkit.engine.events import EpochDone, Event, StepDone, Stopped
from visionkit.engine.settings import TrainSettings
from visionkit.engine.train import TrainingState, train
from visionkit.errors import ConfigError, VisionkitError
from visionkit.imaging.letterbox import Frame
from visionkit.metrics.coco_map import CocoScores
from visionkit.types import Batch, Losses, Target

CPU = torch.device("cpu")


class Toy(nn.Module):
    """Learns one number an image, its mean colour, without a norm; its loss is a mean over images."""

    task = "detect"

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))

    def forward(self, images: Tensor, **given: Any) -> Tensor:
        return self.layers(images.flatten(1)).squeeze(1)

    def loss(self, outputs: Tensor, targets: Sequence[Target]) -> Losses:
        wanted = torch.stack([target.boxes[0, 0] for target in targets])
        return Losses({"far": (outputs - wanted).square().mean()})


class Batches:
    """`count` batches of `size` images an epoch, the same ones in each."""

    def __init__(self, count: int, size: int) -> None:
        self.batches_per_epoch = count
        generator = torch.Generator().manual_seed(1)
        self.batches = [
            batch_of(images) for images in torch.randn(count * size, 3, 2, 2, generator=generator).split(size)
        ]

    def start(self, epoch: int, batch: int) -> Iterator[Batch]:
        first = epoch * self.batches_per_epoch + batch
        return (self.batches[i % self.batches_per_epoch] for i in range(first, 10_000))


def batch_of(images: Tensor) -> Batch:
    targets = tuple(
        Target(torch.full((1, 4), float(image.mean())), torch.zeros(1, dtype=torch.int64), torch.zeros(1).bool())
        for image in images
    )
    return Batch(images, targets, (Frame(2, 2, 1.0, 1.0, 0, 0),) * len(images), tuple(range(len(images))))


def scores(ap: float | None) -> CocoScores:
    return CocoScores("bbox", 4, ap, *(None,) * 11, mean_iou_matched=None, per_class={})


@dataclass
class Run:
    """A run of the loop with everything it told."""

    state: TrainingState
    events: list[Event] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)
    saved: list[dict[str, Any]] = field(default_factory=list)
    best: list[bool] = field(default_factory=list)
    evaluated: list[nn.Module] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.state.history


def run(
    settings: TrainSettings,
    *,
    model: nn.Module | None = None,
    count: int = 2,
    size: int = 4,
    aps: Callable[[int], float | None] = lambda evaluation: 0.5,
    saved: dict[str, Any] | None = None,
    watch: Callable[[TrainingState], None] = lambda state: None,
) -> Run:
    """Train a toy from the start, or from a saved state.

    Args:
        aps: the AP of each evaluation of this call, counted from 0.
        watch: told the state before anything happens.
    """
    batches = Batches(count, size)
    state = TrainingState.begin(model or Toy(), settings, count)
    if saved is not None:
        state.restore(copy.deepcopy(saved))
    told = Run(state)
    watch(state)

    def evaluate(model: nn.Module) -> CocoScores:
        told.happened.append("evaluate")
        told.evaluated.append(model)
        return scores(aps(len(told.evaluated) - 1))

    def save_state(state: TrainingState) -> None:
        told.happened.append("save state")
        told.saved.append(copy.deepcopy(state.to_dict()))

    def save_epoch(state: TrainingState, found: CocoScores | None, best: bool) -> None:
        told.happened.append("save epoch")
        told.best.append(best)

    def listen(event: Event) -> None:
        told.happened.append(type(event).__name__)
        told.events.append(event)

    train(
        state, batches, settings, device=CPU, evaluate=evaluate, save_state=save_state, save_epoch=save_epoch,
        listen=listen,
    )  # fmt: skip
    return told


def plain_sgd(**others: Any) -> TrainSettings:
    """Steps of lr times gradient and nothing else, at a constant rate."""
    values = {
        "optimizer": "sgd", "momentum": 0, "weight_decay": 0, "lr": 0.1, "final_lr": 1, "warmup_epochs": 0,
        "clip_norm": 1e9, "amp": False, **others,
    }  # fmt: skip
    return TrainSettings.model_validate(values)


def tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


# What happens, in which order -----------------------------------------------------------------------------------------


def test_the_order_of_things() -> None:
    told = run(TrainSettings(epochs=2, evaluate_every=2, save_minutes=60))
    assert told.happened == [
        "save state",  # before step 1
        *("StepDone", "StepDone", "save epoch", "save state", "EpochDone"),
        *("StepDone", "StepDone", "evaluate", "save epoch", "save state", "EpochDone"),
    ]


def test_states_are_saved_within_an_epoch_between_steps_but_not_twice_at_its_end() -> None:
    told = run(TrainSettings(epochs=1, accumulate=2, save_minutes=0), count=5)
    # Steps after batches 2, 4 and 5; the last one's state is the epoch's.
    assert [(saved["epoch"], saved["batch"], saved["step"]) for saved in told.saved] == [
        (0, 0, 0), (0, 2, 1), (0, 4, 2), (1, 0, 3),
    ]  # fmt: skip


def test_events_count_from_1_and_say_what_happened() -> None:
    told = run(TrainSettings(epochs=2), count=3, size=4)
    steps = [event for event in told.events if isinstance(event, StepDone)]
    assert [(s.epoch, s.batch, s.batches, s.images) for s in steps[2:4]] == [(1, 3, 3, 4), (2, 1, 3, 4)]
    last = told.events[-1]
    assert isinstance(last, EpochDone)
    assert (last.epoch, last.epochs) == (2, 2)
    assert last.losses == {"far": pytest.approx(sum(s.losses["far"] for s in steps[3:]) / 3)}
    assert last.images_per_second > 0


def test_history_has_a_row_an_epoch_without_times() -> None:
    told = run(TrainSettings(epochs=3, evaluate_every=2), aps=lambda n: [0.2, 0.4][n])
    names = ["epoch", "step", "lr", "loss/far", "AP", "AP50", "AP75", "AR100", "mean_iou_matched"]
    assert [list(row) for row in told.rows] == [names] * 3
    assert [(row["epoch"], row["step"], row["AP"]) for row in told.rows] == [(1, 2, None), (2, 4, 0.2), (3, 6, 0.4)]


def test_no_step_imports_torch_s_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    # It takes most of the time that importing torch takes, and nothing is compiled here.
    for name in ("torch._dynamo", "torch._inductor"):
        monkeypatch.setitem(sys.modules, name, None)  # any import of it now raises
    assert run(TrainSettings(epochs=2)).saved[-1]["step"] == 4


# How far a step goes --------------------------------------------------------------------------------------------------


def rates_of(settings: TrainSettings, count: int) -> list[float]:
    """The learning rate that the optimizer had at each of its steps."""
    rates: list[float] = []

    def watch(state: TrainingState) -> None:
        state.optimizer.register_step_pre_hook(lambda o, *_: rates.append(*{group["lr"] for group in o.param_groups}))

    run(settings, count=count, watch=watch)
    return rates


def test_the_optimizer_sees_the_schedule() -> None:
    rates = rates_of(TrainSettings(epochs=10, lr=0.4, final_lr=0.5, warmup_epochs=3), count=2)
    assert len(rates) == 20
    # At most a fifth of all epochs warms up: 2 epochs = 4 steps, by quarters of 0.4.
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
    # Half way from step 4 to 20 the cosine is 0: 0.4 * (0.5 + 0.5 / 2) = 0.3; it ends just above 0.4 * 0.5.
    assert rates[12] == pytest.approx(0.3)
    assert 0.2 < rates[-1] < 0.21
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_warm_up_is_short_however_long_epochs_are() -> None:
    rates = rates_of(TrainSettings(epochs=10, lr=0.3, warmup_epochs=2, warmup_steps=3), count=5)
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.3])  # 3 steps, not 10


def test_the_schedule_counts_optimizer_steps_not_batches() -> None:
    # 5 batches an epoch, 2 a step: 3 steps an epoch, 30 in all, 6 of them warm-up.
    rates = rates_of(TrainSettings(epochs=10, accumulate=2, lr=0.6, warmup_epochs=2), count=5)
    assert len(rates) == 30
    assert rates[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_two_accumulated_batches_are_one_of_twice_the_size(optimizer: str) -> None:
    settings = {"optimizer": optimizer, "epochs": 3, "lr": 0.01, "amp": False}
    two = run(TrainSettings.model_validate({**settings, "accumulate": 2}), count=4, size=3)
    one = run(TrainSettings.model_validate(settings), count=2, size=6)
    assert two.state.step == one.state.step == 6
    for name, tensor in two.state.model.state_dict().items():
        torch.testing.assert_close(tensor, one.state.model.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_a_shorter_last_window_of_an_epoch_is_a_mean_too() -> None:
    # 3 batches, 2 a step: the second step has one batch, which counts whole and not half.
    told = run(plain_sgd(epochs=1, accumulate=2), count=3)
    model, batches = Toy(), Batches(3, 4).batches
    for window in (batches[:2], batches[2:]):
        model.zero_grad()
        sum(model.loss(model(b.images), b.targets).total for b in window).div(len(window)).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(0.1 * parameter.grad)
    for name, tensor in told.state.model.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_the_whole_gradient_is_clipped_to_its_norm() -> None:
    before = tensors(Toy())
    told = run(plain_sgd(epochs=1, lr=1, clip_norm=1e-3), count=1)
    moved = [(tensor - before[name]).square().sum() for name, tensor in told.state.model.state_dict().items()]
    assert float(sum(moved)) ** 0.5 == pytest.approx(1e-3, rel=1e-3)  # lr 1: the step is the clipped gradient


def test_penalties_and_the_cut_of_values_reach_the_step() -> None:
    plain, cut = tensors(Toy()), tensors(Toy())
    pulled = run(plain_sgd(epochs=1, lr=1, l2=0.5), count=1).state.model.state_dict()
    alone = run(plain_sgd(epochs=1, lr=1), count=1).state.model.state_dict()
    for name, weight in plain.items():  # lr 1: half of each weight further, of biases nothing
        torch.testing.assert_close(alone[name] - pulled[name], 0.5 * weight * (weight.ndim > 1), rtol=0, atol=1e-5)
    for name, weight in run(plain_sgd(epochs=1, lr=1, clip_value=1e-3), count=1).state.model.state_dict().items():
        assert (weight - cut[name]).abs().max() <= 1.01e-3


def test_a_loss_counts_what_its_weight_says() -> None:
    before = tensors(Toy())
    once, thrice, never = (
        run(plain_sgd(epochs=1, lr=0.1, loss_weights=weights), count=1) for weights in ({}, {"far": 3.0}, {"far": 0.0})
    )
    for name, tensor in once.state.model.state_dict().items():
        moved = tensor - before[name]
        three_times = thrice.state.model.state_dict()[name] - before[name]
        torch.testing.assert_close(three_times, 3 * moved, rtol=1e-4, atol=1e-7)
    assert_same(tensors(never.state.model), before)
    assert thrice.rows[0]["loss/far"] == pytest.approx(3 * once.rows[0]["loss/far"]), "what is shown is what counts"


def test_a_weight_of_a_loss_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"loss_weights has 'near', the losses of this model are far; name these"):
        run(plain_sgd(loss_weights={"far": 1.0, "near": 2.0}))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weights_decay_and_norms_and_biases_do_not(optimizer: str) -> None:
    class Still(Toy):
        """All gradients are 0."""

        def __init__(self) -> None:
            super().__init__()
            self.layers[1] = nn.LayerNorm(8)

        def loss(self, outputs: Tensor, targets: Sequence[Target]) -> Losses:
            return Losses({"none": 0 * outputs.sum()})

    before = tensors(Still())
    values = {"optimizer": optimizer, "epochs": 1, "lr": 0.1, "weight_decay": 0.5, "warmup_epochs": 0, "momentum": 0}
    after = run(TrainSettings.model_validate(values), model=Still(), count=1).state.model.state_dict()
    for name in ("layers.0.weight", "layers.3.weight"):
        torch.testing.assert_close(after[name], 0.95 * before[name])  # 1 - 0.1 * 0.5, in one step
    for name in ("layers.0.bias", "layers.1.weight", "layers.1.bias", "layers.3.bias"):
        assert torch.equal(after[name], before[name]), name


def test_it_learns() -> None:
    told = run(TrainSettings(epochs=30, lr=0.03), count=4)
    assert told.rows[-1]["loss/far"] < 0.1 * told.rows[0]["loss/far"]


# What is evaluated, what is best, when it ends ------------------------------------------------------------------------


def test_the_average_is_what_is_evaluated() -> None:
    told = run(TrainSettings(epochs=2, ema_horizon=50, schedule="constant"))
    assert told.evaluated == [told.state.average.model] * 2
    assert not any(module.training for module in told.evaluated[0].modules())
    learnt, average = told.state.model.state_dict(), told.evaluated[0].state_dict()
    assert not any(torch.equal(learnt[name], average[name]) for name in learnt)


def test_the_average_comes_to_rest_with_the_rate() -> None:
    told = run(TrainSettings(epochs=20, final_lr=0.001), count=4)
    learnt, average = told.state.model.state_dict(), told.evaluated[-1].state_dict()
    assert all(torch.equal(learnt[name], average[name]) for name in learnt)


@pytest.mark.parametrize(
    ("epochs", "every", "expected"),
    [(7, 3, {3, 6, 7}), (4, 1, {1, 2, 3, 4}), (2, 5, {2}), (60, 0, set(range(1, 61))), (100, 0, set(range(2, 101, 2)))],
)
def test_evaluation_epochs_always_hold_the_last(epochs: int, every: int, expected: set[int]) -> None:
    settings = TrainSettings(epochs=epochs, evaluate_every=every)
    assert settings.evaluation_epochs() == expected
    if epochs < 10:
        told = run(settings)
        assert {row["epoch"] for row in told.rows if row["AP"] is not None} == expected


def test_best_is_the_earliest_of_equals() -> None:
    told = run(TrainSettings(epochs=5, evaluate_every=1), aps=lambda n: [0.1, 0.3, 0.2, 0.3, 0.1][n])
    assert told.best == [True, True, False, False, False]
    assert told.state.best is told.rows[1]


def test_an_ap_that_is_not_defined_is_never_best() -> None:
    told = run(TrainSettings(epochs=3, evaluate_every=1), aps=lambda n: [None, 0.0, None][n])
    assert told.best == [False, True, False]


def test_patience_counts_evaluations_and_says_so() -> None:
    # Evaluated at 2, 4, 6, 8: best at 4, and 6 and 8 are no better.
    settings = TrainSettings(epochs=20, evaluate_every=2, patience=2)
    told = run(settings, aps=lambda n: [0.1, 0.3, 0.3, 0.2][n])
    assert len(told.rows) == 8
    assert told.events[-1] == Stopped(epoch=8, best_epoch=4)


def test_without_patience_it_never_stops() -> None:
    told = run(TrainSettings(epochs=6, evaluate_every=1), aps=lambda n: 0.0)
    assert len(told.rows) == 6
    assert not any(isinstance(event, Stopped) for event in told.events)


# Going on from a saved state ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_from_every_saved_state_a_run_ends_the_same(optimizer: str) -> None:
    settings = TrainSettings.model_validate(
        {"optimizer": optimizer, "epochs": 3, "accumulate": 2, "evaluate_every": 1, "save_minutes": 0}
    )
    whole = run(settings, model=Toy(dropout=0.5), count=5, aps=lambda n: n / 10)
    assert len(whole.saved) == 10  # before step 1, and after each of 3 * 3 steps
    torch.manual_seed(99)  # what the generator held before must not matter
    for saved in whole.saved:
        done = len(saved["history"])
        again = run(settings, model=Toy(dropout=0.5), count=5, aps=lambda n, done=done: (n + done) / 10, saved=saved)
        assert again.rows == whole.rows, (saved["epoch"], saved["batch"])
        assert_same(tensors(again.state.model), tensors(whole.state.model))
        assert_same(tensors(again.state.average.model), tensors(whole.state.average.model))


def test_what_dropout_draws_depends_on_seed_epoch_and_batch() -> None:
    def losses(seed: int) -> list[float]:
        settings = TrainSettings(epochs=2, seed=seed, lr=1e-12)
        told = run(settings, model=Toy(dropout=0.5), count=2)
        return [event.losses["far"] for event in told.events if isinstance(event, StepDone)]

    first = losses(0)
    torch.rand(7)
    assert losses(0) == first
    assert len({*first, *losses(1)}) == 8  # weights hardly move, so only what is dropped differs


def test_a_finished_run_has_nothing_left_to_do() -> None:
    settings = TrainSettings(epochs=2)
    whole = run(settings)
    again = run(settings, saved=whole.saved[-1])
    assert again.happened == ["save state"]
    assert again.rows == whole.rows


def test_a_run_out_of_patience_stays_so_when_resumed() -> None:
    settings = TrainSettings(epochs=9, evaluate_every=1, patience=1)
    whole = run(settings, aps=lambda n: [0.3, 0.2][n])
    assert len(whole.rows) == 2
    again = run(settings, saved=whole.saved[-1])
    assert again.rows == whole.rows
    assert again.evaluated == []


# When the loss breaks -------------------------------------------------------------------------------------------------


class Breaking(Toy):
    """Its loss is not finite at one call."""

    def __init__(self, at: int, value: float) -> None:
        super().__init__()
        self.at, self.value, self.calls = at, value, 0

    def loss(self, outputs: Tensor, targets: Sequence[Target]) -> Losses:
        self.calls += 1
        parts = super().loss(outputs, targets).parts
        return Losses({name: part * (self.value if self.calls == self.at else 1) for name, part in parts.items()})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_last_state(value: float) -> None:
    settings = TrainSettings(epochs=3, save_minutes=0, lr=0.01, max_skipped=1)
    saved: list[dict[str, Any]] = []
    model = Breaking(at=4, value=value)
    state = TrainingState.begin(model, settings, 2)
    with pytest.raises(VisionkitError) as error:
        train(
            state, Batches(2, 4), settings, device=CPU, evaluate=lambda model: scores(0.1),
            save_state=lambda s: saved.append(copy.deepcopy(s.to_dict())),
            save_epoch=lambda *_: None, listen=lambda event: None,
        )  # fmt: skip
    message = str(error.value)
    assert message.startswith("the loss is no longer finite at epoch 2, batch 2 (learning rate 0.0")
    assert message.endswith("; the last saved state is intact, start anew with a lower --lr")
    assert "\n" not in message
    assert (saved[-1]["epoch"], saved[-1]["batch"]) == (1, 1)
    assert all(torch.isfinite(tensor).all() for tensor in saved[-1]["model"].values())
    assert len(run(settings, saved=saved[-1]).rows) == 3


def test_deterministic_algorithms_are_asked_for_within_the_run_only() -> None:
    seen: list[bool] = []

    class Looking(Toy):
        def forward(self, images: Tensor, **given: Any) -> Tensor:
            seen.append(torch.are_deterministic_algorithms_enabled())
            return super().forward(images)

    assert not torch.are_deterministic_algorithms_enabled()
    run(TrainSettings(epochs=1), model=Looking())
    assert seen == [True, True]
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(VisionkitError):
        run(TrainSettings(epochs=1, max_skipped=1), model=Breaking(at=1, value=float("nan")))
    assert not torch.are_deterministic_algorithms_enabled()
