"""What ends a training run on its way, and what is intact afterwards: signals, full disks, lost workers, no memory."""

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TinyRun, tiny_settings, write_blocks

import visionkit
from visionkit.api import batch_size, training_run
from visionkit.api.prepare import prepare
from visionkit.build import load_model
from visionkit.choices import Choices
from visionkit.data.dataset import DetectionDataset
from visionkit.engine.broken_batch import load_batch
from visionkit.engine.checkpoint import load_state, save_state
from visionkit.engine.events import Event, StepDone
from visionkit.engine.interruption import InterruptedRunError, StopRequest
from visionkit.engine.train import TrainingState
from visionkit.errors import UsageError, VisionkitError
from visionkit.models.yolo import Yolo

FILES = ("last.safetensors", "best.safetensors", "metrics.csv", "metrics.jsonl", "curves.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("survive") / "data", {"train": 10, "val": 4})


SETTINGS = tiny_settings(epochs=2, imgsz=32)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run = tmp_path_factory.mktemp("whole") / "run"
    visionkit.finetune(data, out=run, **SETTINGS)
    return files_of(run)


def files_of(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in FILES}


def failing(kind: type[VisionkitError] = VisionkitError, **how: Any) -> str:
    """The one line of a run that fails."""
    with pytest.raises(kind) as caught:
        visionkit.finetune(**how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Asked to end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_asked_to_end_it_saves_the_step_it_was_in_and_goes_on_to_the_same_bytes(
    steps: int, data: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    stop, seen = StopRequest(), []

    def listen(event: Event) -> None:
        seen.append(isinstance(event, StepDone))
        if sum(seen) == steps and seen[-1]:
            stop.ask()

    with pytest.raises(InterruptedRunError):
        visionkit.finetune(data, out=tmp_path / "run", listen=listen, stop=stop, **SETTINGS)
    training = load_state(tmp_path / "run" / "state.pt")["training"]
    assert (training["step"], training["epoch"] * 3 + training["batch"]) == (steps, steps)  # three batches an epoch
    visionkit.finetune(resume=tmp_path / "run")
    assert files_of(tmp_path / "run") == whole


# A run that is over, or whose state is damaged ------------------------------------------------------------------------


def test_resuming_a_finished_run_says_so_and_writes_nothing(tiny_run: TinyRun) -> None:
    folder = tiny_run.result.folder
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.name != "log.txt"}
    said: list[str] = []
    result = visionkit.finetune(resume=folder, say=said.append)
    assert f"{folder} is finished, after 20 of 20 epochs: nothing is left to do" in said
    assert not any(line.startswith(("Resuming", "Training ")) for line in said)
    assert result is not None
    assert result.scores == tiny_run.result.scores
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.name != "log.txt"}
    assert after == before


def test_a_run_that_ran_out_of_patience_is_finished_too(data: Path, tmp_path: Path) -> None:
    # Of weights that do not move: the second evaluation is no better.
    settings = tiny_settings(epochs=5, imgsz=32, lr=1e-12, patience=1, set=["train.evaluate_every=1"])
    visionkit.finetune(data, out=tmp_path / "run", **settings)
    said: list[str] = []
    visionkit.finetune(resume=tmp_path / "run", say=said.append)
    assert f"{tmp_path / 'run'} is finished, after 2 of 5 epochs: nothing is left to do" in said


def test_a_damaged_state_is_named_and_the_one_before_is_taken(data: Path, tmp_path: Path, whole: Any) -> None:
    run = tmp_path / "run"
    visionkit.finetune(data, out=run, **SETTINGS)
    state = bytearray((run / "state.pt").read_bytes())
    state[-100] ^= 1
    (run / "state.pt").write_bytes(state)
    said: list[str] = []
    visionkit.finetune(resume=run, say=said.append)
    words = "is damaged: its content does not match its SHA-256; going on from the state before it"
    assert said[0] == f"{run / 'state.pt'} {words}, {run / 'state.previous.pt'}"
    assert said[0] in (run / "log.txt").read_text()
    assert files_of(run) == whole
    # The damaged one has not taken the place of the one before it.
    assert (run / "state.damaged.pt").read_bytes() == state
    (run / "state.pt").unlink()
    assert load_state(run / "state.pt")["training"]["epoch"] > 0


def test_a_resumed_run_takes_other_workers_and_another_cache(data: Path, tmp_path: Path, whole: Any) -> None:
    run = tmp_path / "run"
    stop = StopRequest()
    with pytest.raises(InterruptedRunError):
        visionkit.finetune(
            data, out=run, stop=stop, listen=lambda e: stop.ask() if isinstance(e, StepDone) else None, **SETTINGS
        )
    visionkit.finetune(resume=run, workers=1, cache="off")
    assert load_state(run / "state.pt")["config"]["workers"] == 1
    assert (run / "metrics.csv").read_bytes() == whole["metrics.csv"]
    assert failing(UsageError, resume=run, workers=1, epochs=3).startswith("--resume goes on with the run's own")


# A full disk ----------------------------------------------------------------------------------------------------------


def failing_at(call: int, error: OSError) -> Callable[[Path, Any], None]:
    """`save_state`, whose so manieth call finds the disk full, half way."""
    calls = 0

    def save(path: Path, state: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        save_state(path, state)

    return save


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(
    number: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]
) -> None:
    run = tmp_path / "run"
    error = OSError(number, os.strerror(number))
    monkeypatch.setattr(training_run, "save_state", failing_at(2, error))
    assert failing(data=data, out=run, **SETTINGS) == (
        f"no space is left to write into {run} ({os.strerror(number)}); the last saved state is whole: make room, then "
        f"go on by --resume {run}"
    )
    monkeypatch.undo()
    assert load_state(run / "state.pt")["training"]["step"] == 0
    visionkit.finetune(resume=run)
    assert files_of(run) == whole


def test_a_disk_that_is_full_from_the_beginning(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(training_run, "save_state", failing_at(1, OSError(errno.ENOSPC, "No space left on device")))
    message = failing(data=data, out=run, **SETTINGS)
    assert message == f"no space is left to write into {run} (No space left on device); make room, and start anew"


def test_other_errors_of_the_system_stay_what_they_are(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(training_run, "save_state", failing_at(2, error))
    with pytest.raises(PermissionError):
        visionkit.finetune(data, out=tmp_path / "run", **SETTINGS)


# Workers --------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
def test_a_killed_worker_names_its_image_and_the_run_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]
) -> None:
    run, here, read = tmp_path / "run", os.getpid(), DetectionDataset.read
    image = data / "images" / "val_2.png"

    def fatal(dataset: DetectionDataset, index: int) -> Any:
        if os.getpid() != here and dataset.path(index) == image:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(dataset, index)

    monkeypatch.setattr(DetectionDataset, "read", fatal)
    message = failing(data=data, out=run, **{**SETTINGS, "workers": 1})
    assert message.startswith(f"a process that prepares batches has ended while it was reading {image} (")
    assert message.endswith(f"; training stopped, its last state is saved: go on by --resume {run}")
    monkeypatch.undo()
    visionkit.finetune(resume=run, workers=0)
    assert (run / "metrics.csv").read_bytes() == whole["metrics.csv"]


# Losses that are not finite -------------------------------------------------------------------------------------------


def test_broken_losses_are_skipped_counted_and_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, calls = Yolo.loss, []

    def breaking(model: Yolo, outputs: Any, targets: Any) -> Any:
        calls.append(1)
        losses = loss(model, outputs, targets)
        if len(calls) in (2, 3, 5):
            losses.parts["box"] = losses.parts["box"] * float("nan")
        return losses

    monkeypatch.setattr(Yolo, "loss", breaking)
    said: list[str] = []
    result = visionkit.finetune(data, out=tmp_path / "run", say=said.append, **SETTINGS)
    assert result is not None
    assert (result.skipped, result.to_json()["skipped"]) == (3, 3)
    assert [line for line in said if line.startswith("Skipped")] == [
        "Skipped the step at epoch 1, batch 2: its loss is not finite",
        "Skipped the step at epoch 2, batch 2: its loss is not finite",
    ]
    header, first, second = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert header.endswith(",skipped")
    assert (first[-2:], second[-2:]) == (",2", ",1")


def test_too_many_in_a_row_end_the_run_with_the_batch_in_a_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Yolo.loss

    def breaking(model: Yolo, outputs: Any, targets: Any) -> Any:
        losses = loss(model, outputs, targets)
        losses.parts["class"] = losses.parts["class"] / 0
        return losses

    monkeypatch.setattr(Yolo, "loss", breaking)
    run = tmp_path / "run"
    settings = {**SETTINGS, "set": ["train.max_skipped=2", "train.save_minutes=0"]}
    message = failing(data=data, out=run, **settings)
    assert message.startswith("the loss is no longer finite at epoch 1, batch 2 (learning rate ")
    assert message.endswith(
        f", steps skipped in a row: 2; the last saved state is intact, start anew with a lower --lr; the last batch is "
        f"in {run / 'broken_batch.safetensors'}"
    )
    batch = load_batch(run / "broken_batch.safetensors")
    assert batch.images.shape == (4, 3, 32, 32)
    assert sum(len(target.boxes) for target in batch.targets) > 0


# Memory ---------------------------------------------------------------------------------------------------------------

NO_MEMORY = "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 B"


def fits_only(images: int, monkeypatch: pytest.MonkeyPatch, error: type[Exception] = RuntimeError) -> None:
    """Let forward passes of more images than these find no memory."""
    forward = Yolo.forward

    def hungry(model: Yolo, batch: torch.Tensor, *args: Any, **given: Any) -> Any:
        if model.training and len(batch) > images:
            raise error(NO_MEMORY)
        return forward(model, batch, *args, **given)

    monkeypatch.setattr(Yolo, "forward", hungry)


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, torch.OutOfMemoryError])
def test_out_of_memory_names_the_batch_that_fits(
    error: type[Exception], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits_only(2, monkeypatch, error)
    assert failing(data=data, out=tmp_path / "run", **SETTINGS) == (
        "out of memory with batches of 4 images of 32 px on cpu; 2 fit: start anew with --batch 2 --set "
        "train.accumulate=2"
    )


@pytest.mark.parametrize("how", [{"epochs": None, "minutes": 0.02}, {"find_lr": True}])
def test_out_of_memory_while_it_is_measured_is_the_same_line(
    how: dict[str, Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits_only(2, monkeypatch)
    assert failing(data=data, out=tmp_path / "run", **{**SETTINGS, **how}) == (
        "out of memory with batches of 4 images of 32 px on cpu; 2 fit: start anew with --batch 2 --set "
        "train.accumulate=2"
    )
    assert not (tmp_path / "run").exists()


def test_what_fits_makes_steps_of_as_many_images_as_before(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits_only(2, monkeypatch)
    # Steps of 3 times 4 images are steps of 6 times 2.
    settings = {**SETTINGS, "set": ["train.accumulate=3"]}
    assert failing(data=data, out=tmp_path / "run", **settings).endswith("--batch 2 --set train.accumulate=6")


@pytest.mark.parametrize(("batch", "words"), [(4, ", and 2 do not fit either"), (2, "")])
def test_where_nothing_fits(
    batch: int, words: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits_only(1, monkeypatch)
    assert failing(data=data, out=tmp_path / "run", **{**SETTINGS, "batch": batch}) == (
        f"out of memory with batches of {batch} images of 32 px on cpu{words}; start anew with a smaller --imgsz or "
        "model"
    )


def test_auto_takes_the_largest_batch_that_fits_and_says_how_it_knows(data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    result = visionkit.finetune(data, out=tmp_path / "run", say=said.append, **{**SETTINGS, "batch": "auto"})
    assert result is not None
    (line,) = [line for line in said if line.startswith("Batch: ")]
    # 10 images: no power of two above 8 is tried. Two objects in each but one: the first of the largest is the worst.
    assert line.startswith("Batch: 8, the largest power of two up to 10 that fits (the image with most objects, train_")
    assert " with 2, at 32 px: " in line
    assert line.endswith("GB available)")
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert any("batch: 8" in row and row.endswith("# auto") for row in config.splitlines())


def test_auto_is_the_same_run_as_that_batch_by_number(data: Path, tmp_path: Path) -> None:
    visionkit.finetune(data, out=tmp_path / "auto", **{**SETTINGS, "batch": "auto"})
    visionkit.finetune(data, out=tmp_path / "eight", **{**SETTINGS, "batch": 8})
    assert files_of(tmp_path / "auto") == files_of(tmp_path / "eight")


def test_auto_where_the_system_does_not_say(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionkit.engine.batch_size.reset_peak_memory", lambda: False)
    said: list[str] = []
    visionkit.finetune(data, dry_run=True, say=said.append, **{**SETTINGS, "batch": "auto"})
    assert "Batch: 16, this system does not say what memory a step takes, so it is what it is without auto" in said


def test_auto_where_nothing_fits(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits_only(1, monkeypatch)
    assert failing(data=data, **{**SETTINGS, "batch": "auto"}) == (
        "not even a batch of 2 fits into memory (2 images do not); use a smaller --imgsz or model"
    )


@pytest.mark.parametrize(
    ("augment", "images", "side"),
    [("light", 1, 64), ("heavy", 4, 64), ({"base": "light", "multi_scale": 0.5}, 1, 96)],  # 1.5 * 64
)
def test_the_worst_batch_is_the_image_with_most_objects_in_a_mosaic_of_its_like(
    augment: Any, images: int, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_blocks(tmp_path / "data", {"train": 3, "val": 2})
    content = json.loads((data / "annotations" / "train.json").read_text())
    # The third image, id 25, gets three objects more: five in all.
    more = [{**content["annotations"][0], "id": 100 + i, "image_id": 25, "iscrowd": 0} for i in range(3)]
    (data / "annotations" / "train.json").write_text(
        json.dumps({**content, "annotations": content["annotations"] + more})
    )
    seen: list[Any] = []

    def look(trial: Callable[[int], None], most: int, device: torch.device) -> batch_size.Fit:
        trial(3)
        return batch_size.Fit(2, "looked at")

    monkeypatch.setattr(batch_size, "largest_batch", look)
    monkeypatch.setattr(batch_size, "two_steps", lambda state, batch, settings, device: seen.append(batch))
    said: list[str] = []
    settings = tiny_settings(imgsz=64, batch="auto", augment=augment)
    visionkit.finetune(data, dry_run=True, say=said.append, **settings)
    assert [len(target.boxes) for target in seen[0].targets] == [5 * images] * 3
    assert seen[0].image_ids == (25, 25, 25)
    assert seen[0].images.shape[-1] == side  # as large as sizes vary to
    words = "the largest power of two up to 3 that fits (the image with most objects, train_2.png with 5, "
    assert f"Batch: 2, {words}at {side} px: looked at)" in said


def test_auto_tries_what_learns_later_too(data: Path, tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    learning: list[int] = []

    def look(state: TrainingState, *_: Any) -> None:
        learning.append(sum(p.requires_grad for p in state.model.get_submodule("backbone").parameters()))

    monkeypatch.setattr(batch_size, "largest_batch", lambda trial, most, device: trial(2) or batch_size.Fit(2, "seen"))
    monkeypatch.setattr(batch_size, "two_steps", look)
    pool = len([*load_model(tiny_run.result.best).model.get_submodule("backbone.pool").parameters()])
    settings = tiny_settings(imgsz=32, batch="auto", weights=tiny_run.result.best, freeze=10)
    for schedule in (None, "backbone.pool@2"):
        said: list[str] = []
        visionkit.finetune(data, dry_run=True, say=said.append, unfreeze=schedule, **settings)
        assert any(line.startswith("Frozen 10 of ") for line in said)
    assert learning == [0, pool]


# Several processes ----------------------------------------------------------------------------------------------------


class Pair:
    """Two processes of which this is the first; in the other so many images fit."""

    rank, world_size, first = 0, 2, True

    def __init__(self, other: int = 64) -> None:
        self.other = other

    def least(self, mine: int) -> int:
        return min(mine, self.other)


def fitted_for_two(
    fit: batch_size.Fit, other: int, data: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, list[int], str]:
    """The batch of two processes, what this one tried at most, and what it said."""
    tried: list[int] = []
    monkeypatch.setattr(batch_size, "fitting_batch", lambda run, most: tried.append(most) or fit)
    choices = Choices()
    said: list[str] = []
    choices.say({"data": str(data), "weights": "scratch", "imgsz": 32, "workers": 0, "device": "cpu"}, "flag")
    run = prepare(choices, lambda line: None)
    fitted = batch_size.fit_batch(run, choices, said.append, Pair(other))  # type: ignore[arg-type]
    return fitted.config.train.batch, tried, said[0]


def test_auto_in_several_processes_is_what_fits_in_each(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 10 images are 5 a process, of which 4 fit here and 2 there.
    batch, tried, line = fitted_for_two(batch_size.Fit(4, "seen"), 2, data, monkeypatch)
    assert (batch, tried) == (4, [5])
    assert line.startswith("Batch: 4, 2 a process, the largest power of two up to 5 that fits (the image with most ")


def test_auto_in_several_processes_where_the_system_does_not_say(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, _, line = fitted_for_two(batch_size.Fit(None, "nothing is known"), 64, data, monkeypatch)
    assert (batch, line) == (16, "Batch: 16, nothing is known, so it is what it is without auto")
