"""`--threads` reaches the libraries that compute, in each command that has it."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch
from tiny import TinyRun, tiny_settings

import visionkit
from visionkit.cli.detect import detect
from visionkit.cli.evaluate import evaluate
from visionkit.engine.device import use_threads


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    """Each test begins with two threads, and what it sets ends with it."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    use_threads(2)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def threads() -> tuple[int, int]:
    return torch.get_num_threads(), cv2.getNumThreads()


def test_none_leaves_what_is_there() -> None:
    use_threads(0)
    assert threads() == (2, 2)


def test_finetune(tiny_data: Path) -> None:
    visionkit.finetune(tiny_data, dry_run=True, **{**tiny_settings(epochs=1), "threads": 3})
    assert threads() == (3, 3)


def test_evaluate(tiny_run: TinyRun, tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(weights=tiny_run.result.best, data=str(tiny_data), device="cpu", threads=3)
    assert threads() == (3, 3)
    assert capsys.readouterr().out.startswith("4 images, boxes")


def test_detect(tiny_run: TinyRun, tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(tiny_data / "images" / "val_0.png")
    detect(source=[picture], weights=str(tiny_run.result.best), device="cpu", threads=3, save=False)
    assert threads() == (3, 3)
    assert picture in capsys.readouterr().out
