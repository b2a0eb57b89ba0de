"""The report of a run, written at its end or afterwards."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from masks import write_masks
from tiny import TinyRun, tiny_settings

import visionkit
from visionkit.errors import UsageError


def content_of(file: Path) -> Any:
    inside = re.search(r'id="data">(.*?)</script>', file.read_text(), re.DOTALL)
    assert inside is not None
    return json.loads(inside.group(1))


def test_a_run_that_is_finished_gets_one_that_says_what_training_said(tiny_run: TinyRun, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_run.result.folder, tmp_path / "run"))
    said: list[str] = []
    result = visionkit.finetune(resume=folder, report=True, say=said.append)
    assert result is not None
    content = content_of(folder / "report.html")
    assert content["scores"]["AP"] == result.scores["AP"]
    assert (content["kind"], content["classes"], len(content["images"])) == (
        "detections",
        ["red block", "blue block"],
        4,
    )
    assert content["title"] == "yolo/csp-light on data, val"
    assert said[-1] == f"Report: {folder / 'report.html'}"
    assert said[-1] in (folder / "log.txt").read_text()
    # One that is there stays.
    before = (folder / "report.html").stat().st_mtime_ns
    visionkit.finetune(resume=folder, report=True)
    assert (folder / "report.html").stat().st_mtime_ns == before


def test_a_segmenters_run_has_one_of_maps_of_the_images_it_held_out(tmp_path: Path) -> None:
    data = write_masks(tmp_path / "data", {"train": 10})
    settings = tiny_settings(1, model="fcn8s", augment="none", set=["grow_from=1"])
    result = visionkit.finetune(data, out=tmp_path / "run", report=True, **settings)
    assert result is not None
    content = content_of(tmp_path / "run/report.html")
    assert content["kind"] == "maps"
    assert content["scores"]["mIoU"] == result.scores["mIoU"]
    assert len(content["images"]) == 2  # a fifth of train, by seed


def test_who_has_none_is_told_before_the_work(command_line: CommandLine, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^model classifier is a classifier, and reports are of .*; leave out --report$"
    ):
        visionkit.finetune(tiny_data, out=tmp_path / "run", report=True, **tiny_settings(1, model="classifier"))
    assert not (tmp_path / "run").exists()
    finished = command_line("finetune", "--data", tiny_data, "--report", "--seeds", 2, "--out", tmp_path / "runs")
    assert finished.code == 2
    assert "--report is of one run, --seeds and --folds make several; leave it out" in finished.error
