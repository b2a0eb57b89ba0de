"""`advise` on tiny data: what it measures, what it names, its trials; and `--strategy auto`, which follows it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_data import reference_data
from tiny import TinyRun, tiny_settings

import visionkit
from visionkit.advice.decision import Advice, Plan
from visionkit.advice.thresholds import DIFFERENT
from visionkit.api import advise as api_advise
from visionkit.api import strategy
from visionkit.api.measured_advice import measured_advice
from visionkit.choices import Choices, read_config_file
from visionkit.engine.checkpoint import load_weights, save_weights
from visionkit.errors import UsageError

QUICK = {"device": "cpu", "threads": 1, "workers": 0, "batch": 4}


def test_all_three_are_measured_and_the_command_is_ready(tiny_run: TinyRun, tiny_data: Path) -> None:
    said: list[str] = []
    events: list[Any] = []
    found = visionkit.advise(
        tiny_data, weights=tiny_run.result.best, say=said.append, listen=events.append, **QUICK
    )  # fmt: skip
    advice = found.advice
    assert advice.size.images == 10
    assert sum(count.objects or 0 for count in advice.size.classes) == 17  # the crowd region beside them is none
    assert advice.amount == "little"
    assert advice.looked is not None
    assert advice.looked.similarity is not None
    # Every unit of the light backbone has norms.
    assert [stage.number for stage in advice.looked.similarity.stages] == list(range(10))
    assert advice.looked.separability is not None
    assert advice.looked.separability.background
    assert events[-1].done == events[-1].total == 10
    assert found.command[:4] == ("visionkit", "finetune", "--data", str(tiny_data))
    assert "--weights" in found.command
    assert found.command[found.command.index("--strategy") + 1] == advice.best.strategy
    assert found.lines()[-1].startswith("  command       visionkit finetune --data ")
    assert any(line.startswith("Data: ") for line in said)
    assert json.loads(json.dumps(found.to_json()))["trials"] == []


def test_the_command_it_names_is_one_that_runs(tiny_run: TinyRun, tiny_data: Path) -> None:
    found = visionkit.advise(tiny_data, weights=tiny_run.result.best, **QUICK)
    words = list(found.command[2:])
    flags = {words[i].removeprefix("--").replace("-", "_"): words[i + 1] for i in range(0, len(words), 2)}
    flags["data"] = tiny_data  # type: ignore[assignment]
    assert visionkit.finetune(dry_run=True, **flags) is None  # type: ignore[arg-type]


def test_photos_are_nearer_to_a_model_of_photos_than_a_microscope_is() -> None:
    distances = []
    for name in ("balloons", "blood-cells"):
        looked = visionkit.advise(reference_data(name), weights="default", **QUICK).advice.looked
        assert looked is not None
        assert looked.similarity is not None
        distances.append(looked.similarity.distance)
    # Measured once: 0.11 and 0.40.
    assert distances[0] < DIFFERENT < distances[1]


def test_weights_whose_norms_remember_nothing_keep_statistics_of_their_images(
    tiny_data: Path, other_data: Path, tmp_path: Path
) -> None:
    events: list[Any] = []
    settings = tiny_settings(epochs=1, set=["norm=group"])
    result = visionkit.finetune(tiny_data, out=tmp_path / "run", listen=events.append, **settings)
    assert result is not None
    own = visionkit.advise(tiny_data, weights=result.best, **QUICK).advice
    assert own.looked is not None
    assert own.looked.similarity is not None
    assert len(own.looked.similarity.stages) == 10
    assert own.looked.similarity.source_images == 10  # all there are
    assert own.looked.similarity.distance < 1e-3  # they are the very images
    assert any("calibrated on batch norms" in doubt for doubt in own.doubts)
    other = visionkit.advise(other_data, weights=result.best, **QUICK).advice.looked
    assert other is not None
    assert other.similarity is not None
    assert other.similarity.distance > 10 * own.looked.similarity.distance
    # A run that is finished has them already, and one that was killed before gets them when it is resumed.
    before = result.best.read_bytes()
    visionkit.finetune(resume=result.folder)
    assert result.best.read_bytes() == before
    tensors, card = load_weights(result.best)
    del card["source_statistics"]
    save_weights(result.best, tensors, card)
    visionkit.finetune(resume=result.folder)
    assert result.best.read_bytes() == before


def test_nothing_is_learnt_and_the_same_is_said_again(tiny_run: TinyRun, tiny_data: Path) -> None:
    before = tiny_run.result.best.read_bytes()
    one, two = (visionkit.advise(tiny_data, weights=tiny_run.result.best, **QUICK).to_json() for _ in range(2))
    assert one == two
    assert tiny_run.result.best.read_bytes() == before


def test_without_trained_weights_the_advice_is_scratch(tiny_data: Path) -> None:
    found = visionkit.advise(tiny_data, weights="scratch", imgsz=64, **QUICK)
    assert (found.advice.best, found.advice.second, found.advice.strength) == (Plan("scratch"), None, "weak")
    assert "--weights" not in found.command


def test_of_a_folder_per_class_there_is_no_background(tmp_path: Path, tiny_run: TinyRun) -> None:
    import cv2

    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for name, colour in (("red", (0, 0, 255)), ("blue", (255, 0, 0))):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture = np.full((48, 48, 3), colour, np.uint8) // random.integers(1, 4)
                cv2.imwrite(str(folder / f"{i}.png"), picture.astype(np.uint8))
    found = visionkit.advise(tmp_path, model="classifier", weights=tiny_run.result.best, imgsz=64, **QUICK).advice
    assert found.looked is not None
    assert found.looked.separability is not None
    assert not found.looked.separability.background
    assert found.looked.separability.crops == 12


def test_trials_decide_between_the_two_best(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    found = visionkit.advise(
        tiny_data, weights=tiny_run.result.best, verify=0.02, out=tmp_path / "trials", imgsz=32, **QUICK
    )  # fmt: skip
    assert found.advice.second is not None
    plans = {found.advice.best, found.advice.second}
    assert {trial.plan for trial in found.trials} == plans
    scores = [trial.score or 0 for trial in found.trials]
    assert scores == sorted(scores, reverse=True)
    for trial in found.trials:
        assert trial.folder == tmp_path / "trials" / trial.plan.strategy
        config = read_config_file(trial.folder / "config.yaml")
        assert (config["strategy"], config["minutes"]) == (trial.plan.strategy, 0.02)
    assert found.command[found.command.index("--strategy") + 1] == found.trials[0].plan.strategy
    assert len([line for line in found.lines() if line.startswith("  trial  ")]) == 2


def test_trials_begin_where_there_is_room_for_all_of_them(
    tiny_run: TinyRun, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_advise, "finetune", None)  # no trial is begun
    options: dict[str, Any] = {"weights": tiny_run.result.best, "verify": 2, "out": tmp_path, "imgsz": 32, **QUICK}
    for strategy_name in ("head", "freeze", "full", "scratch"):
        (tmp_path / strategy_name).mkdir()
    second = visionkit.advise(tiny_data, weights=tiny_run.result.best, imgsz=32, **QUICK).advice.second
    assert second is not None
    (tmp_path / second.strategy / "state.pt").touch()
    with pytest.raises(UsageError, match=f"{second.strategy} already holds a run; use --resume"):
        visionkit.advise(tiny_data, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"verify": 0}, "verify must be minutes above 0, got 0; for example 2"),
        (
            {"model": "rcnn", "weights": "scratch"},
            "advice is on what learns step by step, and model rcnn is fitted in a single pass over the images; leave "
            "--strategy auto out, or name another --model",
        ),
        (
            {"epochs": 3},
            "advise has no option 'epochs'; the options are backbone, batch, device, imgsz, lr, model, offline, "
            "optimizer, seed, skip_bad, threads, weights, workers",
        ),
    ],
)
def test_refusals(options: dict[str, Any], message: str, tiny_data: Path) -> None:
    with pytest.raises(UsageError) as error:
        visionkit.advise(tiny_data, **options)
    assert str(error.value) == message


# --strategy auto ------------------------------------------------------------------------------------------------------


def follow(monkeypatch: pytest.MonkeyPatch, best: Plan, second: Plan) -> None:
    """Let the measured advice be this one."""

    def measure(*arguments: Any) -> Advice:
        return replace(measured_advice(*arguments), best=best, second=second)

    monkeypatch.setattr(strategy, "measured_advice", measure)


def test_auto_follows_the_advice_and_writes_down_what_it_was(
    tiny_run: TinyRun, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(monkeypatch, Plan("freeze", "4"), Plan("full"))
    said: list[str] = []
    settings = tiny_settings(strategy="auto", imgsz=32, epochs=1, weights=tiny_run.result.best)
    result = visionkit.finetune(tiny_data, out=tmp_path / "run", say=said.append, **settings)
    assert result is not None
    assert any(line.startswith("Advice: --strategy freeze --freeze 4, else --strategy full") for line in said)
    assert any(line.startswith("Frozen 4 of ") for line in said)
    text = (tmp_path / "run" / "config.yaml").read_text()
    config = read_config_file(tmp_path / "run" / "config.yaml")
    assert (config["strategy"], config["freeze"]) == ("freeze", ["4"])
    assert [line.split("#")[1].strip() for line in text.splitlines() if line.startswith(("strategy:", "freeze:"))] == [
        *("auto", "auto")
    ]
    changed = load_weights(result.last)[0]
    before = load_weights(tiny_run.result.best)[0]
    assert (changed["backbone.stem.conv.weight"] == before["backbone.stem.conv.weight"]).all()
    # Resumed, it asks nobody again.
    monkeypatch.setattr(strategy, "measured_advice", None)
    assert visionkit.finetune(resume=tmp_path / "run") is not None


def test_of_several_processes_the_first_measures_for_all(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Measured by each, a distance near a line could fall on both sides of it, and each hold something else still.
    class Other:
        rank, world_size, first = 1, 2, False

        def from_first(self, make: Any) -> Advice:
            return advice

    advice = replace(
        visionkit.advise(tiny_data, weights="scratch", imgsz=64, **QUICK).advice, best=Plan("freeze", "4")
    )  # fmt: skip
    monkeypatch.setattr(strategy, "measured_advice", None)
    choices = Choices()
    choices.say({"strategy": "auto"}, "flag")
    said: list[str] = []
    strategy.settle_by_advice(
        choices, None, None, torch.device("cpu"), said.append, lambda event: None, Other()  # type: ignore[arg-type]
    )  # fmt: skip
    assert (choices.config().strategy, choices.config().freeze) == ("freeze", ("4",))
    assert said == advice.lines()


def test_auto_may_start_from_scratch_but_not_where_weights_were_named(
    tiny_run: TinyRun, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(monkeypatch, Plan("scratch"), Plan("full"))
    said: list[str] = []
    settings = tiny_settings(strategy="auto", weights=tiny_run.result.best)
    visionkit.finetune(tiny_data, dry_run=True, say=said.append, **settings)
    assert "Weights were named, so they are used: --strategy full" in said
    assert any(line.startswith("  everything else") for line in said)
    said.clear()
    del settings["weights"]
    visionkit.finetune(tiny_data, dry_run=True, say=said.append, **settings)
    assert not any(line.startswith("Weights") for line in said)
