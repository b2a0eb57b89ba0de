"""What models made of parts answer alike."""

import pytest
import torch
from torch import nn

from visionkit.errors import UsageError
from visionkit.models.assembly import model_units, require_input_size
from visionkit.types import Unit


class Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2)
        self.units = (Unit("stem", ("conv", "norm")), Unit("pool", ("pool",)))


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Trunk()
        self.neck = nn.ModuleDict({"narrow": nn.Conv2d(4, 4, 1), "enlarge": nn.Upsample(scale_factor=2)})
        self.head = nn.ModuleDict({"classes": nn.Conv2d(4, 2, 1), "boxes": nn.Conv2d(4, 4, 1)})


def test_units_are_the_backbones_then_the_children_that_learn() -> None:
    # A pooling block of the backbone counts, an upsampling of the neck does not.
    assert model_units(Parts(), ("neck", "head")) == (
        Unit("backbone.stem", ("backbone.conv", "backbone.norm")),
        Unit("backbone.pool", ("backbone.pool",)),
        Unit("neck.narrow", ("neck.narrow",)),
        Unit("head.classes", ("head.classes",)),
        Unit("head.boxes", ("head.boxes",)),
    )
    assert [unit.name for unit in model_units(Parts(), ())] == ["backbone.stem", "backbone.pool"]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96)])
def test_a_size_that_fits_passes(height: int, width: int) -> None:
    require_input_size(torch.empty(0, 3, height, width), 32)


@pytest.mark.parametrize(
    ("height", "width", "stride", "message"),
    [
        (333, 500, 32, "image size must be divisible by 32, got 333x500; use 352x512"),
        (64, 65, 32, "image size must be divisible by 32, got 64x65; use 64x96"),
        (20, 16, 8, "image size must be divisible by 8, got 20x16; use 24x16"),
    ],
)
def test_a_size_that_does_not_is_refused_with_one_that_does(height: int, width: int, stride: int, message: str) -> None:
    with pytest.raises(UsageError) as error:
        require_input_size(torch.empty(0, 3, height, width), stride)
    assert str(error.value) == message
