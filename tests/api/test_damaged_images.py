"""Images that cannot be read: refused before training or evaluation, and one line where it only shows on the way."""

from pathlib import Path

import pytest
from command_line import CommandLine
from tiny import TinyRun, tiny_flags, tiny_settings, write_blocks

import visionkit
from visionkit.data.loader import BatchPlan
from visionkit.errors import DataError, VisionkitError


def damage(path: Path) -> bytes:
    """Spoil a PNG within its pixels, where neither its header nor its end tells; its bytes before."""
    before = path.read_bytes()
    damaged = bytearray(before)
    damaged[damaged.index(b"IDAT") + 300] ^= 0xFF
    path.write_bytes(damaged)
    return before


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_blocks(tmp_path / "data", {"train": 10, "val": 4})


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_image_that_fails_within_training(data: Path, tmp_path: Path, workers: int, split: str) -> None:
    # Of the training images one of the second batch: the first is drawn on a sheet before training begins.
    drawn = int(BatchPlan(10, 4, 2, seed=0).order(0)[5])
    image = data / "images" / (f"train_{drawn}.png" if split == "train" else "val_2.png")
    before = damage(image)
    run = tmp_path / "run"
    settings = tiny_settings(epochs=2, workers=workers, seed=0, augment="none")
    with pytest.raises(VisionkitError) as caught:
        visionkit.finetune(data, out=run, **settings)
    assert type(caught.value) is VisionkitError  # exit code 1: not refused at the start
    assert str(caught.value) == (
        f"{image} cannot be decoded, its PNG data is damaged or of an unknown kind; export it again; training stopped, "
        f"its last state is saved: once the image is put right, go on by --resume {run}"
    )
    image.write_bytes(before)
    result = visionkit.finetune(resume=run)
    assert result is not None
    assert result.epochs == 2


def test_the_command_line_says_it_in_a_line_and_exits_with_1(
    data: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    image = data / "images" / "val_2.png"
    damage(image)
    finished = command_line("finetune", "--data", data, *tiny_flags(epochs=1), "--out", tmp_path / "run")
    assert finished.code == 1
    assert finished.error.startswith(f"{image} cannot be decoded")
    assert (tmp_path / "run" / "state.pt").is_file()


def test_an_image_cut_off_is_refused_before_anything_is_done(data: Path, tmp_path: Path, tiny_run: TinyRun) -> None:
    image = data / "images" / "val_2.png"
    image.write_bytes(image.read_bytes()[:-20])
    for job in (
        lambda: visionkit.finetune(data, out=tmp_path / "run", **tiny_settings()),
        lambda: visionkit.evaluate(tiny_run.result.best, data, threads=1, workers=0),
    ):
        with pytest.raises(DataError, match=r"val_2\.png is cut off, a PNG must reach its end mark"):
            job()
    assert not (tmp_path / "run").exists()
