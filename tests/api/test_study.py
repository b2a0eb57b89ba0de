"""Several runs in one: folds and seeds, what they come to, and that each is the run it would have been alone."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from tiny import tiny_flags, tiny_settings

import visionkit
from visionkit.api.study import study
from visionkit.api.study_plan import StudyPlan
from visionkit.api.study_result import Spread, StudyResult, StudyRun
from visionkit.engine.events import Event, Saved, StepDone
from visionkit.engine.interruption import InterruptedRunError, StopRequest
from visionkit.errors import CheckpointError, UsageError, VisionkitError

SETTINGS = tiny_settings(epochs=1, imgsz=32)


def refusal(kind: type[VisionkitError], *arguments: Any, **options: Any) -> str:
    with pytest.raises(kind) as error:
        study(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def folds(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    result = study(tiny_data, folds=2, out=tmp_path_factory.mktemp("study") / "folds", **SETTINGS)
    assert result is not None
    return result


# What it makes --------------------------------------------------------------------------------------------------------


def test_folds_have_a_run_each_and_a_file_of_all(folds: StudyResult) -> None:
    names = {path.name for path in folds.folder.iterdir()}
    assert names == {"study.json", "folds.json", "fold-1", "fold-2"}
    content = json.loads((folds.folder / "folds.json").read_text())
    assert content == json.loads(json.dumps(folds.to_json()))
    assert (content["folds"], content["seed"], content["metric"]) == (2, 0, "AP")
    aps = [run["scores"]["AP"] for run in content["runs"]]
    assert content["mean"] == pytest.approx(sum(aps) / 2)
    assert [run["name"] for run in content["runs"]] == ["fold-1", "fold-2"]
    for name in ("fold-1", "fold-2"):
        assert (folds.folder / name / "best.safetensors").is_file()


def test_every_image_is_val_in_one_fold(folds: StudyResult) -> None:
    said = "".join((folds.folder / name / "log.txt").read_text() for name in ("fold-1", "fold-2"))
    assert "Fold 1/2: val is that part of train and val together, dealt out by seed 0" in said
    assert said.count("train: 7 images") == said.count("val: 7 images") == 2  # 10 of train and 4 of val


def test_a_fold_is_the_run_that_it_would_be_alone(folds: StudyResult, tiny_data: Path, tmp_path: Path) -> None:
    alone = visionkit.finetune(tiny_data, out=tmp_path / "run", set=["fold=2/2"], **SETTINGS)
    assert alone is not None
    assert alone.last.read_bytes() == (folds.folder / "fold-2" / "last.safetensors").read_bytes()


def test_seeds_are_runs_from_the_seed_on(tiny_data: Path, tmp_path: Path) -> None:
    result = study(tiny_data, seeds=2, out=tmp_path / "seeds", **SETTINGS, seed=7)
    assert result is not None
    assert [run.name for run in result.runs] == ["seed-7", "seed-8"]
    assert {path.name for path in result.folder.iterdir()} == {"study.json", "seeds.json", "seed-7", "seed-8"}
    alone = visionkit.finetune(tiny_data, out=tmp_path / "run", **SETTINGS, seed=8)
    assert alone is not None
    last = [(tmp_path / "seeds" / name / "last.safetensors").read_bytes() for name in ("seed-7", "seed-8")]
    assert last[1] == alone.last.read_bytes() != last[0]


def test_a_new_folder_is_made_under_runs(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = study(tiny_data, seeds=2, **SETTINGS)
    assert result is not None
    assert result.folder == Path("runs/seeds/data-1")


# What they come to ----------------------------------------------------------------------------------------------------


def results(*aps: float | None) -> StudyResult:
    plan = StudyPlan("folds", len(aps), 0, "data", {})
    runs = [StudyRun(f"fold-{i}", 9, 6, {"AP": ap, "AP50": 0.5}) for i, ap in enumerate(aps, 1)]
    return StudyResult(Path("out"), plan, tuple(runs))


def test_mean_and_spread_in_words() -> None:
    # The mean is 0.3; squares 0.01, 0, 0.01 by 3 - 1 are 0.01, the root 0.1.
    assert results(0.2, 0.3, 0.4).lines() == [
        "fold-1  AP 0.2000  AP50 0.5000  best epoch 6 of 9  out/fold-1",
        "fold-2  AP 0.3000  AP50 0.5000  best epoch 6 of 9  out/fold-2",
        "fold-3  AP 0.4000  AP50 0.5000  best epoch 6 of 9  out/fold-3",
        "AP 0.3000, mean of 3 folds; standard deviation 0.1000, from 0.2000 to 0.4000",
    ]


def test_a_run_without_the_metric_is_in_no_mean_and_said() -> None:
    found = results(0.2, None, 0.4)
    assert found.spreads()["AP"] == Spread.of([0.2, 0.4])
    assert found.lines()[1].startswith("fold-2  AP n/a  AP50 0.5000")
    assert found.lines()[-1].startswith("AP 0.3000, mean of 2 folds, not defined in 1 more; standard deviation 0.1414")
    assert results(None, 0.25).lines()[-1] == "AP 0.2500, mean of 1 fold, not defined in 1 more"
    assert results(None, None).lines()[-1] == "AP is not defined in any of 2 folds"
    assert results(None, None).to_json()["mean"] is None


def test_left_out_items_are_those_of_the_data_and_not_counted_again() -> None:
    found = results(0.2, 0.4)
    runs = tuple(replace(run, left_out=3) for run in found.runs)
    assert replace(found, runs=runs).left_out == 3


# Interrupted ----------------------------------------------------------------------------------------------------------


class StoppedHereError(Exception):
    """What a test stops a study with."""


def stopped(data: Path, out: Path, saves: int) -> None:
    """Begin a study of 2 folds and stop it right after a state was saved that many times; each run saves 2."""
    left = saves

    def listen(event: Event) -> None:
        nonlocal left
        if isinstance(event, Saved):
            assert event.path == out / "study.json"  # what is to be gone on with
            left -= 1
            if not left:
                raise StoppedHereError

    with pytest.raises(StoppedHereError):
        study(data, folds=2, out=out, listen=listen, **SETTINGS)


def same(one: Path, other: Path) -> bool:
    files = [f"{fold}/{name}" for fold in ("fold-1", "fold-2") for name in ("last.safetensors", "metrics.csv")]
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in [*files, "folds.json"])


@pytest.mark.parametrize("saves", [1, 2, 3, 4])
def test_a_study_that_was_stopped_goes_on_and_ends_the_same(
    saves: int, folds: StudyResult, tiny_data: Path, tmp_path: Path
) -> None:
    stopped(tiny_data, tmp_path / "study", saves)
    result = study(resume=tmp_path / "study")
    assert result is not None
    assert result.runs == folds.runs
    assert same(tmp_path / "study", folds.folder)


def test_a_run_that_had_no_state_yet_begins_anew(folds: StudyResult, tiny_data: Path, tmp_path: Path) -> None:
    stopped(tiny_data, tmp_path / "study", saves=3)
    begun = tmp_path / "study" / "fold-2"
    for state in begun.glob("state*"):
        state.unlink()
    study(resume=tmp_path / "study")
    assert same(tmp_path / "study", folds.folder)


def test_runs_that_are_done_are_not_touched(folds: StudyResult, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(folds.folder, again)
    before = {path: path.stat().st_mtime_ns for path in again.rglob("*")}
    said: list[str] = []
    result = study(resume=again, say=said.append)
    assert result is not None
    assert (result.runs, said) == (folds.runs, [])
    assert {path: path.stat().st_mtime_ns for path in again.rglob("*")} == before


def test_asked_to_end_it_stops_and_goes_on(folds: StudyResult, tiny_data: Path, tmp_path: Path) -> None:
    stop = StopRequest()
    ask: Callable[[Event], None] = lambda event: stop.ask() if isinstance(event, StepDone) else None  # noqa: E731
    with pytest.raises(InterruptedRunError):
        study(tiny_data, folds=2, out=tmp_path / "study", listen=ask, stop=stop, **SETTINGS)
    assert not (tmp_path / "study" / "folds.json").exists()
    study(resume=tmp_path / "study")
    assert same(tmp_path / "study", folds.folder)


# What is refused ------------------------------------------------------------------------------------------------------


def test_what_makes_no_study_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    either = "several runs differ in their fold or in their seed; give either --folds or --seeds"
    assert refusal(UsageError, tiny_data) == either
    assert refusal(UsageError, tiny_data, folds=2, seeds=2) == either
    assert refusal(UsageError, tiny_data, folds=1) == "--folds must be 2 or more, got 1; for a single run leave it out"
    assert refusal(UsageError, tiny_data, seeds=0) == "--seeds must be 2 or more, got 0; for a single run leave it out"
    assert refusal(UsageError, tiny_data, folds=2, find_lr=True) == (
        "--find-lr tries the learning rates of one run; leave out --folds"
    )
    assert refusal(UsageError, tiny_data, folds=2, set=["fold=1/2"]) == (
        "--folds makes each part val in turn, and a setting names one, fold; leave one of them out"
    )
    assert refusal(UsageError, tiny_data, folds=2, set=["proposals=somewhere"]) == (
        "--folds deals images out anew, and proposals are those of a split; leave one of them out"
    )
    with pytest.raises(
        UsageError, match=r"finetune makes one run, and folds are several; use visionkit\.study\(folds="
    ):
        visionkit.finetune(tiny_data, folds=2)
    assert refusal(UsageError, tiny_data, folds=2, epoch=3).startswith("finetune has no option 'epoch'; ")
    assert "train.epochs = 0" in refusal(VisionkitError, tiny_data, folds=2, epochs=0)
    assert list(tmp_path.iterdir()) == []


def test_a_fold_that_is_none_is_refused(tiny_data: Path) -> None:
    with pytest.raises(VisionkitError, match="fold = '3/2': input should be PART/PARTS with 2 parts or more, such as"):
        visionkit.finetune(tiny_data, set=["fold=3/2"], **SETTINGS)


def test_several_processes_are_refused(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert refusal(UsageError, tiny_data, folds=2) == (
        "the runs of a study follow one another in one process, and here are several; start one"
    )


def test_a_study_that_goes_on_takes_no_other_setting(folds: StudyResult, tiny_data: Path) -> None:
    message = "--resume goes on with the study's own settings and takes no other; leave them out"
    others: list[dict[str, Any]] = [{"data": tiny_data}, {"folds": 2}, {"epochs": 3}, {"set": ["a=1"]}, {"freeze": 1}]
    for other in others:
        assert refusal(UsageError, resume=folds.folder, **other) == message


def test_a_folder_without_a_plan_cannot_be_gone_on_with(folds: StudyResult, tmp_path: Path) -> None:
    assert refusal(CheckpointError, resume=tmp_path) == (
        f"no whole plan at {tmp_path / 'study.json'}; only the folder of several runs can be gone on with so"
    )
    (tmp_path / "study.json").write_text('{"schema": "visionkit.study/9"}')
    assert refusal(CheckpointError, resume=tmp_path) == (
        f"{tmp_path / 'study.json'} is not of schema visionkit.study/1, which this version reads; start anew"
    )
    with pytest.raises(UsageError, match=r"is the folder of several runs; go on with all by visionkit\.study"):
        visionkit.finetune(resume=folds.folder)


def test_a_folder_that_holds_something_is_left_alone(folds: StudyResult, tiny_data: Path) -> None:
    message = refusal(UsageError, tiny_data, folds=2, out=folds.folder, **SETTINGS)
    assert (
        message == f"{folds.folder} already holds several runs; use --resume {folds.folder} to go on, or another --out"
    )
    message = refusal(UsageError, tiny_data, folds=2, out=folds.folder / "fold-1", **SETTINGS)
    assert message.startswith(f"{folds.folder / 'fold-1'} already holds a run; use --resume")


def test_a_dry_run_shows_the_first_and_makes_none(tiny_data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert study(tiny_data, folds=3, out=tmp_path / "study", dry_run=True, say=said.append, **SETTINGS) is None
    assert said[0] == "The first of 3 runs, fold-1:"
    assert said[-1] == "Dry run: nothing was trained, no run folder was made"
    assert list(tmp_path.iterdir()) == []


# On the command line --------------------------------------------------------------------------------------------------


def test_the_plan_has_whole_paths_and_plain_values(tiny_data: Path, tmp_path: Path) -> None:
    monkey = Path(__file__)  # any file that is there
    plan = StudyPlan("seeds", 2, 5, str(tiny_data), {"set": [], "freeze": [], "weights": str(monkey)})
    plan.write(tmp_path)
    assert StudyPlan.read(tmp_path) == plan
    assert [*plan.runs()] == ["seed-5", "seed-6"]


def test_folds_of_the_command_line(command_line: CommandLine, tiny_data: Path, tmp_path: Path) -> None:
    flags = tiny_flags(epochs=1, imgsz=32)
    finished = command_line("finetune", "--data", tiny_data, "--folds", 2, "--out", tmp_path / "s", *flags)
    assert finished.code == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["fold-1", "fold-2", "AP"]
    assert f"Run 2 of 2: {tmp_path / 's' / 'fold-2'}" in finished.stderr
    assert finished.stderr.count("epoch   1/1") == 2  # once each
    again = command_line("finetune", "--resume", tmp_path / "s", "--json")
    assert again.code == 0, again.stderr
    assert again.json == json.loads((tmp_path / "s" / "folds.json").read_text())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
def test_killed_in_its_second_run_it_goes_on_and_ends_the_same(
    command_line: CommandLine, folds: StudyResult, tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    pid = command_line.start(
        "finetune", "--data", tiny_data, "--folds", 2, "--out", out, *tiny_flags(epochs=1, imgsz=32)
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (out / "fold-2" / "state.pt").exists():
        assert time.monotonic() < deadline, "no second run within a minute"
        time.sleep(0.002)
    assert command_line.kill(pid).code == -9
    assert [run["name"] for run in json.loads((out / "folds.json").read_text())["runs"]] == ["fold-1"]
    finished = command_line("finetune", "--resume", out)
    assert finished.code == 0, finished.stderr
    assert same(out, folds.folder)
