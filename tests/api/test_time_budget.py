"""`--minutes`: measured first, the epochs fixed and kept; and a run that begins as if nothing had been measured."""

import json
import re
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_settings, write_blocks

import visionkit
from visionkit.api import finetune as finetune_module
from visionkit.api import time_budget
from visionkit.api.prepare import Prepared, prepare
from visionkit.api.source_memory import seconds_to_remember
from visionkit.api.time_budget import FEW_IMAGES, _few_in_memory, fix_epochs, settle_length
from visionkit.build import save_model
from visionkit.choices import Choices, Origin
from visionkit.classes import ClassTable
from visionkit.engine.checkpoint import load_state
from visionkit.engine.events import Event, ImagesDone, Saved
from visionkit.engine.throughput import EpochEndTimes, StepTimes
from visionkit.errors import ConfigError, DataError, UsageError
from visionkit.formats.records import AnnotatedImages, ImageRecord


def run(data: Path, out: Path, minutes: float | None = None, **others: Any) -> list[str]:
    """Train by `minutes` instead of epochs; what was said."""
    said: list[str] = []
    settings = tiny_settings(imgsz=32, minutes=minutes, **others)
    if minutes is not None:
        settings.pop("epochs")
    visionkit.finetune(data, out=out, say=said.append, **settings)
    return said


def settings_in(out: Path) -> dict[str, list[str]]:
    """Of the run's config.yaml: value and origin by name."""
    lines = (line.strip().split(": ", 1) for line in (out / "config.yaml").read_text().splitlines() if ": " in line)
    return {name: [part.strip() for part in rest.split("#")] for name, rest in lines}


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second a batch, of which the tiny dataset has 3; after each epoch half a second of files, an evaluation of a
    second and another half of its files. So 3.5 s an epoch, 1.5 s an evaluation."""
    monkeypatch.setattr(time_budget, "time_steps", lambda *_, **__: StepTimes(start=0, batch=1))
    monkeypatch.setattr(time_budget, "time_epoch_ends", lambda *_, **__: EpochEndTimes(1, 0.5, 0.5))


def test_images_that_a_run_decodes_once_are_not_decoded_at_every_timed_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_blocks(tmp_path / "data", {"train": FEW_IMAGES + 8, "val": 2})
    choices = Choices()
    choices.say({"data": str(data), "weights": "scratch", "imgsz": 32, "threads": 1, "cache": "ram"}, "flag")
    prepared = prepare(choices, lambda line: None)
    ticks = count()
    few, seconds = _few_in_memory(prepared, lambda: float(next(ticks)))
    assert len(few.train_data) <= FEW_IMAGES
    assert {image.id for image in few.train_images.images} <= {image.id for image in prepared.train_images.images}
    assert seconds == pytest.approx(1 / len(few.train_data))  # one tick of the clock for all of them
    choices.say({"cache": "off"}, "flag")
    uncached = prepare(choices, lambda line: None)
    assert _few_in_memory(uncached, time.monotonic) == (uncached, 0.0)

    def refuse(*_: Any) -> None:
        raise DataError("no objects to cut out")

    # Where objects are rare the few may have none, and all have some.
    monkeypatch.setattr(time_budget, "training_dataset", refuse)
    assert _few_in_memory(prepared, time.monotonic) == (prepared, 0.0)


@pytest.mark.usefixtures("known_times")
def test_a_classifier_of_rare_objects_is_measured_on_all_of_val(tmp_path: Path) -> None:
    data = write_blocks(tmp_path / "data", {"train": 4, "val": 12})
    for split in ("train", "val"):
        file = data / "annotations" / f"{split}.json"
        content = json.loads(file.read_text())
        # Of val the images of a batch of 4, evenly spread, are 0, 3, 6 and 9; id 10 * 2 + 5 is the third.
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] == 25]
        file.write_text(json.dumps(content))
    said = run(data, tmp_path / "run", minutes=0.05, model="classifier")
    assert any(line.startswith("Measured 4 images/s and 1 s an evaluation: ") for line in said)


# How many epochs ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("known_times")
def test_the_epochs_that_fit_are_said_and_stored(tiny_data: Path, tmp_path: Path) -> None:
    # 0.4 minutes less the moments that measuring took: 23.9 s, 6 epochs of 3.5 s. One evaluation is all that a tenth
    # of the time pays for.
    said = run(tiny_data, tmp_path / "run", minutes=0.4)
    assert "Measured 4 images/s and 1 s an evaluation: 6 epochs in 0.4 minutes" in said
    assert re.fullmatch(r"Took 0\.\d+ minutes, 0\.4 were asked for", said[-1])
    assert said[-1] in (tmp_path / "run" / "log.txt").read_text()
    settings = settings_in(tmp_path / "run")
    assert settings["minutes"] == ["0.4", "flag"]
    assert settings["epochs"] == ["6", "auto"]
    assert settings["evaluate_every"] == ["6", "auto"]
    config = load_state(tmp_path / "run" / "state.pt")["config"]
    assert (config["minutes"], config["train.epochs"]) == (0.4, 6)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 6


@pytest.mark.usefixtures("known_times")
def test_where_no_epoch_fits_one_is_trained_and_that_is_said(tiny_data: Path, tmp_path: Path) -> None:
    said = run(tiny_data, tmp_path / "run", minutes=0.05)
    (line,) = [line for line in said if line.startswith("Measured ")]
    assert re.fullmatch(
        r"Measured 4 images/s and 1 s an evaluation: measuring took [0-3] of the 3 s asked for and one epoch takes "
        r"5 s; training one all the same, --minutes 0\.[12] would hold it",
        line,
    )
    assert settings_in(tmp_path / "run")["epochs"] == ["1", "auto"]


# What a run does after its last epoch ---------------------------------------------------------------------------------


def prepared_for(data: Path, **settings: Any) -> tuple[Prepared, Choices]:
    choices = Choices()
    tiny = {"data": str(data), "weights": "scratch", "imgsz": 32, "train.batch": 4, "threads": 1, "workers": 0}
    choices.say({**tiny, **settings}, "flag")
    return prepare(choices, lambda line: None), choices


def test_remembering_the_images_is_timed_on_a_batch_and_a_file(tiny_data: Path, tmp_path: Path) -> None:
    run, _ = prepared_for(tiny_data, norm="group")
    file = tmp_path / "last.safetensors"
    save_model(file, run.state.model, run.train_images.classes, run.config.recipe(), {})
    # To read the file 1 s, to look at 4 images of 10 2 s, to write it 3 s; there are two files.
    clock = iter((0.0, 1.0, 3.0, 6.0))
    assert seconds_to_remember(run, file, lambda: next(clock)) == 2 * (1 + 2 * 10 / 4 + 3)


def test_norms_that_remember_take_no_time(tiny_data: Path, tmp_path: Path) -> None:
    run, _ = prepared_for(tiny_data)
    assert seconds_to_remember(run, tmp_path / "there is none", lambda: 1 / 0) == 0


@pytest.mark.usefixtures("known_times")
def test_remembering_takes_its_time_from_the_epochs(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of 24 s 17 are left: 4 epochs of 3.5 s and an evaluation of 1.5 s take 15.5, five 19.
    monkeypatch.setattr(time_budget, "seconds_to_remember", lambda *_: 7.0)
    run, choices = prepared_for(tiny_data, minutes=0.4)
    fixed, _ = fix_epochs(run, choices, tmp_path, lambda line: None, clock=lambda: 0.0)
    assert fixed.config.train.epochs == 4


@pytest.mark.usefixtures("known_times")
def test_the_time_that_a_run_took_has_it_within(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_budget, "seconds_to_remember", lambda *_: 0.0)
    told: list[Any] = []
    settings = tiny_settings(imgsz=32, minutes=0.05, set=["norm=group"])
    settings.pop("epochs")
    visionkit.finetune(tiny_data, out=tmp_path / "run", say=told.append, listen=told.append, **settings)
    took = next(place for place, line in enumerate(told) if str(line).startswith("Took "))
    assert any(isinstance(event, ImagesDone) for event in told[:took])
    assert took == len(told) - 1


@pytest.mark.parametrize("minutes", [0, -1, float("inf"), float("nan"), "soon"])
def test_minutes_out_of_range_are_refused(minutes: Any, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^minutes = "):
        run(tiny_data, tmp_path / "run", minutes=minutes)
    assert not (tmp_path / "run").exists()


# Minutes or epochs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["flag", "set"])
def test_both_from_one_source_are_refused(origin: Origin) -> None:
    choices = Choices()
    choices.say({"minutes": 3, "train.epochs": 5}, origin)
    with pytest.raises(UsageError) as error:
        settle_length(choices, print)
    assert str(error.value) == ("minutes and epochs both say how long to train; give --minutes or --epochs, not both")


@pytest.mark.parametrize(
    ("minutes_by", "epochs_by", "left"),
    [("flag", "file", 3), ("flag", "set", 3), ("set", "file", 3), ("flag", None, 3), ("file", None, 3),
     ("file", "flag", None), ("file", "set", None), ("set", "flag", None)],
)  # fmt: skip
def test_the_later_source_decides(minutes_by: Origin, epochs_by: Origin | None, left: int | None) -> None:
    choices, said = Choices(), list[str]()
    choices.say({"minutes": 3}, minutes_by)
    if epochs_by:
        choices.say({"train.epochs": 5}, epochs_by)
    settle_length(choices, said.append)
    assert choices.config().minutes == left
    assert said == []


@pytest.mark.usefixtures("known_times")
def test_the_config_file_of_a_run_gives_that_run_again(tiny_data: Path, tmp_path: Path) -> None:
    run(tiny_data, tmp_path / "one", minutes=0.2)
    said: list[str] = []
    visionkit.finetune(config=tmp_path / "one" / "config.yaml", out=tmp_path / "again", say=said.append)
    assert said[0] == "The config file names minutes and epochs: its epochs hold; --minutes measures anew"
    assert not any(line.startswith("Measured") for line in said)
    one, again = ((tmp_path / name / "last.safetensors").read_bytes() for name in ("one", "again"))
    assert one == again


# Really measured ------------------------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures for a moment only."""
    monkeypatch.setattr(time_budget, "STEPS_LEAST", 0.2)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("workers", "norm"), [(0, "group"), (1, "own")])
def test_the_run_is_the_one_that_its_epochs_give_to_the_byte(
    tiny_data: Path, tmp_path: Path, workers: int, norm: str
) -> None:
    others = {"augment": "heavy", "workers": workers}
    run(tiny_data, tmp_path / "measured", minutes=0.06, set=[f"norm={norm}"], **others)
    epochs, every = (settings_in(tmp_path / "measured")[name][0] for name in ("epochs", "evaluate_every"))
    assigned = [f"norm={norm}", f"train.evaluate_every={every}"]
    run(tiny_data, tmp_path / "plain", epochs=int(epochs), set=assigned, **others)
    for name in ("last.safetensors", "metrics.csv", "first_batch.png"):
        assert (tmp_path / "measured" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name
    # What was measured left nothing behind.
    assert {path.name for path in tmp_path.iterdir()} == {"measured", "plain"}


@pytest.mark.usefixtures("known_times")
def test_a_resumed_run_keeps_its_epochs(tiny_data: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Saved) and load_state(event.path)["training"]["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_data, tmp_path / "run", minutes=0.3, listen=stop)
    said: list[str] = []
    result = visionkit.finetune(resume=tmp_path / "run", say=said.append)
    assert result is not None
    assert result.epochs == 4  # (17.9 - 1.5) s of 3.5 s each
    assert f"Resuming {tmp_path / 'run'} after 2 of 4 epochs and 0 batches" in said
    assert not any(line.startswith(("Measured", "Took")) for line in said)
    run(tiny_data, tmp_path / "whole", epochs=4, set=["train.evaluate_every=4"])
    one, other = ((tmp_path / name / "last.safetensors").read_bytes() for name in ("run", "whole"))
    assert one == other


@pytest.mark.usefixtures("short")
def test_a_dry_run_measures_and_leaves_nothing(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    settings = tiny_settings(imgsz=32, minutes=5)
    settings.pop("epochs")
    assert visionkit.finetune(tiny_data, dry_run=True, say=said.append, **settings) is None
    assert any(re.fullmatch(r"Measured .* images/s and .* s an evaluation: \d+ epochs in 5 minutes.*", s) for s in said)
    assert list(tmp_path.iterdir()) == []


def test_it_ends_in_about_the_time_asked_for(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Seconds of this process alone: what else the machine does at the time takes none of them.
    monkeypatch.setattr(finetune_module, "fix_epochs", partial(fix_epochs, clock=time.process_time))
    said = run(tiny_data, tmp_path / "run", minutes=0.12)
    took = float(said[-1].split()[1])
    assert 0.7 * 0.12 < took < 1.2 * 0.12, said


# Which images are evaluated to measure --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "expected"),
    # i * 10 // count: of three 0, 10 // 3, 20 // 3
    [(1, [0]), (3, [0, 3, 6]), (4, [0, 2, 5, 7]), (9, list(range(9))), (10, list(range(10))), (99, list(range(10)))],
)
def test_images_are_spread_evenly(count: int, expected: list[int]) -> None:
    images = tuple(ImageRecord(i, f"{i}.png", None, 8, 8) for i in range(10))
    truth = AnnotatedImages(ClassTable((1,), ("a",)), images, Path("val.json"))
    assert [image.id for image in truth.spread(count).images] == expected
