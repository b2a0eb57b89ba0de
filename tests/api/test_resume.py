"""A run is a pure function of data, settings and seed: killed anywhere and resumed, it ends in the same bytes."""

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import CommandLine
from tiny import TinyRun, tiny_flags, tiny_settings, write_blocks

import visionkit
from visionkit.build import load_model
from visionkit.engine.checkpoint import load_state, previous_state, save_state
from visionkit.engine.events import Event, Saved
from visionkit.errors import CheckpointError, DataError, UsageError, VisionkitError

KILLS = int(os.environ.get("VISIONKIT_KILLS", "10"))
"""How often the busy run is killed; more on request, as VISIONKIT_KILLS=50 takes minutes."""

# What must be the same at the end, byte by byte.
RESULTS = ("last.safetensors", "best.safetensors", "metrics.csv", "metrics.jsonl", "curves.png")

# 5 batches an epoch and a step of the optimizer after 2, 2 and 1 of them; mosaics until the last two epochs; the state
# saved after every step.
BUSY = [
    *tiny_flags(batch=2, augment="heavy", workers=1, seed=3, epochs=max(9, 9 * KILLS // 10)),
    *("--set=train.accumulate=2", "--set=train.save_minutes=0", "--set=train.evaluate_every=2"),
    "--set=mosaic_until=0.8",
]


def results_of(run: Path) -> dict[str, Any]:
    """The files, and what the state holds beside them: raw weights, averages, optimizer, as bytes of each tensor."""
    state = load_state(run / "state.pt")["training"]
    return {name: (run / name).read_bytes() for name in RESULTS} | {"state.pt": plain(state)}


def plain(value: Any) -> Any:
    """A nested state with tensors as bytes, so that == compares it."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def kill_and_resume(command_line: CommandLine, first: list[Any], run: Path, kills: int, seed: int) -> None:
    """Run `first`, kill it and each resumed run at a random moment, `kills` times; let the last one end."""
    choose = random.Random(seed)
    arguments = ["finetune", *first, "--out", run]
    progress = []
    for number in range(kills):
        pid = command_line.start(*arguments)
        # The first state a process saves is the one it began with, the second is one step further.
        wait_for_saves(run / "state.pt", choose.choice([1, 2, 2, 3]))
        time.sleep(choose.uniform(0, 0.2))
        finished = command_line.kill(pid)
        assert finished.code == -9, f"kill {number} came too late: the run had ended\n{finished.stderr}"
        training = load_state(run / "state.pt")["training"]
        progress.append((training["epoch"], training["batch"]))
        arguments = ["finetune", "--resume", run]
    assert progress == sorted(progress)
    assert len({batch for _, batch in progress}) > 1, f"kills came at {progress}: within epochs and between them"
    finished = command_line(*arguments)
    assert finished.code == 0, finished.stderr


def wait_for_saves(state: Path, count: int) -> None:
    seen = modified(state)
    deadline = time.monotonic() + 240
    while count:
        assert time.monotonic() < deadline, "no state was saved within four minutes"
        time.sleep(0.005)
        if modified(state) not in (None, seen):
            seen, count = modified(state), count - 1


def modified(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # not there yet, or between two names
        return None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
@pytest.mark.timeout(max(300, 60 * KILLS))
def test_ten_kills_and_more_on_request_change_nothing(
    command_line: CommandLine, tiny_data: Path, tmp_path: Path
) -> None:
    first = ["--data", tiny_data, *BUSY]
    whole = command_line("finetune", *first, "--out", tmp_path / "whole")
    assert whole.code == 0, whole.stderr
    kill_and_resume(command_line, first, tmp_path / "killed", kills=KILLS, seed=1)
    assert results_of(tmp_path / "killed") == results_of(tmp_path / "whole")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
def test_three_kills_change_nothing_with_a_frozen_backbone_and_sgd(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.safetensors"
    shutil.copy(tiny_run.result.best, weights)
    first = ["--data", tiny_data, *BUSY, "--weights", weights, "--freeze", "10", "--optimizer=sgd", "--epochs=4"]
    whole = command_line("finetune", *first, "--out", tmp_path / "whole")
    assert whole.code == 0, whole.stderr
    kill_and_resume(command_line, first, tmp_path / "killed", kills=3, seed=2)
    assert results_of(tmp_path / "killed") == results_of(tmp_path / "whole")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
def test_four_kills_change_nothing_while_units_thaw(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.safetensors"
    shutil.copy(tiny_run.result.best, weights)
    schedule = "backbone.pool@2,backbone.stage4@3,backbone.stem@4"
    first = ["--data", tiny_data, *BUSY, "--weights", weights, "--freeze", "10", "--unfreeze", schedule, "--epochs=4"]
    first += ["--lr-backbone=0.002", "--set=train.layer_decay=0.9", "--set=train.loaded_rate=0.5"]
    whole = command_line("finetune", *first, "--out", tmp_path / "whole")
    assert whole.code == 0, whole.stderr
    kill_and_resume(command_line, first, tmp_path / "killed", kills=4, seed=3)
    assert results_of(tmp_path / "killed") == results_of(tmp_path / "whole")


# A run stopped in this process ----------------------------------------------------------------------------------------


class StoppedHereError(Exception):
    """What a test stops a run with."""


def stopped(data: Path, run: Path, saves: int, values: tuple[str, ...] = (), **others: Any) -> None:
    """Begin a run and stop it right after its state was saved that many times."""
    left = saves

    def listen(event: Event) -> None:
        nonlocal left
        if isinstance(event, Saved):
            left -= 1
            if not left:
                raise StoppedHereError

    settings = tiny_settings(epochs=2, imgsz=32, set=["train.save_minutes=0", *values], **others)
    with pytest.raises(StoppedHereError):
        visionkit.finetune(data, out=run, listen=listen, **settings)


def refusal(kind: type[VisionkitError], run: Path, **options: Any) -> str:
    with pytest.raises(kind) as error:
        visionkit.finetune(resume=run, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def whole(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The results of the run that `stopped` stops."""
    run = tmp_path_factory.mktemp("whole") / "run"
    visionkit.finetune(tiny_data, out=run, **tiny_settings(epochs=2, imgsz=32, set=["train.save_minutes=0"]))
    return results_of(run)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_in_half, flip_a_bit, Path.unlink])
def test_a_damaged_state_falls_back_to_the_one_before_and_ends_the_same(
    damage: Callable[[Path], None], tiny_data: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    run = tmp_path / "run"
    stopped(tiny_data, run, saves=4)
    damage(run / "state.pt")
    said: list[str] = []
    visionkit.finetune(resume=run, say=said.append)
    # Saved before step 1 and after batches 1, 2 and 3 of 3: what is left is the third, after 2 batches.
    assert f"Resuming {run} after 0 of 2 epochs and 2 batches" in said
    assert results_of(run) == whole


def test_layers_that_draw_or_count_and_other_schedules_end_the_same_too(tiny_data: Path, tmp_path: Path) -> None:
    values = (
        *("norm=switchable", "activation=rrelu", "init=kaiming", "box_loss=giou", "train.optimizer=adadelta"),
        *("train.schedule=one-cycle", "train.l1=1e-5", "train.l2=1e-4", "train.clip_value=1"),
    )
    stopped(tiny_data, tmp_path / "run", saves=3, values=values)
    visionkit.finetune(resume=tmp_path / "run")
    settings = tiny_settings(epochs=2, imgsz=32, set=["train.save_minutes=0", *values])
    visionkit.finetune(tiny_data, out=tmp_path / "whole", **settings)
    assert results_of(tmp_path / "run") == results_of(tmp_path / "whole")


THAWING: dict[str, Any] = {"freeze": 10, "unfreeze": "backbone.pool@2"}


@pytest.fixture(scope="module")
def thawing(tiny_run: TinyRun, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of a run whose last unit of the backbone thaws in its second and last epoch."""
    run = tmp_path_factory.mktemp("thawing") / "run"
    settings = tiny_settings(epochs=2, imgsz=32, set=["train.save_minutes=0"], weights=tiny_run.result.best, **THAWING)
    visionkit.finetune(tiny_data, out=run, **settings)
    return results_of(run)


# Before step 1; after batches 1 and 2 of 3 and at the end, of each of 2 epochs. It thaws behind the fourth.
@pytest.mark.parametrize("saves", range(1, 8))
def test_a_run_that_thaws_ends_the_same_whatever_save_it_was_stopped_after(
    saves: int, tiny_run: TinyRun, tiny_data: Path, tmp_path: Path, thawing: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    stopped(tiny_data, run, saves=saves, weights=tiny_run.result.best, **THAWING)
    said: list[str] = []
    result = visionkit.finetune(resume=run, say=said.append)
    assert result is not None
    assert results_of(run) == thawing
    assert [(each.epoch, each.units) for each in result.thawed] == [(2, ("backbone.pool",))]
    # What is said is true of where it goes on, not of where it began.
    (frozen,) = [line for line in said if line.startswith(("Frozen 1", "Frozen 9"))]
    assert frozen.startswith("Frozen 10 of 17 units" if saves <= 4 else "Frozen 9 of 17 units")
    assert ("Thaws at the beginning of epoch 2: 1 unit, backbone.pool" in said) == (saves <= 4)
    assert said.count(result.thawed[0].sentence()) == 1


def test_the_table_of_rates_counts_what_is_still_frozen(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    # The first save behind the thaw.
    stopped(tiny_data, tmp_path / "run", saves=5, weights=tiny_run.result.best, lr_backbone=0.002, **THAWING)
    visionkit.finetune(resume=tmp_path / "run", dry_run=True, say=said.append)
    (row,) = [line.split() for line in said if line.startswith("  backbone ")]
    model = load_model(tiny_run.result.best).model
    every, pool = (len([*model.get_submodule(name).parameters()]) for name in ("backbone", "backbone.pool"))
    # Rule, tensors, parameters, frozen, lr, decay.
    assert (int(row[1]), int(row[3])) == (every, every - pool)


def test_a_run_stopped_before_its_first_step_begins_again(
    tiny_data: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    stopped(tiny_data, tmp_path / "run", saves=1)
    visionkit.finetune(resume=tmp_path / "run")
    assert results_of(tmp_path / "run") == whole


def test_resuming_a_finished_run_changes_nothing_and_tells_its_result(tiny_run: TinyRun, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run.result.folder, run)
    result = visionkit.finetune(resume=run)
    assert result is not None
    assert (result.epochs, result.best_epoch, result.scores) == (20, tiny_run.result.best_epoch, tiny_run.result.scores)
    assert results_of(run) == results_of(tiny_run.result.folder)


def test_the_state_is_all_that_is_needed_of_the_folder_and_of_the_weights(
    tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.safetensors"
    shutil.copy(tiny_run.result.best, weights)
    run = tmp_path / "run"
    stopped(tiny_data, run, saves=2, freeze=10, weights=weights)
    weights.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(run / "state.pt", elsewhere)
    result = visionkit.finetune(resume=elsewhere)
    assert result is not None
    assert result.epochs == 2


def test_another_number_of_processes_is_told(tiny_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stopped(tiny_data, run, saves=2)
    state = load_state(run / "state.pt")
    assert state.pop("processes") == 1

    def told(**processes: int) -> list[str]:
        save_state(run / "state.pt", {**state, **processes})
        said: list[str] = []
        visionkit.finetune(resume=run, dry_run=True, say=said.append)
        return [line for line in said if line.startswith("Until now ")]

    assert told() == told(processes=1) == []  # states of earlier versions did not say
    assert told(processes=2) == [
        "Until now it learnt in 2 processes, from here on in 1: speed and results differ; to keep them start as many, "
        "on one machine by --processes 2"
    ]


# What is refused ------------------------------------------------------------------------------------------------------


def change_a_box(content: dict[str, Any]) -> None:
    content["annotations"][0]["bbox"][0] += 1


def add_a_class(content: dict[str, Any]) -> None:
    content["categories"].append({"id": 9, "name": "green block"})


@pytest.mark.parametrize("change", [change_a_box, add_a_class])
@pytest.mark.parametrize("split", ["train", "val"])
def test_changed_annotations_are_refused(change: Callable[[dict[str, Any]], None], split: str, tmp_path: Path) -> None:
    data, run = write_blocks(tmp_path / "data", {"train": 4, "val": 3}), tmp_path / "run"
    stopped(data, run, saves=1)
    file = data / "annotations" / f"{split}.json"
    content = json.loads(file.read_text())
    change(content)
    before = file.read_text()
    file.write_text(json.dumps(content))
    assert refusal(DataError, run) == (
        f"the annotations in {data} are not those this run began with, and it would end elsewhere; "
        "restore them, or start a new run"
    )
    file.write_text(before)
    assert visionkit.finetune(resume=run) is not None


def test_without_a_whole_state_it_is_one_clear_line(tiny_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    message = f"no whole training state at {run / 'state.pt'}; only a run folder with a state.pt can be resumed"
    assert refusal(CheckpointError, run) == message
    assert not run.exists()
    stopped(tiny_data, run, saves=2)
    for state in (run / "state.pt", previous_state(run / "state.pt")):
        cut_in_half(state)
    assert refusal(CheckpointError, run) == message


@pytest.mark.parametrize("weights", ["model", "average"])
def test_a_state_whose_weights_are_no_numbers_is_refused(weights: str, tiny_run: TinyRun, tmp_path: Path) -> None:
    state = load_state(tiny_run.result.folder / "state.pt")
    name, tensor = next((name, t) for name, t in state["training"][weights].items() if t.is_floating_point())
    tensor[(0,) * tensor.dim()] = float("nan")
    save_state(tmp_path / "state.pt", state)
    assert refusal(CheckpointError, tmp_path) == (
        f"{tmp_path / 'state.pt'} has 1 of {tensor.numel()} numbers in {name} that are NaN or infinite, weights must "
        "be finite; start a new run"
    )


def test_a_run_that_ended_before_its_first_state_is_begun_again_by_its_config(tiny_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stopped(tiny_data, run, saves=1)
    (run / "state.pt").unlink()
    assert refusal(CheckpointError, run) == (
        f"{run} holds no training state, because its run ended before the first was saved, or fits its model at once; "
        f"begin it again by --config {run / 'config.yaml'} and another --out"
    )


def test_a_resumed_run_takes_no_other_setting(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    message = "--resume goes on with the run's own settings and takes no other; leave them out"
    others: list[dict[str, Any]] = [
        *({"data": tiny_data}, {"epochs": 3}, {"freeze": 10}),
        *({"set": ["imgsz=32"]}, {"out": tmp_path}, {"config": "a.yaml"}),
    ]
    for other in others:
        assert refusal(UsageError, tiny_run.result.folder, **other) == message


def test_a_dry_run_of_a_resumed_run_changes_nothing(tiny_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stopped(tiny_data, run, saves=2)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    said: list[str] = []
    assert visionkit.finetune(resume=run, dry_run=True, say=said.append) is None
    assert said[-1] == "Dry run: nothing was trained, no run folder was made"
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
