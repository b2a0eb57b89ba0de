"""`visionkit evaluate --report` as a user types it."""

import json
import re
from pathlib import Path
from typing import Any

from command_line import CommandLine
from tiny import TinyRun


def content_of(file: Path) -> Any:
    """The data inside a report."""
    inside = re.search(r'id="data">(.*?)</script>', file.read_text(), re.DOTALL)
    assert inside is not None
    return json.loads(inside.group(1))


def test_a_report_says_what_evaluate_says(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    report, found = tmp_path / "report.html", tmp_path / "found.json"
    data = ("--data", tiny_data, "--threads", 1)
    outputs = ("--report", report, "--save-predictions", found)
    finished = command_line("evaluate", "--weights", tiny_run.result.best, *data, *outputs, "--json")
    assert finished.code == 0, finished.stderr
    content = content_of(report)
    assert content["scores"]["AP"] == finished.json["AP"]
    assert content["classes"] == ["red block", "blue block"]
    assert len(content["images"]) == 4
    assert all(image["thumbnail"].startswith("data:image/jpeg;base64,") for image in content["images"])

    # The same from files alone; without a folder of images there are no pictures.
    files = ("--predictions", found, "--annotations", tiny_data / "annotations/val.json")
    for name, more, pictured in (("a.html", (), False), ("b.html", ("--images", tiny_data / "images"), True)):
        again = command_line("evaluate", *files, "--report", tmp_path / name, *more, "--json")
        assert again.code == 0, again.stderr
        told = content_of(tmp_path / name)
        assert told["scores"] == content["scores"]
        assert all((image["thumbnail"] is not None) == pictured for image in told["images"])


def test_what_a_report_refuses_in_one_line(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there.html"
    there.write_text("mine")
    truth = tiny_data / "annotations/val.json"
    model = ("--weights", tiny_run.result.best, "--data", tiny_data)
    for arguments, words in (
        ((*model, "--report", there), "there.html exists and nothing is overwritten"),
        ((*model, "--report", tmp_path / "report.pdf"), "a report is an HTML file"),
        (
            ("--predictions", truth, "--annotations", truth, "--images", tmp_path),
            "--images are for the pictures of a --report",
        ),
    ):
        finished = command_line("evaluate", *arguments)
        assert (finished.code, finished.stdout) == (2, "")
        assert words in finished.error
    assert there.read_text() == "mine"
