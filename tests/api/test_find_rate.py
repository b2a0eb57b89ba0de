"""`--find-lr`: says a rate, draws why, trains nothing."""

import json
import os
from pathlib import Path
from typing import Any

import cv2
import pytest
from command_line import CommandLine
from tiny import tiny_flags, tiny_settings

import visionkit
from visionkit.cli.finetune import finetune as command
from visionkit.engine.events import Event, Listener, RateFound
from visionkit.errors import UsageError


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
def test_it_says_a_rate_and_draws_why(command_line: CommandLine, tiny_data: Path, tmp_path: Path) -> None:
    flags = tiny_flags(epochs=2, imgsz=32)
    done = command_line("finetune", "--data", tiny_data, *flags, "--find-lr", folder=tmp_path)
    assert done.code == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Learning rate: ")]
    rate = float(line.split()[2].rstrip(","))
    assert 1e-6 < rate < 1
    assert done.stdout == f"--lr {rate:g}\n"  # as the next command takes it
    picture = tmp_path / "runs" / "find-lr" / "data-1" / "learning_rate.png"
    assert line.endswith(f"; see {picture.relative_to(tmp_path)}, use it by --lr {rate:g}")
    assert cv2.imread(str(picture)) is not None
    assert [path.name for path in picture.parent.iterdir()] == [picture.name]


def test_for_machines_it_is_an_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def find(data: Any, *, listen: Listener, find_lr: bool, **flags: Any) -> None:
        assert find_lr
        listen(RateFound(0.003, Path("runs/learning_rate.png")))

    monkeypatch.setattr("visionkit.api.finetune.finetune", find)
    command(find_lr=True, json_=True)
    assert json.loads(capsys.readouterr().out) == {"lr": 0.003, "picture": "runs/learning_rate.png"}


def test_it_is_a_function_of_data_settings_and_seed(tiny_data: Path, tmp_path: Path) -> None:
    said: list[list[str]] = [[], []]
    told: list[Event] = []
    for number, lines in enumerate(said):
        how: dict[str, Any] = {"out": tmp_path / str(number), "say": lines.append, "listen": told.append}
        assert visionkit.finetune(tiny_data, find_lr=True, **how, **tiny_settings(epochs=2, imgsz=32)) is None
    rates = [line.split(" steps")[0] for lines in said for line in lines if line.startswith("Learning rate: ")]
    assert rates[0] == rates[1]
    found = [event for event in told if isinstance(event, RateFound)]
    assert [rates[0].split()[2].rstrip(",")] * 2 == [f"{event.lr:g}" for event in found]
    assert found[1].picture == tmp_path / "1" / "learning_rate.png"


def test_a_run_that_has_begun_has_its_rate(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--resume goes on with the run's own settings and takes no other"):
        visionkit.finetune(resume=tmp_path, find_lr=True)
