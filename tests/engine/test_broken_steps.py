"""Steps whose loss or gradient is not finite: skipped, counted, without a trace; and when the run gives up."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visionkit.engine.broken_batch import load_batch, put_together, save_batch
from visionkit.engine.broken_steps import DivergedError, Statistics, all_finite, require_finite_weights
from visionkit.engine.checkpoint import save_weights
from visionkit.engine.events import Event, StepSkipped
from visionkit.engine.settings import TrainSettings
from visionkit.engine.train import TrainingState, train
from visionkit.errors import CheckpointError
from visionkit.imaging.letterbox import Frame
from visionkit.metrics.coco_map import CocoScores
from visionkit.types import Batch, Losses, Target

NAN, INF = float("nan"), float("inf")


class Toy(nn.Module):
    """A linear layer behind a batch norm, whose running statistics each forward pass moves. `spoil(call)` is multiplied
    with the loss of each call, counted from 1; `spoil_gradient(call)` with the gradient alone."""

    task = "detect"

    def __init__(
        self, spoil: Callable[[int], float] = lambda call: 1.0, gradient: Callable[[int], float] = lambda call: 1.0
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 1))
        self.spoil, self.gradient, self.calls = spoil, gradient, 0

    def forward(self, images: Tensor, **given: Any) -> Tensor:
        return self.layers(images)

    def loss(self, outputs: Tensor, targets: Any) -> Losses:
        self.calls += 1
        factor = self.gradient(self.calls)
        if factor != 1.0:
            outputs.register_hook(lambda grad: grad * factor)
        return Losses({"far": (outputs - 1).square().mean() * self.spoil(self.calls)})


class Batches:
    """Three an epoch; from the fourth on those of the first again."""

    batches_per_epoch = 3

    def __init__(self, images: Callable[[int], Tensor] = lambda number: pixels(number % 3)) -> None:
        self.images = images

    def start(self, epoch: int, batch: int) -> Iterator[Batch]:
        for number in range(3 * epoch + batch, 1000):
            yield batch_of(self.images(number))


def pixels(seed: int) -> Tensor:
    return torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


def batch_of(images: Tensor) -> Batch:
    target = Target(torch.tensor([[0.0, 0.0, 1.0, 2.0]]), torch.tensor([1]), torch.tensor([False]))
    count = len(images)
    return Batch(images, (target,) * count, (Frame(2, 2, 1.0, 1.0, 0, 0),) * count, tuple(range(count)))


def run(
    model: nn.Module, batches: Batches | None = None, saved: Any = None, **settings: Any
) -> tuple[TrainingState, list[Event], list[Any]]:
    """A run to its end: its state, its events and the states it saved."""
    values = {"optimizer": "adamw", "epochs": 2, "lr": 0.01, "amp": False, "evaluate_every": 1, **settings}
    train_settings = TrainSettings.model_validate(values)
    state = TrainingState.begin(model, train_settings, 3)
    if saved is not None:
        state.restore(copy.deepcopy(saved))
    events: list[Event] = []
    states: list[Any] = []
    run.latest = (state, events, states)  # type: ignore[attr-defined]  # for those that raise
    train(
        state, batches or Batches(), train_settings, device=torch.device("cpu"),
        evaluate=lambda model: CocoScores("bbox", 4, 0.5, *(None,) * 11, mean_iou_matched=None, per_class={}),
        save_state=lambda state: states.append(copy.deepcopy(state.to_dict())), save_epoch=lambda *_: None,
        listen=events.append,
    )  # fmt: skip
    return state, events, states


def tensors(state: TrainingState) -> list[Tensor]:
    return [*state.model.state_dict().values(), *state.average.model.state_dict().values()]


@pytest.mark.parametrize("broken", [{"spoil": NAN}, {"spoil": INF}, {"gradient": NAN}, {"gradient": INF}])
def test_a_broken_step_is_as_if_its_batch_had_not_been_there(broken: dict[str, float]) -> None:
    def at_second(value: float) -> Callable[[int], float]:
        return lambda call: value if call == 2 else 1.0

    skipping, events, _ = run(Toy(**{name: at_second(value) for name, value in broken.items()}), epochs=1)
    # The same without the second batch. The rate of a step depends on how many were taken.
    without, _, states = run(Toy(), Batches(lambda number: pixels([0, 2, 2][number])), epochs=1, save_minutes=0)
    after_two = states[2]
    for ours, theirs in zip(skipping.model.state_dict().values(), after_two["model"].values(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(skipping.average.model.state_dict().values(), after_two["average"].values(), strict=True):
        assert torch.equal(ours, theirs)
    what = "gradient" if "gradient" in broken else "loss"
    assert [e for e in events if isinstance(e, StepSkipped)] == [StepSkipped(1, 2, what, 1)]
    assert skipping.step == 2
    assert without.step == 3


def test_skipped_steps_are_counted_in_metrics_and_leave_no_mark_on_mean_losses() -> None:
    state, _, _ = run(Toy(lambda call: NAN if call in (2, 3, 5) else 1.0))
    clean, _, _ = run(Toy())
    assert [row["skipped"] for row in state.history] == [2, 1]
    assert state.all_skipped == 3
    assert all("skipped" not in row for row in clean.history)
    # Epoch 1 took one step, the first, the same as in the clean run: its loss is the mean.
    first = Toy().train()
    assert state.history[0]["loss/far"] == pytest.approx(float(first.loss(first(pixels(0)), None).total.detach()))
    assert state.history[0]["step"] == 1


def test_an_epoch_of_skipped_steps_alone_has_no_mean() -> None:
    state, _, _ = run(Toy(lambda call: INF if call <= 3 else 1.0))
    assert state.history[0]["loss/far"] is None
    assert state.history[0]["lr"] > 0
    assert state.history[1]["loss/far"] > 0


def test_one_broken_batch_of_several_skips_the_whole_step() -> None:
    state, events, _ = run(Toy(lambda call: NAN if call == 1 else 1.0), accumulate=2, epochs=1)
    # Steps of batches 1 and 2, and 3: the first is broken.
    assert [e for e in events if isinstance(e, StepSkipped)] == [StepSkipped(1, 2, "loss", 1)]
    assert (state.step, state.counted, state.skipped_in_a_row) == (1, 0, 0)


def test_running_statistics_that_a_broken_image_spoilt_are_put_back() -> None:
    broken = Batches(lambda number: pixels(0).fill_(NAN) if number == 1 else pixels(number % 3))
    state, _, _ = run(Toy(), broken, epochs=1)
    assert all(torch.isfinite(tensor).all() for tensor in tensors(state) if tensor.is_floating_point())
    assert state.history[0]["skipped"] == 1
    assert int(state.model.get_buffer("layers.0.num_batches_tracked")) == 2


def test_after_so_many_in_a_row_the_run_stops_with_its_batch_and_finite_weights() -> None:
    # Steps 1, 2 are taken, 3 is broken, 4 taken, from 5 on all are broken.
    with pytest.raises(DivergedError) as caught:
        run(Toy(lambda call: NAN if call == 3 or call >= 5 else 1.0), epochs=9, max_skipped=4, save_minutes=0)
    state, events, states = run.latest  # type: ignore[attr-defined]
    assert str(caught.value).startswith("the loss is no longer finite at epoch 3, batch 2 (learning rate 0.0")
    assert str(caught.value).endswith(
        ", steps skipped in a row: 4; the last saved state is intact, start anew with a lower --lr"
    )
    assert [e.in_a_row for e in events if isinstance(e, StepSkipped)] == [1, 1, 2, 3, 4]
    assert caught.value.batch is not None
    assert torch.equal(caught.value.batch.images, pixels(1))  # batch 8 of all
    assert all(torch.isfinite(tensor).all() for tensor in tensors(state) if tensor.is_floating_point())
    # Going on from the last state ends in the same place: a run is a function of data, settings and seed.
    assert (states[-1]["epoch"], states[-1]["batch"], states[-1]["skipped_in_a_row"]) == (2, 1, 3)
    with pytest.raises(DivergedError, match=r"at epoch 3, batch 2 .*, steps skipped in a row: 4"):
        run(Toy(lambda call: NAN), saved=states[-1], epochs=9, max_skipped=4)


def test_a_state_from_before_steps_could_be_skipped_goes_on() -> None:
    _, _, states = run(Toy(), save_minutes=0)
    whole, _, _ = run(Toy())
    old = {k: v for k, v in states[2].items() if k not in ("counted", "skipped", "skipped_in_a_row")}
    assert old["batch"] == 2
    again, _, _ = run(Toy(), saved=old)
    assert again.history == whole.history


def test_weights_that_are_not_finite_are_never_saved() -> None:
    class Overflowing(Toy):
        """The step itself breaks its weight: 3.3e38 and 1e38 are more than 32 bits hold."""

        def __init__(self) -> None:
            super().__init__()
            nn.init.constant_(self.layers[2].bias, 3.3e38)

        def loss(self, outputs: Tensor, targets: Any) -> Losses:
            return Losses({"far": -self.layers[2].bias.sum()})

    with pytest.raises(DivergedError) as caught:
        run(Overflowing(), optimizer="sgd", lr=1e38, momentum=0, weight_decay=0, warmup_epochs=0, clip_norm=1e9, l2=0)
    _, _, states = run.latest  # type: ignore[attr-defined]
    assert str(caught.value) == (
        "the weights are no longer finite in epoch 1; the last saved state is intact, start anew with a lower --lr"
    )
    assert caught.value.batch is None
    assert len(states) == 1  # the one before step 1


def test_what_counts_as_finite() -> None:
    assert all_finite([{"a": 1.0}, {"a": -2.0}], 3.0)
    assert not all_finite([{"a": 1.0}, {"a": NAN}], 3.0)
    assert not all_finite([{"a": 1.0}], INF)
    require_finite_weights(Toy(), 1)


class Twins:
    """Two processes of which the other has what this one has."""

    rank, world_size = 0, 2

    def sum(self, tensor: Tensor) -> Tensor:
        return 2 * tensor


def test_statistics_that_did_not_move_keep_their_bits_in_several_processes() -> None:
    norm = nn.BatchNorm1d(2)
    norm.running_mean.copy_(torch.tensor([-0.0, 1.0]))  # type: ignore[union-attr]
    statistics = Statistics(norm)
    norm.running_mean += torch.tensor([0.0, 2.0])
    norm.running_mean[0] = -0.0  # type: ignore[index]
    statistics.average(Twins())
    assert norm.running_mean.tolist() == [0.0, 3.0]
    assert torch.signbit(norm.running_mean).tolist() == [True, False]  # type: ignore[arg-type]


def test_statistics_of_a_model_without_any() -> None:
    statistics = Statistics(nn.Linear(2, 2))
    statistics.keep()
    statistics.restore()


# The file -------------------------------------------------------------------------------------------------------------


def test_a_batch_comes_back_as_it_was(tmp_path: Path) -> None:
    images = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    one = Target(torch.rand(2, 4), torch.tensor([0, 3]), torch.tensor([False, True]), masks=torch.ones(2, 3, 3).byte())
    none = Target(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool(), masks=torch.zeros(0, 3, 3).byte())
    frames = (Frame(8, 6, 0.5, 0.5, 0, 1), Frame(4, 4, 1.0, 1.0, 0, 0))
    batch = Batch(images, (one, none), frames, (17, 5), (torch.rand(3, 4), torch.rand(0, 4)))
    save_batch(tmp_path / "batch.safetensors", batch)
    again = load_batch(tmp_path / "batch.safetensors")
    assert torch.equal(again.images, images)
    assert (again.frames, again.image_ids) == (frames, (17, 5))
    for ours, theirs in zip(batch.targets, again.targets, strict=True):
        for name in ("boxes", "labels", "ignore", "masks"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert again.proposals is not None
    assert [len(boxes) for boxes in again.proposals] == [3, 0]


def test_a_batch_with_semantic_maps(tmp_path: Path) -> None:
    empty = (torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool())
    maps = torch.randint(3, (2, 4, 4), dtype=torch.uint8)
    targets = tuple(Target(*empty, semantic=one) for one in maps)
    batch = Batch(torch.zeros(2, 3, 4, 4).byte(), targets, (Frame(4, 4, 1.0, 1.0, 0, 0),) * 2, (1, 2))
    save_batch(tmp_path / "batch.safetensors", batch)
    again = load_batch(tmp_path / "batch.safetensors")
    assert again.proposals is None
    for target, one in zip(again.targets, maps, strict=True):
        assert target.semantic is not None
        assert torch.equal(target.semantic, one)


def test_parts_of_a_batch_are_put_together_in_their_order(tmp_path: Path) -> None:
    images = [torch.full((2, 3, 4, 4), value, dtype=torch.uint8) for value in (5, 6)]
    parts = [replace(batch_of(each), image_ids=(int(each[0, 0, 0, 0]), 9)) for each in images]
    whole = put_together(parts)
    assert whole.images[:, 0, 0, 0].tolist() == [5, 5, 6, 6]
    assert whole.image_ids == (5, 9, 6, 9)
    assert (len(whole.targets), len(whole.frames), whole.proposals) == (4, 4, None)
    fed = [replace(part, proposals=(torch.rand(1, 4), torch.rand(2, 4))) for part in parts]
    assert [len(boxes) for boxes in put_together(fed).proposals or ()] == [1, 2, 1, 2]
    save_batch(tmp_path / "batch.safetensors", whole)
    assert load_batch(tmp_path / "batch.safetensors").image_ids == whole.image_ids


def test_a_damaged_batch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "batch.safetensors"
    save_weights(path, {"images": torch.zeros(2)}, {})
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_batch(path)
