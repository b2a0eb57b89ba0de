"""Runs that torchrun starts: two processes end where one does, and one that dies is started again and ends the same."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_flags, tiny_settings

import visionkit
from visionkit.api.shared_run import begun
from visionkit.build import load_model
from visionkit.engine.checkpoint import load_state
from visionkit.errors import UsageError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
TORCHRUN.append(f"--log-dir={os.devnull}")  # else it leaves a temporary folder

# Batch norms over the whole batch, as one process has them; float sums differ in their order.
SHARED = {
    "epochs": 3,
    "imgsz": 32,
    "lr": 0.001,
    "set": ["train.amp=false", "train.sync_batchnorm=true", "train.evaluate_every=1", "train.save_minutes=0"],
}
FLAGS = [
    *tiny_flags(epochs=3, imgsz=32, lr=0.001),
    *(
        "--set=train.amp=false",
        "--set=train.sync_batchnorm=true",
        "--set=train.evaluate_every=1",
        "--set=train.save_minutes=0",
    ),
]


@contextmanager
def started(*arguments: Any, torchrun: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    command = [*TORCHRUN, *torchrun, "-m", "visionkit", "finetune", *(str(word) for word in arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            # torchrun's processes lead groups of their own: left alive, they would hold its streams open.
            for alive in (*children_of(process.pid), process.pid):
                with suppress(ProcessLookupError):
                    os.kill(alive, signal.SIGKILL)
        process.communicate()


def finished(*arguments: Any, torchrun: tuple[str, ...] = ()) -> tuple[int, str, str]:
    with started(*arguments, torchrun=torchrun) as process:
        stdout, stderr = process.communicate(timeout=200)
        return process.returncode, stdout, stderr


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return load_state(run / "state.pt")["training"]["model"]


@pytest.fixture(scope="module")
def pair(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two processes."""
    run = tmp_path_factory.mktemp("pair") / "run"
    code, stdout, stderr = finished("--data", tiny_data, *FLAGS, "--out", run, "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["epochs"] == 3  # of one process: two lines would be no JSON
    return run


def test_two_processes_end_where_one_does(pair: Path, tiny_data: Path, tmp_path: Path) -> None:
    result = visionkit.finetune(tiny_data, out=tmp_path / "alone", **tiny_settings(**SHARED))
    assert result is not None
    # Weight by weight small models are held to this in `tests/engine/distributed_checks.py`, and the gradients of parts
    # of a batch to the whole's, with fixed statistics, in `tests/models/test_parts_of_a_batch.py`. Batch norms on maps
    # of a few cells, as 32 px make them, divide by variances near 0 and enlarge what sums round differently.
    mine, theirs = (
        json.loads((run / "metrics.jsonl").read_text().splitlines()[0]) for run in (pair, tmp_path / "alone")
    )
    assert mine.keys() == theirs.keys()
    for key in (key for key in theirs if key.startswith("loss/")):
        assert mine[key] == pytest.approx(theirs[key], rel=0.02), key
    assert load_model(pair / "best.safetensors").recipe.train.batch == 4


def test_a_killed_rank_ends_in_a_restart_and_in_the_same_bytes(pair: Path, tiny_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with started("--data", tiny_data, *FLAGS, "--out", run, torchrun=("--max-restarts=3",)) as process:
        wait_for_step(run / "state.pt", 4, process)
        os.kill(rank_of(process.pid, 1), signal.SIGKILL)
        _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    assert "Resuming " in (run / "log.txt").read_text()
    ours, theirs = tensors(run), tensors(pair)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    assert (run / "metrics.csv").read_bytes() == (pair / "metrics.csv").read_bytes()


def test_sigterm_is_agreed_on_and_the_run_goes_on(pair: Path, tiny_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with started("--data", tiny_data, *FLAGS, "--out", run) as process:
        wait_for_step(run / "state.pt", 4, process)
        os.kill(process.pid, signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"Interrupted; the state is saved, go on by: visionkit finetune --resume {run}" in stderr
    code, _, stderr = finished("--resume", run)
    assert code == 0, stderr
    ours, theirs = tensors(run), tensors(pair)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


def test_what_cannot_be_shared_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    code, _, stderr = finished("--data", tiny_data, *FLAGS, "--batch=3", "--out", tmp_path / "run")
    assert code != 0
    assert "error: batch must be a positive multiple of the number of processes, 2, got 3; use 4" in stderr
    assert not (tmp_path / "run").exists()


def test_minutes_measure_both_and_give_both_the_same_epochs(tiny_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = [flag for flag in FLAGS if not flag.startswith("--epochs")]
    code, stdout, stderr = finished("--data", tiny_data, *flags, "--minutes=0.2", "--out", run, "--json")
    assert code == 0, stderr
    epochs = json.loads(stdout)["epochs"]
    assert f": {epochs} epoch" in stderr
    assert f"epochs: {epochs} " in (run / "config.yaml").read_text()
    assert "# auto" in next(line for line in (run / "config.yaml").read_text().splitlines() if " epochs: " in line)


def test_the_command_line_starts_processes_itself(tiny_data: Path, tmp_path: Path, pair: Path) -> None:
    run, temporary = tmp_path / "run", tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "visionkit", "finetune", "--data", str(tiny_data), *FLAGS, f"--out={run}"]
    elsewhere = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(
        [*command, "--processes=2"], check=False, capture_output=True, text=True, timeout=200, env=elsewhere
    )
    assert done.returncode == 0, done.stderr
    # Nothing is left there but PyTorch's cache, a folder for all its runs.
    assert not [path for path in temporary.iterdir() if not path.name.startswith("torchinductor_")]
    ours, theirs = tensors(run), tensors(pair)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def wait_for_step(state: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until a state of at least so many steps is there."""
    deadline = time.monotonic() + 120
    while not state.is_file() or load_state(state)["training"]["step"] < step:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def children_of(parent: int) -> dict[int, list[bytes]]:
    """The processes that one started, and the environment of each."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found[int(folder.name)] = (folder / "environ").read_bytes().split(b"\0")
    return found


def rank_of(launcher: int, rank: int) -> int:
    """The process with this rank among the children of torchrun."""
    mark = f"LOCAL_RANK={rank}".encode()
    (process,) = (pid for pid, environment in children_of(launcher).items() if mark in environment)
    return process


# What a restart goes on with ------------------------------------------------------------------------------------------


class Pair:
    """Two processes, of which this is the first; `restarted` in any of them."""

    rank, world_size, first = 0, 2, True

    def __init__(self, restarted: bool) -> None:
        self.restarted = restarted

    def any(self, mine: bool) -> bool:
        return mine or self.restarted

    def from_first(self, make: Any) -> Any:
        return make()


def test_a_restart_finds_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert begun(None, None) == "new"
    assert begun(tmp_path, Pair(restarted=False)) == "new"  # type: ignore[arg-type]
    (tmp_path / "config.yaml").write_text("")
    assert begun(tmp_path, Pair(restarted=True)) == "without a state"  # type: ignore[arg-type]
    (tmp_path / "state.previous.pt").write_bytes(b"")
    assert begun(tmp_path, Pair(restarted=True)) == "with a state"  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="already holds a run"):
        begun(tmp_path, Pair(restarted=False))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="already holds a run"):
        begun(tmp_path, None)


def test_restarts_need_a_folder_to_find_the_run_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(UsageError) as error:
        begun(None, Pair(restarted=False))  # type: ignore[arg-type]
    assert str(error.value) == (
        "a run that torchrun --max-restarts starts again is found again by its folder, and none is named; give --out"
    )
