"""A run that is asked to end: at once where it rests, after its step where it does not."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visionkit.data.loader import WorkerEndedError
from visionkit.engine.events import Event, StepDone
from visionkit.engine.interruption import InterruptedRunError, StopRequest
from visionkit.engine.settings import TrainSettings
from visionkit.engine.train import TrainingState, train
from visionkit.imaging.letterbox import Frame
from visionkit.metrics.coco_map import CocoScores
from visionkit.types import Batch, Losses


def test_within_a_step_it_is_only_noted_and_the_next_rest_ends_the_run() -> None:
    stop = StopRequest()
    stop.ask()
    assert stop.asked
    with pytest.raises(InterruptedRunError), stop.at_rest():
        raise AssertionError("never begun")


def test_at_rest_it_ends_at_once() -> None:
    stop = StopRequest()
    with pytest.raises(InterruptedRunError), stop.at_rest():
        stop.ask()
    stop.ask()  # nothing rests any more


def test_a_rest_that_nobody_disturbs_is_none_of_its_business() -> None:
    stop = StopRequest()
    with stop.at_rest():
        pass
    stop.ask()


# In the loop ----------------------------------------------------------------------------------------------------------


class Toy(nn.Module):
    task = "detect"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(12, 1)

    def forward(self, images: Tensor, **given: Any) -> Tensor:
        return self.layer(images.flatten(1))

    def loss(self, outputs: Tensor, targets: Any) -> Losses:
        return Losses({"far": outputs.square().mean()})


class Batches:
    """Four an epoch; `before(number)` is called when each is asked for."""

    batches_per_epoch = 4

    def __init__(self, before: Any = lambda number: None) -> None:
        self.before = before

    def start(self, epoch: int, batch: int) -> Iterator[Batch]:
        for number in range(4 * epoch + batch, 100):
            self.before(number)
            images = torch.full((2, 3, 2, 2), float(number % 4))
            yield Batch(images, (), (Frame(2, 2, 1.0, 1.0, 0, 0),) * 2, (0, 1))


def run(
    stop: StopRequest, saved: dict[str, Any] | None = None, **how: Any
) -> tuple[TrainingState, list[tuple[int, int, int]]]:
    """A run to its end; its state and where it was saved: epoch, batch, step."""
    settings = TrainSettings(epochs=3, accumulate=how.pop("accumulate", 1), evaluate_every=1, save_minutes=60)
    state = TrainingState.begin(Toy(), settings, 4)
    if saved is not None:
        state.restore(saved)
    places: list[tuple[int, int, int]] = []

    def save(state: TrainingState) -> None:
        places.append((state.epoch, state.batch, state.step))

    def evaluate(model: nn.Module) -> CocoScores:
        how.get("on_evaluate", lambda: None)()
        return CocoScores("bbox", 4, 0.5, *(None,) * 11, mean_iou_matched=None, per_class={})

    try:
        train(
            state, Batches(how.get("before", lambda number: None)), settings, device=torch.device("cpu"),
            evaluate=evaluate, save_state=save, save_epoch=lambda *_: None, listen=how.get("listen", lambda e: None),
            stop=stop,
        )  # fmt: skip
    except InterruptedRunError:
        places.append((-1, -1, -1))
    return state, places


INTERRUPTED = (-1, -1, -1)


def test_a_step_that_has_begun_is_finished_and_its_state_saved() -> None:
    stop = StopRequest()

    def listen(event: Event) -> None:
        if isinstance(event, StepDone) and (event.epoch, event.batch) == (2, 2):
            stop.ask()  # told between backward and the optimizer's step

    _, places = run(stop, listen=listen)
    # Before step 1, after epoch 1, and after the second step of epoch 2: 6 steps.
    assert places == [(0, 0, 0), (1, 0, 4), (1, 2, 6), INTERRUPTED]


def test_while_it_waits_for_images_it_ends_at_once() -> None:
    stop = StopRequest()
    _, places = run(stop, before=lambda number: stop.ask() if number == 5 else None)
    assert places == [(0, 0, 0), (1, 0, 4), (1, 1, 5), INTERRUPTED]


def test_while_it_evaluates_it_ends_at_once_and_evaluates_again_when_it_goes_on() -> None:
    stop = StopRequest()
    evaluations: list[int] = []

    def on_evaluate() -> None:
        evaluations.append(1)
        if len(evaluations) == 2:
            stop.ask()

    state, places = run(stop, on_evaluate=on_evaluate)
    assert places[-2:] == [(1, 4, 8), INTERRUPTED]  # the steps of epoch 2 are through, the epoch is not
    again, places = run(StopRequest(), saved=state.to_dict())
    assert places == [(1, 4, 8), (2, 0, 8), (3, 0, 12)]
    whole, _ = run(StopRequest())
    assert again.history == whole.history
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_interrupted_anywhere_and_resumed_it_ends_the_same(accumulate: int) -> None:
    whole, _ = run(StopRequest(), accumulate=accumulate)
    for place in range(1, 12):
        stop = StopRequest()
        seen = []

        def listen(event: Event, place: int = place, stop: StopRequest = stop, seen: list[int] = seen) -> None:
            seen.append(isinstance(event, StepDone))
            if sum(seen) == place:
                stop.ask()

        state, places = run(stop, accumulate=accumulate, listen=listen)
        assert places[-1] == INTERRUPTED
        assert places[-2][2] == -(-place // accumulate)  # the step is finished
        again, _ = run(StopRequest(), saved=state.to_dict(), accumulate=accumulate)
        assert again.history == whole.history
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(tensor, again.model.state_dict()[name]), (place, name)


def test_a_request_is_heard_while_a_run_goes_on_and_not_after() -> None:
    stop = StopRequest()
    heard: list[bool] = []
    run(stop, on_evaluate=lambda: heard.append(stop.heard))
    assert heard == [True] * 3
    assert not stop.heard


@pytest.mark.parametrize(("accumulate", "last"), [(1, (1, 1, 5)), (2, (1, 0, 2))])
def test_dead_workers_of_a_run_that_was_asked_to_end_are_no_error(accumulate: int, last: Any) -> None:
    stop = StopRequest()

    def before(number: int) -> None:
        if number == 5:  # where two make a step, the second of these
            stop.asked = True
            raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")

    _, places = run(stop, before=before, accumulate=accumulate)
    assert places[-2:] == [last, INTERRUPTED]  # half of a step cannot be saved: the state before it is there


def test_dead_workers_while_it_evaluates_are_no_error_either() -> None:
    stop = StopRequest()

    def on_evaluate() -> None:
        stop.asked = True
        raise WorkerEndedError("a process that prepares batches has ended")

    _, places = run(stop, on_evaluate=on_evaluate)
    assert places == [(0, 0, 0), (0, 4, 4), INTERRUPTED]


def test_where_nobody_asked_dead_workers_are_an_error() -> None:
    def on_evaluate() -> None:
        raise WorkerEndedError("a process that prepares batches has ended")

    with pytest.raises(WorkerEndedError):
        run(StopRequest(), on_evaluate=on_evaluate)
