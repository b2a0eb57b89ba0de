"""The study of strategies: rows that survive a kill, regret by hand, and a tiny study that goes on where it was."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import TinyRun

from visionkit.errors import VisionkitError

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "study_strategies"))

from regret import plan_of, summarise, table
from rows import add_row, key_of, read_rows

TOOL = Path(__file__).parents[2] / "tools" / "study_strategies"


def trial(target: str, strategy: str, score: float | None, seed: int = 0, freeze: str | None = None) -> dict[str, Any]:
    row = {"kind": "trial", "target": target, "strategy": strategy, "freeze": freeze, "seed": seed}
    return row | {"minutes": 3, "weights": "default", "metric": "AP", "score": score}


def advice(target: str, strategy: str, freeze: str | None = None) -> dict[str, Any]:
    return {"kind": "advice", "target": target, "strategy": strategy, "freeze": freeze}


# Rows -----------------------------------------------------------------------------------------------------------------


def test_rows_come_back_and_a_line_that_was_cut_off_is_none(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    assert read_rows(path) == []
    rows = [trial("cells", "head", 0.5), trial("cells", "full", None)]
    for row in rows:
        add_row(path, row)
    assert read_rows(path) == rows
    path.write_bytes(path.read_bytes()[:-5])
    assert read_rows(path) == rows[:1]
    add_row(path, rows[1])
    assert read_rows(path) == rows
    assert path.read_text().count("\n") == 2


def test_a_line_that_is_no_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    path.write_text(json.dumps(trial("cells", "head", 0.5)) + "\nwords\n")
    with pytest.raises(VisionkitError, match=r"study\.jsonl, line 2: not JSON; take the line out"):
        read_rows(path)


def test_a_trial_is_known_by_what_was_asked_and_not_by_what_it_came_to() -> None:
    assert key_of(trial("cells", "head", 0.5)) == key_of(trial("cells", "head", 0.9))
    assert key_of(trial("cells", "head", 0.5)) != key_of(trial("cells", "head", 0.5, seed=1))
    assert key_of(trial("cells", "freeze", 0.5)) != key_of(trial("cells", "freeze", 0.5, freeze="4"))
    assert key_of(advice("cells", "head")) == key_of(advice("cells", "full"))


def test_a_trial_with_other_settings_is_another() -> None:
    plain = trial("cells", "head", 0.5)
    small, tall = plain | {"set": ["imgsz=320"]}, plain | {"set": ["imgsz=640"]}
    assert len({key_of(row) for row in (plain, small, tall)}) == 3
    assert key_of(plain) == key_of(plain | {"set": []})  # as rows from before settings were written down
    both = [plain | {"set": entries} for entries in (["imgsz=320", "norm=group"], ["norm=group", "imgsz=320"])]
    assert key_of(both[0]) == key_of(both[1]) != key_of(small)
    assert key_of(plain | {"set": ["imgsz=640", "imgsz=320"]}) == key_of(small)


def test_seeds_that_are_no_numbers_are_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL), "run", "--target", "a=b", "--seeds", "0,x", "--out", str(tmp_path / "rows")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "error: --seeds takes whole numbers separated by commas, got '0,x'\n")


# Regret ---------------------------------------------------------------------------------------------------------------

STUDY = [
    advice("cells", "head"),
    # Means over two seeds: head 0.40, freeze 0.45, full 0.50.
    *(trial("cells", "head", score, seed) for seed, score in enumerate((0.3, 0.5))),
    *(trial("cells", "freeze", score, seed) for seed, score in enumerate((0.4, 0.5))),
    *(trial("cells", "full", score, seed) for seed, score in enumerate((0.45, 0.55))),
    # The advice is the best.
    advice("balloons", "freeze", "backbone"),
    trial("balloons", "head", 0.1),
    trial("balloons", "freeze", 0.6),
    trial("balloons", "full", None),
]


def test_regret_by_hand() -> None:
    summary = summarise(STUDY)
    cells, balloons = summary.targets
    assert cells.scores == pytest.approx({"head": 0.4, "freeze": 0.45, "full": 0.5})
    assert cells.seeds == {"head": 2, "freeze": 2, "full": 2}
    assert (cells.best, cells.advised) == ("full", "head")
    # `freeze backbone` is what `freeze` does by itself; no score is a score of 0.
    assert (balloons.best, balloons.advised, balloons.scores["full"]) == ("freeze", "freeze", 0)
    assert summary.regrets == pytest.approx({"cells": 0.1, "balloons": 0})
    # Always head: 0.1 and 0.5; freeze: 0.05 and 0; full: 0 and 0.6.
    assert summary.always() == pytest.approx({"head": 0.3, "freeze": 0.025, "full": 0.3})
    found = summary.to_json()
    assert (found["mean_regret"], found["worst_regret"]) == pytest.approx((0.05, 0.1))


def test_advice_that_was_not_tried_has_no_regret() -> None:
    summary = summarise([advice("cells", "freeze", "4"), trial("cells", "full", 0.5)])
    assert summary.regrets == {}
    assert summary.to_json()["mean_regret"] is None
    assert plan_of(advice("cells", "freeze", "4")) == "freeze 4"


def test_the_table() -> None:
    assert table(summarise(STUDY)).splitlines() == [
        "  target      head     freeze     full  regret",
        "   cells  [0.4000]     0.4500  0.5000*  0.1000",
        "balloons    0.1000  [0.6000*]   0.0000  0.0000",
        "advice: mean regret 0.0500 over 2 targets, worst 0.1000 on cells",
        "always head: mean regret 0.3000",
        "always freeze: mean regret 0.0250",
        "always full: mean regret 0.3000",
    ]


def test_trials_made_in_several_ways_are_not_compared() -> None:
    with pytest.raises(VisionkitError) as error:
        summarise([*STUDY, trial("cells", "head", 0.9, seed=2) | {"set": ["imgsz=640"]}])
    assert str(error.value) == (
        "trials of cells were made in 2 ways, with other minutes, weights or settings, and scores compare only within "
        "one; keep the rows of each way in a file of their own"
    )
    # Of one target in another way than of another: each is compared with itself.
    other = [row | {"minutes": 5} if row["target"] == "cells" and row["kind"] == "trial" else row for row in STUDY]
    assert summarise(other) == summarise(STUDY)


def test_without_trials_there_is_nothing_to_say() -> None:
    with pytest.raises(VisionkitError, match="there are no trials in these rows"):
        summarise([advice("cells", "head")])


# The whole ------------------------------------------------------------------------------------------------------------


def study(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_tiny_study_goes_on_where_it_was(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "study.jsonl"
    common = ("--target", f"tiny={tiny_data}", "--weights", tiny_run.result.best, "--minutes", 0.01, "--seeds", 0)
    common += ("--threads", 1, "--workers", 0, "--set", "imgsz=32", "--out", out)
    first = study("run", "--strategies", "full", *common)
    assert first.returncode == 0, first.stderr
    begun = read_rows(out)
    assert begun[0]["kind"] == "advice"
    assert {plan_of(row) for row in begun if row["kind"] == "trial"} >= {"full"}
    second = study("run", "--strategies", "full,scratch", *common)
    assert second.returncode == 0, second.stderr
    rows = read_rows(out)
    assert rows[: len(begun)] == begun
    assert [row["strategy"] for row in rows[len(begun) :]] == ["scratch"]
    assert all(row["set"] == ["imgsz=32"] for row in rows if row["kind"] == "trial")
    told = study("report", out, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["targets"]["tiny"]["seeds"]["full"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--target", "here"), "error: --target takes NAME=FOLDER, each name once, got 'here'"),
        (("run", "--target", "a=b", "--strategies", "half"), "error: unknown strategy 'half'; choose of head, freeze"),
    ],
)
def test_refusals(arguments: tuple[str, ...], message: str) -> None:
    done = study(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
