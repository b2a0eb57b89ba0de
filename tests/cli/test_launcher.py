"""How several processes end: as the one that failed first, whose line is said once."""

import os
import signal
import subprocess
import sys

import pytest
import torch.distributed.run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from visionkit.cli import launcher, process


def test_an_error_of_all_is_one_line_and_its_exit_code() -> None:
    command = [sys.executable, "-m", "visionkit", "finetune", "--data", "no-such-folder", "--processes=2"]
    environment = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: no-such-folder does not exist, a dataset is a folder or a YAML file; name the folder that holds "
        "images/ and annotations/"
    ]


def ended(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> object:
    def run(arguments: object) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(torch.distributed.run, "run", run)
    monkeypatch.setattr(sys, "argv", ["launcher", "--nproc-per-node=2", "-m", "visionkit"])
    with pytest.raises(SystemExit) as end:
        launcher.main()
    return end.value.code


def failed(**codes: int) -> ChildFailedError:
    """Processes by rank that ended by these codes, in this order."""
    failures = {}
    for moment, (rank, code) in enumerate(codes.items()):
        failure = ProcessFailure(local_rank=int(rank[1:]), pid=1, exitcode=code, error_file="none")
        failure.timestamp = moment
        failures[int(rank[1:])] = failure
    return ChildFailedError("visionkit", failures)


def test_it_ends_as_the_first_that_failed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(monkeypatch, None) == 0
    assert ended(monkeypatch, failed(r1=3, r0=1)) == 3
    assert ended(monkeypatch, SignalException("", signal.SIGTERM)) == 143
    assert capsys.readouterr().err == ""


def test_one_that_was_killed_cannot_say_so_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, failed(r1=-9, r0=1)) == 1
    assert capsys.readouterr().err == (
        "error: process 1 of this run was ended from outside (SIGKILL); if memory ran out, use fewer --processes, a "
        "smaller --batch or --cache off; go on by --resume with the run's folder, as before with --processes 2\n"
    )


def test_only_others_wait_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(process.time, "sleep", waits.append)
    for rank in (None, "0", "1"):
        if rank is None:
            monkeypatch.delenv("LOCAL_RANK", raising=False)
        else:
            monkeypatch.setenv("LOCAL_RANK", rank)
        process.let_first_speak()
    assert waits == [process.FIRST_SPEAKS]
