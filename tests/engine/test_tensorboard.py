"""What is written for TensorBoard, by a fake of torch's writer; with the real package, what it reads back."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny import tiny_settings

import visionkit
from visionkit.engine.events import EpochDone, Event, StepDone
from visionkit.engine.tensorboard import tensorboard_log
from visionkit.errors import UsageError
from visionkit.metrics.coco_map import CocoScores

MISSING = (
    "--tensorboard needs the package tensorboard, which is not installed; "
    "install it by: pip install 'visionkit[tensorboard]'"
)


@dataclass
class FakeWriter:
    """Notes what a SummaryWriter is told."""

    log_dir: str
    purge_step: int
    scalars: list[tuple[str, float, int]] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.append((tag, value, step))

    def flush(self) -> None:
        self.happened.append("flush")

    def close(self) -> None:
        self.happened.append("close")


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[FakeWriter]:
    """Those that were opened, in a torch whose TensorBoard is a fake."""
    opened: list[FakeWriter] = []

    def open_writer(log_dir: str, purge_step: int) -> FakeWriter:
        opened.append(FakeWriter(log_dir, purge_step))
        return opened[-1]

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = open_writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return opened


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without the extra."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def step_done(epoch: int, batch: int) -> StepDone:
    return StepDone(epoch, 9, batch, 3, {"class": 0.5, "box": 0.25}, 0.01, 4)


def epoch_done(epoch: int, ap: float | None = None, evaluated: bool = True) -> EpochDone:
    scores = CocoScores("bbox", 4, ap, *(None,) * 11, mean_iou_matched=0.75, per_class={}) if evaluated else None
    return EpochDone(epoch, 9, {"class": 0.4, "box": 0.2}, 0.01, 31.0, 60.0, scores, False)


def test_every_event_is_passed_on_and_curves_count_batches(writers: list[FakeWriter], tmp_path: Path) -> None:
    events: list[Event] = [step_done(2, 3), epoch_done(2, ap=0.5), step_done(3, 1)]
    told: list[Event] = []
    with tensorboard_log(tmp_path / "curves", told.append) as listen:
        assert writers == []  # no file before there is something to write
        for event in events:
            listen(event)
    assert told == events
    (writer,) = writers
    assert (writer.log_dir, writer.happened) == (str(tmp_path / "curves"), ["flush", "close"])
    assert writer.purge_step == 6  # goes on with the sixth batch: what an earlier process wrote from there on goes
    assert writer.scalars == [
        # The third of three batches in epoch 2: 3 + 3.
        ("batch/class", 0.5, 6), ("batch/box", 0.25, 6), ("lr", 0.01, 6),
        ("epoch/class", 0.4, 6), ("epoch/box", 0.2, 6), ("images_per_second", 31.0, 6),
        ("val/AP", 0.5, 6), ("val/mean_iou_matched", 0.75, 6),  # those not defined are left out
        ("batch/class", 0.5, 7), ("batch/box", 0.25, 7), ("lr", 0.01, 7),
    ]  # fmt: skip


def test_an_epoch_without_evaluation_has_no_scores(writers: list[FakeWriter], tmp_path: Path) -> None:
    with tensorboard_log(tmp_path, lambda event: None) as listen:
        listen(step_done(1, 3))
        listen(epoch_done(1, evaluated=False))
    assert not [tag for tag, *_ in writers[0].scalars if tag.startswith("val/")]


def test_files_are_closed_when_training_fails(writers: list[FakeWriter], tmp_path: Path) -> None:
    def train() -> None:
        with tensorboard_log(tmp_path, lambda event: None) as listen:
            listen(step_done(1, 1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert writers[0].happened == ["close"]


def test_a_run_without_a_step_writes_nothing(writers: list[FakeWriter], tmp_path: Path) -> None:
    with tensorboard_log(tmp_path, lambda event: None):
        pass
    assert writers == []


def test_finetune_writes_beside_its_other_files(writers: list[FakeWriter], tiny_data: Path, tmp_path: Path) -> None:
    visionkit.finetune(tiny_data, out=tmp_path / "run", tensorboard=True, **tiny_settings(epochs=2, imgsz=32))
    (writer,) = writers
    assert (writer.log_dir, writer.purge_step) == (str(tmp_path / "run" / "tensorboard"), 1)
    # 10 images in batches of 4: 3 an epoch.
    assert [step for tag, _, step in writer.scalars if tag == "lr"] == [1, 2, 3, 4, 5, 6]
    assert [step for tag, _, step in writer.scalars if tag == "val/AP"] == [3, 6]


def test_without_being_asked_it_is_not_even_looked_for(
    writers: list[FakeWriter], tiny_data: Path, tmp_path: Path
) -> None:
    visionkit.finetune(tiny_data, out=tmp_path / "run", **tiny_settings(epochs=1, imgsz=32))
    assert writers == []
    assert "tensorboard: false" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.usefixtures("missing")
@pytest.mark.parametrize("how", [{"tensorboard": True}, {"set": ["tensorboard=true"]}])
def test_a_missing_package_is_one_line_before_anything_is_made(
    how: dict[str, Any], tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as error:
        visionkit.finetune(tiny_data, out=tmp_path / "run", **tiny_settings(epochs=1, imgsz=32, **how))
    assert str(error.value) == MISSING
    assert list(tmp_path.iterdir()) == []


def test_the_real_package_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tensorboard_log(tmp_path, lambda event: None) as listen:
        for batch in (1, 2, 3):
            listen(step_done(1, batch))
        listen(epoch_done(1, ap=0.5))
    # A second process that goes on after the second batch.
    with tensorboard_log(tmp_path, lambda event: None) as listen:
        listen(step_done(1, 3))
        listen(epoch_done(1, ap=0.625))
    curves = EventAccumulator(str(tmp_path))
    curves.Reload()
    assert [event.step for event in curves.Scalars("batch/class")] == [1, 2, 3]
    assert [(event.step, event.value) for event in curves.Scalars("val/AP")] == [(3, 0.625)]
