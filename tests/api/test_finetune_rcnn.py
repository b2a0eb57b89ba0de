"""The R-CNN family through the same door as every other model."""

from pathlib import Path

import pytest

import visionkit
from tests.tiny import tiny_settings, write_blocks
from visionkit.build import load_model


@pytest.mark.parametrize("model", ["faster-rcnn", "retinanet"])
def test_trains_and_evaluates(model: str, tmp_path: Path) -> None:
    data = write_blocks(tmp_path / "blocks", {"train": 8, "val": 4})
    result = visionkit.finetune(data=data, model=model, out=tmp_path / "run", **tiny_settings(epochs=2))
    loaded = load_model(result.best)
    assert loaded.name == f"{model}/csp-light"
    assert result.scores["AP"] is not None


def test_runs_of_one_seed_draw_the_same_regions(tmp_path: Path) -> None:
    # Two runs of one seed end in the same bytes only if the regions drawn are those of the seed.
    data = write_blocks(tmp_path / "blocks", {"train": 8, "val": 4})
    files = [
        visionkit.finetune(data=data, model="faster-rcnn", out=tmp_path / name, **tiny_settings(epochs=1)).last
        for name in ("first", "second")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
