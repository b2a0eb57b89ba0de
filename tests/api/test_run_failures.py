"""What ends a run is told in a line; what nobody foresaw comes as it is."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from visionkit.api.run_failures import explained
from visionkit.errors import VisionkitError

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
