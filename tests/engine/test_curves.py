"""The picture of a run's curves is drawn for every kind of history."""

from pathlib import Path
from typing import Any

import cv2
import pytest

from visionkit.engine.curves import draw_curves


def row(epoch: int, ap: float | None) -> dict[str, Any]:
    scores = {"AP": ap, "AP50": ap, "AP75": ap}
    return {"epoch": epoch, "lr": 1e-3 / epoch, "loss/class": 3 / epoch, "loss/box": 2 / epoch, **scores}


HISTORIES = {
    "one epoch": [row(1, 0.1)],
    "never evaluated": [row(1, None), row(2, None)],
    "evaluated now and then": [row(1, None), row(2, 0.2), row(3, None), row(4, 0.6)],
    "a score that is not defined": [{**row(1, 0.1), "AP75": None}, row(2, 0.2)],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())
def test_every_history_gives_a_picture(tmp_path: Path, history: list[dict[str, Any]]) -> None:
    draw_curves(tmp_path / "curves.png", history)
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture.shape == (360, 1200, 3)
    assert (picture < 128).mean() > 0.005  # something is drawn


def test_the_same_history_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_curves(tmp_path / name, HISTORIES["evaluated now and then"])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
