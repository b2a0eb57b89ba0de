"""What `visionkit evaluate` gives beside COCO's numbers, as a user types it."""

import json
from pathlib import Path

import pytest
from coco_referee import detection, truth_with
from command_line import CommandLine
from tiny import TinyRun, write_blocks
from typer.testing import CliRunner

from visionkit.api import detection_scores
from visionkit.cli import app
from visionkit.engine.checkpoint import load_weights
from visionkit.errors import VisionkitError
from visionkit.metrics.referee import TWELVE, RefereeVerdict


@pytest.fixture(scope="module")
def predictions(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[object, ...]:
    """What the tiny model says of val, as the options that name it."""
    file = tmp_path_factory.mktemp("predictions") / "found.json"
    options = ("--data", tiny_data, "--threads", 1, "--save-predictions", file)
    assert command_line("evaluate", "--weights", tiny_run.result.best, *options).code == 0
    return "--predictions", file, "--annotations", tiny_data / "annotations/val.json"


def test_the_referee_beside_our_numbers(command_line: CommandLine, predictions: tuple[object, ...]) -> None:
    finished = command_line("evaluate", *predictions, "--referee")
    assert finished.code == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[3] == "pycocotools:"
    assert lines[1:3] == lines[4:6]
    assert lines[6].startswith("equal to the last bit: 12 of 12 numbers, and all ")
    said = command_line("evaluate", *predictions, "--referee", "--json").json
    assert said["referee"]["equal"] is True
    assert said["referee"]["scores"] == {name: said[name] for name in said["referee"]["scores"]}
    assert "voc" not in said
    assert "slices" not in said


def test_vocs_ap_and_slices(command_line: CommandLine, predictions: tuple[object, ...]) -> None:
    finished = command_line("evaluate", *predictions, "--voc", "--slices")
    assert finished.code == 0, finished.stderr
    lines = finished.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("objects by "))
    assert lines[at].split() == ["objects", "by", "AP", "AP50", "objects"]
    # 3 sizes, 3 shapes, 3 of crowding, 2 positions.
    assert [line.split()[0] for line in lines[at + 1 : at + 12 : 3]] == ["size", "shape", "crowding", "position"]
    head = next(line for line in lines if line.startswith("PASCAL VOC at IoU 0.5"))
    assert head.split()[-4:] == ["11", "points", "area", "objects"]
    said = command_line("evaluate", *predictions, "--voc", "--slices", "--json").json
    assert said["voc"]["iou"] == 0.5
    assert 0 < said["voc"]["AP_area"] <= 1
    assert set(said["slices"]) == {"size", "shape", "crowding", "position"}
    assert lines[-1].split()[1:] == [f"{said['voc'][name]:.4f}" for name in ("AP_11_point", "AP_area")]


def test_mistakes_by_kind_and_best_thresholds(command_line: CommandLine, predictions: tuple[object, ...]) -> None:
    finished = command_line("evaluate", *predictions, "--errors", "--thresholds")
    assert finished.code == 0, finished.stderr
    lines = finished.stdout.splitlines()
    said = command_line("evaluate", *predictions, "--errors", "--thresholds", "--json").json
    at = next(number for number, line in enumerate(lines) if line.startswith("mistakes "))
    assert lines[at].split() == ["mistakes", "times", "AP50", "given", "back"]
    told = {kind: (int(times), gain) for kind, times, gain in (line.split() for line in lines[at + 1 : at + 7])}
    assert list(told) == ["class", "localisation", "both", "duplicate", "background", "missed"] == list(said["errors"])
    for kind, cost in said["errors"].items():
        gain = "n/a" if cost["gives_back"] is None else f"{cost['gives_back']:+.4f}"
        assert told[kind] == (cost["count"], gain)
    at = next(number for number, line in enumerate(lines) if line.startswith("best F1 of "))
    names = ["all classes together", "red block", "blue block"]
    best = [said["thresholds"]["all_classes"], *said["thresholds"]["per_class"].values()]
    for name, point, line in zip(names, best, lines[at + 1 : at + 4], strict=True):
        numbers = [f"{point[key]:.4f}" for key in ("score", "f1", "precision", "recall")]
        assert line.split() == [*name.split(), *numbers]


def test_a_calibrated_copy_says_confidences_and_changes_nothing_else(
    command_line: CommandLine, tiny_run: TinyRun, tmp_path: Path
) -> None:
    data = write_blocks(tmp_path / "data", {"train": 2, "val": 60})  # some 90 objects
    best, copy = tiny_run.result.best, tmp_path / "new folder/calibrated.safetensors"
    before = best.read_bytes()
    options = ("--data", data, "--threads", 1)
    finished = command_line("evaluate", "--weights", best, *options, "--calibrate", copy, "--json")
    assert finished.code == 0, finished.stderr
    fitted = finished.json["calibration"]
    assert fitted["ece_after"] == fitted["by_method"][fitted["map"]["method"]]
    assert best.read_bytes() == before
    (tensors, card), (others, other_card) = load_weights(best), load_weights(copy)
    assert other_card.pop("calibration") == fitted["map"]
    assert other_card == card
    assert tensors.keys() == others.keys()
    assert all((tensors[name] == others[name]).all() for name in tensors)

    # Thresholds, order and AP go by scores, which are the same.
    report = tmp_path / "report.html"
    again = command_line("evaluate", "--weights", copy, *options, "--report", report, "--json").json
    assert '"calibrated":{"ece":' in report.read_text()
    assert again == {name: value for name, value in finished.json.items() if name != "calibration"}
    images = data / "images"
    items = []
    for weights in (best, copy):
        said = command_line(
            "detect", images, "--weights", weights, "--threads", 1, "--no-save", "--json", folder=tmp_path
        )
        assert said.code == 0, said.stderr
        lines = [json.loads(line) for line in said.stdout.splitlines()]
        items.append([item for line in lines for item in line["items"]])
    plain, calibrated = items
    assert plain
    confidences = [item.pop("confidence") for item in calibrated]
    assert calibrated == plain
    assert all(0 <= confidence <= 1 for confidence in confidences)
    in_order = sorted(zip([item["score"] for item in plain], confidences, strict=True))
    assert [confidence for _, confidence in in_order] == sorted(confidences)


def test_what_is_refused_in_one_line(
    command_line: CommandLine, predictions: tuple[object, ...], tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there.safetensors"
    there.write_text("mine")
    model = ("--weights", tiny_run.result.best, "--data", tiny_data)
    for arguments, words in (
        (
            (*model, "--calibrate", there),
            "there.safetensors exists and nothing is overwritten; give another --calibrate",
        ),
        ((*model, "--calibrate", tmp_path / "model.pt"), "--calibrate writes a weights file, got "),
        (
            (*model, "--save-predictions", there / "deeper" / "found.json"),
            "there.safetensors is no folder, and what --save-predictions writes goes there; name another place",
        ),
        ((*model, "--pictures", there), "there.safetensors is no folder, and what --pictures writes goes there; name"),
        ((*predictions, "--calibrate", tmp_path / "a.safetensors"), "--calibrate has no meaning with --predictions"),
        ((*model, "--why", "x.png", "--referee"), "--referee has no meaning with --why, which is about one image"),
        ((*model, "--why", "x.png", "--errors"), "--errors has no meaning with --why, which is about one image"),
    ):
        finished = command_line("evaluate", *arguments)
        assert (finished.code, finished.stdout) == (2, "")
        assert words in finished.error
    assert there.read_text() == "mine"


def test_numbers_that_differ_are_told_and_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, found = tmp_path / "truth.json", tmp_path / "found.json"
    content = truth_with({"bbox": [0, 0, 50, 50]})
    truth.write_text(json.dumps({**content, "images": [{**image, "file_name": "a"} for image in content["images"]]}))
    found.write_text(json.dumps([detection([0, 0, 50, 50], 0.9)]))

    def verdict(*_given: object) -> RefereeVerdict:
        return RefereeVerdict(dict.fromkeys(TWELVE, 0.5), ("AP", "AR1"), 1234, 3)

    monkeypatch.setattr(detection_scores, "referee_verdict", verdict)
    arguments = ["evaluate", "--predictions", str(found), "--annotations", str(truth), "--referee"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "NOT EQUAL: 2 of 12 numbers differ (AP, AR1), and 3 of 1,234 precisions and recalls" in done.stdout
    assert isinstance(done.exception, VisionkitError)
    assert str(done.exception) == (
        "pycocotools has other values: 2 of 12 numbers and 3 of 1234 precisions and recalls differ; please report this "
        "with the files"
    )
    assert json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["referee"]["equal"] is False
