"""Ctrl-C and SIGTERM on the command line: patience with a step, once."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from visionkit.cli import process
from visionkit.cli.interruption import SIGNALS, patient_signals
from visionkit.cli.process import become_several
from visionkit.engine.events import Event, Saved
from visionkit.engine.interruption import InterruptedRunError, StopRequest
from visionkit.errors import UsageError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to speak of")

WORDS = "Interrupted; the state is saved, go on by: visionkit finetune --resume run"


@contextmanager
def listening() -> Iterator[tuple[StopRequest, Any]]:
    """The request in a run that has saved its state."""
    events: list[Event] = []
    before = [signal.getsignal(number) for number in (*SIGNALS, signal.SIGCHLD)]
    try:
        with patient_signals(events.append) as (listen, stop), stop.heard_by_run():
            listen(Saved(Path("run/state.pt")))
            assert len(events) == 1
            yield stop, listen
    finally:
        assert [signal.getsignal(number) for number in SIGNALS] == before[:2]
        signal.signal(signal.SIGCHLD, before[2])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_waits_for_the_step(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def a_step_and_a_rest() -> None:
        with listening() as (stop, _):
            os.kill(os.getpid(), number)
            assert stop.asked  # and nothing else has happened
            with stop.at_rest():
                raise AssertionError("never begun")

    with pytest.raises(SystemExit) as end:
        a_step_and_a_rest()
    assert end.value.code == code
    assert capsys.readouterr().err.splitlines() == [WORDS]


def test_the_second_leaves_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    def two_signals() -> None:
        with listening():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("never reached")

    with pytest.raises(SystemExit) as end:
        two_signals()
    assert end.value.code == 130
    assert capsys.readouterr().err.splitlines() == [WORDS]


def test_before_a_run_goes_on_the_first_leaves_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]

    def one_signal() -> None:
        with patient_signals(lambda event: None):
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("never reached")

    with pytest.raises(SystemExit) as end:
        one_signal()
    assert end.value.code == 130
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert capsys.readouterr().err == ""


def test_between_the_runs_of_a_study_and_after_the_last_it_says_how_to_go_on_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def a_signal_while_nothing_trains() -> None:
        with patient_signals(lambda event: None) as (listen, stop):
            with stop.heard_by_run():
                listen(Saved(Path("run/state.pt")))
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("never reached")

    with pytest.raises(SystemExit) as end:
        a_signal_while_nothing_trains()
    assert end.value.code == 143
    assert capsys.readouterr().err.splitlines() == [WORDS]


def test_where_another_process_of_the_run_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, listening():
        raise InterruptedRunError
    assert end.value.code == 143
    assert capsys.readouterr().err.splitlines() == [WORDS]


def test_of_several_processes_it_says_how_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(SystemExit), listening():
        raise InterruptedRunError
    assert capsys.readouterr().err.splitlines() == [f"{WORDS} --processes 2"]


def test_other_ends_are_not_its_business(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, listening():
        sys.exit(3)
    assert end.value.code == 3
    with pytest.raises(UsageError), listening():
        raise UsageError("a fact")
    assert capsys.readouterr().err == ""


# Several devices ------------------------------------------------------------------------------------------------------


def test_several_devices_become_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[Any] = []
    monkeypatch.setattr(process.os, "execv", lambda program, arguments: became.append((program, arguments)))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr(sys, "argv", ["visionkit", "finetune", "--device", "cuda:1,3", "--epochs", "2"])
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    become_several("cuda:1,3")
    launcher = [sys.executable, "-m", "visionkit.cli.launcher", "--standalone", "--nproc-per-node=2"]
    launcher.append(f"--log-dir={os.devnull}")
    arguments = ["-m", "visionkit", "finetune", "--device", "cuda:1,3", "--epochs", "2"]
    assert became == [(sys.executable, [*launcher, *arguments])]
    with pytest.raises(UsageError, match="device 'cuda:4' is not here, 4 CUDA devices are"):
        become_several("cuda:0,4")
    for one in (None, "auto", "cpu", "cuda", "cuda:1", "cuda:0,x"):
        become_several(one)
    become_several("cpu", processes=3)
    assert became.pop()[1][4] == "--nproc-per-node=3"
    with pytest.raises(UsageError, match="--device cuda:1,3 is a process each, 2; leave out --processes 3"):
        become_several("cuda:1,3", processes=3)
    monkeypatch.setenv("LOCAL_RANK", "0")
    become_several("cuda:1,3")  # started already
    become_several("cpu", processes=3)
    assert len(became) == 1
