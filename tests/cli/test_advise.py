"""`visionkit advise` and the options of `finetune` that go with it, on the command line."""

import json
import os
from pathlib import Path

import pytest
from command_line import CommandLine
from tiny import TinyRun

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")

QUICK = ("--device=cpu", "--threads=1", "--workers=0")


def test_words_on_stderr_and_advice_on_stdout(command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path) -> None:
    finished = command_line("advise", "--data", tiny_data, "--weights", tiny_run.result.best, *QUICK)
    assert finished.code == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[0].startswith("Advice: --strategy ")
    assert lines[-1].startswith(f"  command       visionkit finetune --data {tiny_data} --weights ")
    assert "Data: COCO layout" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_json_is_one_object(command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path) -> None:
    finished = command_line("advise", "--data", tiny_data, "--weights", tiny_run.result.best, "--json", *QUICK)
    assert finished.code == 0, finished.stderr
    assert json.loads(finished.stdout).keys() == {
        *("quadrant", "strategy", "freeze", "second", "evidence", "size", "similarity", "separability", "thresholds"),
        *("rates", "command", "trials"),
    }


def test_the_help_has_an_example(command_line: CommandLine) -> None:
    finished = command_line("advise", "--help")
    assert finished.code == 0
    assert "Example: visionkit advise " in finished.stdout


def test_a_strategy_that_contradicts_freeze_exits_with_2_and_shows_the_units(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    finished = command_line(
        "finetune", "--data", tiny_data, "--weights", tiny_run.result.best, "--strategy", "full", "--freeze", 10,
        "--out", tmp_path / "run", *QUICK,
    )  # fmt: skip
    assert finished.code == 2
    assert "error: --strategy full holds nothing still, but --freeze 10 says otherwise" in finished.stderr
    assert "  0  backbone.stem" in finished.stderr
    assert not (tmp_path / "run").exists()


def test_a_schedule_is_said_before_and_while_it_thaws(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    finished = command_line(
        "finetune", "--data", tiny_data, "--weights", tiny_run.result.best, "--freeze", 10, "--unfreeze",
        "backbone.pool@2", "--lr-backbone", 0.001, "--epochs", 2, "--imgsz", 32, "--batch", 5, "--json",
        "--out", tmp_path / "run", *QUICK,
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    assert "Thaws at the beginning of epoch 2: 1 unit, backbone.pool" in finished.stderr
    (thawed,) = finished.json["thawed"]
    assert thawed["units"] == ["backbone.pool"]
    assert (
        f"Thawed at the beginning of epoch 2: 1 unit, unchanged until then: SHA-256 {thawed['sha256']} before and after"
    ) in finished.stderr
    assert "Learning rates, by the first rule that matches" in finished.stderr
