"""Training in tiles: large images are cut, and judged as `evaluate` with the same tiles judges them."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from masks import write_masks
from tiny import TinyRun, tiny_settings

import visionkit
from visionkit.api.task_data import training_dataset
from visionkit.api.tiled_evaluation import tiled_scores
from visionkit.build import load_model
from visionkit.config import Recipe
from visionkit.data.tiles import TiledDataset
from visionkit.errors import ConfigError, UsageError
from visionkit.formats.layout import find_layout, read_split
from visionkit.predict.tiling import Tiling


def settings(**others: Any) -> dict[str, Any]:
    return tiny_settings(epochs=1, tile=48, overlap=0.25, amp=False, **others)


def test_a_detector_in_tiles(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    options = settings(weights=tiny_run.result.best, lr=1e-4)
    run = visionkit.finetune(tiny_data, out=tmp_path / "run", say=said.append, **options)
    assert run is not None
    data = training_dataset(Recipe(tile=48, overlap=0.25, augment="light"), read_split(find_layout(tiny_data), "train"))
    assert isinstance(data, TiledDataset)
    # 64 px are two tiles of 48: of 64 x 48 px there are 2, of 64 x 64 px 4, and each picture whole.
    (line,) = (line for line in said if line.startswith("Training data: "))
    assert line.endswith(f"; {len(data) - 10} tiles of 10 large images")
    assert any(f"1 epoch of {len(data)} images in batches of 4" in line for line in said)
    judged = visionkit.evaluate(run.best, tiny_data, tile=48, overlap=0.25, amp=False, threads=1).to_json()
    assert run.scores["AP"] == pytest.approx(judged["AP"], abs=1e-6)
    assert run.scores["AR100"] == pytest.approx(judged["AR100"], abs=1e-6)
    whole = visionkit.evaluate(run.best, tiny_data, tile=0, amp=False, threads=1, workers=0).to_json()
    assert whole != judged
    assert judged["AR100"] > 0
    # Where nothing is said, a model sees what it learnt from: judged, compared and in use.
    said.clear()
    assert visionkit.evaluate(run.best, tiny_data, amp=False, threads=1, say=said.append).to_json() == judged
    assert "Tiles of 48 px, overlapping by 0.25, as trained" in said
    said.clear()
    both = visionkit.compare(run.folder, tiny_run.result.best, data=tiny_data, threads=1, say=said.append)
    assert both.AP.a == pytest.approx(judged["AP"], abs=1e-6)
    assert f"{run.best} sees tiles of 48 px, as trained" in said
    model, picture = visionkit.load(run.best, device="cpu", exact=True), tiny_data / "images" / "val_0.png"
    (as_trained,), (told,), (whole_image,) = (
        model.detect(picture, conf=0.001, **tile) for tile in ({}, {"tile": 48, "overlap": 0.25}, {"tile": 0})
    )
    assert (as_trained.boxes == told.boxes).all()
    assert as_trained.boxes.tolist() != whole_image.boxes.tolist()
    (explained,) = visionkit.load(run.best, device="cpu", exact=True, why=True).detect(picture, conf=0.001, why=True)
    assert explained.boxes == pytest.approx(as_trained.boxes, abs=1e-3)


def test_a_segmenter_in_tiles(tmp_path: Path) -> None:
    data = write_masks(tmp_path / "data", {"train": 4, "val": 2})
    run = visionkit.finetune(data, out=tmp_path / "run", **settings(model="fcn32s", backbone="alexnet", augment="none"))
    assert run is not None
    judged = visionkit.evaluate(run.best, data, tile=48, overlap=0.25, amp=False, threads=1).to_json()
    assert run.scores["mIoU"] == judged["mIoU"]
    alone, together, _ = shared(run.best, data)
    assert together.to_json() == alone.to_json()


def test_several_processes_share_the_images(tiny_run: TinyRun, tiny_data: Path) -> None:
    alone, together, seen = shared(tiny_run.result.best, tiny_data)
    assert alone.AR100 > 0
    assert together.to_json() == alone.to_json()
    assert seen == [10, 5]


def shared(weights: Path, data: Path) -> tuple[Any, Any, list[int]]:
    """What one process says of train in tiles, what two say together, and how many images each looked at."""
    loaded, truth = load_model(weights), read_split(find_layout(data), "train")
    tiling, said, seen = Tiling(48, 0.25), [], []

    def scores(on_images: Callable[[int], None], processes: Any) -> Any:
        place = torch.device("cpu")
        how: dict[str, Any] = {"device": place, "on_images": on_images, "processes": processes}
        return tiled_scores(loaded.model.eval(), loaded.recipe, truth, tiling, **how)

    counts: list[int] = []
    alone = scores(counts.append, None)
    seen.append(sum(counts))
    counts.clear()

    def gathered(mine: Any) -> list[Any]:
        said.append(mine)
        return said

    for rank in (0, 1):  # the last of them has what both said
        process = SimpleNamespace(rank=rank, world_size=2, gathered=gathered, from_first=lambda judge: judge())
        counts.clear()
        together = scores(counts.append, process)
    seen.append(sum(counts))
    return alone, together, seen


@pytest.mark.parametrize(
    ("recipe", "kind", "words"),
    [
        (
            {"model": "classifier"},
            ConfigError,
            "model classifier learns whole pictures, which have no tiles; leave tile at 0",
        ),
        (
            {"model": "fast-rcnn"},
            ConfigError,
            "model fast-rcnn is fed by proposals on whole images; leave tile at 0",
        ),
        ({"model": "rcnn"}, ConfigError, "model rcnn is fed by proposals on whole images; leave tile at 0"),
        ({"tile": 16}, UsageError, "a tile must be at least 32 px wide, got 16; choose a larger one"),
    ],
)
def test_what_has_no_tiles(recipe: dict[str, Any], kind: type[Exception], words: str, tiny_data: Path) -> None:
    images = read_split(find_layout(tiny_data), "val")
    with pytest.raises(kind) as error:
        training_dataset(Recipe(**{"tile": 64, **recipe}), images)
    assert str(error.value) == words
