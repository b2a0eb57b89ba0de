"""Several processes: what they do alike is in `distributed_checks.py`, which torchrun starts here twice over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from visionkit.engine.distributed import by_first, joined_processes, local_rank, restarts, restarts_allowed
from visionkit.errors import UsageError

CHECKS = Path(__file__).with_name("distributed_checks.py")
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
LAUNCHER.append(f"--log-dir={os.devnull}")  # else it leaves a temporary folder


@pytest.mark.skipif(sys.platform == "win32", reason="torch has no gloo launcher there")
def test_two_processes_do_alike() -> None:
    done = subprocess.run(
        [*LAUNCHER, str(CHECKS)], check=False, capture_output=True, text=True, timeout=240, cwd=CHECKS.parents[2]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = [line for line in done.stdout.splitlines() if line.startswith("ok check_")]
    assert len(passed) == CHECKS.read_text().count("\ndef check_") > 0


REJOIN = """
import os, signal, time
import torch
from visionkit.engine.distributed import joined_processes

rank, start = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
if start == 1 and rank == 1:
    time.sleep(1)  # by now the other has looked for this one's address, and what it finds is of the one that died
with joined_processes() as processes:
    assert processes.sum(torch.ones(1)) == 2
    if start == 0 and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    while start == 0:
        time.sleep(1)
print("joined again", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="torch has no gloo launcher there")
def test_one_that_is_started_again_late_is_waited_for(tmp_path: Path) -> None:
    script = tmp_path / "rejoin.py"
    script.write_text(REJOIN)
    launcher = [*LAUNCHER, "--max-restarts=1", str(script)]
    done = subprocess.run(launcher, check=False, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("joined again") == 2


def test_a_process_of_its_own_joins_nothing() -> None:
    for environment in ({}, {"WORLD_SIZE": "1", "RANK": "0"}, {"WORLD_SIZE": ""}):
        with joined_processes(environment) as processes:
            assert processes is None


def test_half_of_what_torchrun_says_is_refused() -> None:
    with pytest.raises(UsageError) as error, joined_processes({"WORLD_SIZE": "2", "RANK": "0"}):
        pass
    assert str(error.value) == (
        "WORLD_SIZE is 2 but MASTER_ADDR, MASTER_PORT is not set; start the processes by torchrun -m visionkit, or "
        "unset WORLD_SIZE"
    )


def test_what_torchrun_says_of_places_and_restarts() -> None:
    told = {"LOCAL_RANK": "3", "TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_MAX_RESTARTS": "4"}
    assert (local_rank(told), restarts(told), restarts_allowed(told)) == (3, 1, 4)
    assert (local_rank({}), restarts({}), restarts_allowed({})) == (0, 0, 0)


def test_alone_everybody_is_the_first() -> None:
    assert by_first(None, os.getpid) == os.getpid()
