"""What ends a run is told in a line; what nobody foresaw comes as it is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from visionkit.api import run_failures
from visionkit.api.run_failures import explained
from visionkit.engine.batch_size import Fit
from visionkit.engine.broken_batch import load_batch
from visionkit.engine.broken_steps import DivergedError
from visionkit.engine.run_folder import RunFolder
from visionkit.engine.settings import TrainSettings
from visionkit.errors import VisionkitError
from visionkit.imaging.letterbox import Frame
from visionkit.types import Batch, Target

FOLDER: Any = SimpleNamespace(root="runs/a")
RUN: Any = SimpleNamespace()


def test_a_single_image_whose_last_map_is_one_pixel() -> None:
    with pytest.raises(VisionkitError) as error, explained(RUN, FOLDER, ()):
        nn.BatchNorm2d(4)(torch.zeros(1, 4, 1, 1))
    assert str(error.value) == (
        "a batch norm measures each channel over its batch, and of a single image so small the last map is one pixel; "
        "start anew with --batch 2 or more, or a larger --imgsz"
    )


def test_any_other_wrong_value_is_not_explained_away() -> None:
    with pytest.raises(ValueError, match=r"^something else$"), explained(RUN, FOLDER, ()):
        raise ValueError("something else")


# Several processes ----------------------------------------------------------------------------------------------------


class Pair:
    """Two processes, of which this one is the first or the other; the other has images 3 and 4 of a batch."""

    world_size = 2

    def __init__(self, rank: int) -> None:
        self.rank, self.first = rank, rank == 0

    def gathered(self, mine: Batch) -> list[Batch] | None:
        return [mine, batch_of(3, 4)] if self.first else None


def batch_of(*image_ids: int) -> Batch:
    target = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))
    images = torch.zeros(len(image_ids), 3, 2, 2, dtype=torch.uint8)
    frame = Frame(2, 2, 1.0, 1.0, 0, 0)
    return Batch(images, (target,) * len(image_ids), (frame,) * len(image_ids), image_ids)


def ended(error: Exception, folder: RunFolder, processes: Any, run: Any = RUN) -> str:
    with pytest.raises(VisionkitError) as caught, explained(run, folder, (), processes):
        raise error
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_first_writes_the_batch_of_all(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    words = ended(DivergedError("the loss is not finite", batch_of(1, 2)), folder, Pair(0))
    assert words == f"the loss is not finite; the last batch is in {folder.broken_batch}"
    assert load_batch(folder.broken_batch).image_ids == (1, 2, 3, 4)


def test_the_others_write_nothing() -> None:
    # The folder of a run need not be there for them.
    folder = RunFolder(Path("nowhere"))
    assert ended(DivergedError("the loss is not finite", batch_of(3, 4)), folder, Pair(1)) == "the loss is not finite"


@pytest.mark.parametrize(
    ("fits", "words"),
    [
        # Each has 8 of 16: 4 fit, so 8 in both, twice.
        (4, "; 4 fit: start anew with --batch 8 --set train.accumulate=2"),
        (None, "; start anew with --batch 8 --set train.accumulate=2"),
        (0, ", and 2 do not fit either; start anew with a smaller --imgsz or model"),
    ],
)
def test_out_of_memory_in_one_of_several(fits: int | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(run_failures, "fitting_batch", lambda run, most: asked.append(most) or Fit(fits, ""))
    model = nn.Linear(1, 1)
    run = SimpleNamespace(
        config=SimpleNamespace(train=TrainSettings(batch=16), imgsz=64),
        device=torch.device("cpu"),
        state=SimpleNamespace(optimizer=torch.optim.SGD(model.parameters())),
    )
    failed = "out of memory with batches of 16 images of 64 px, 8 a process, on cpu"
    assert ended(MemoryError(), RunFolder(Path("run")), Pair(1), run) == failed + words
    assert asked == [7]
