"""Weights that are no numbers are found, by name; all others pass, however large."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from visionkit.errors import CheckpointError
from visionkit.nn.finite import not_finite, require_finite

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_one_nan_among_many_is_found(dtype: torch.dtype) -> None:
    weight = torch.arange(12.0).reshape(3, 4).to(dtype)
    assert not_finite({"weight": weight}) is None
    weight[1, 2] = NAN
    assert not_finite({"weight": weight}) == "weight"


@pytest.mark.parametrize("values", [[INF], [-INF, 1.0], [INF, -INF], [0.0, NAN]])
def test_the_first_is_named(values: list[float]) -> None:
    tensors = {"a": torch.ones(3), "b": torch.tensor(values), "c": torch.tensor(NAN)}
    assert not_finite(tensors) == "b"


@pytest.mark.parametrize(
    "large",
    [
        torch.full((2,), 3e38),  # 6e38 is more than 32 bits hold
        torch.full((2,), 6e4, dtype=torch.float16),  # 1.2e5 more than 16
        torch.full((2,), 1e300, dtype=torch.float64),  # 2e300, and the sums of all tensors are compared in 32 bits
        torch.full((3, 2, 2), -3e38).permute(2, 0, 1),
    ],
)
def test_large_numbers_are_finite(large: Tensor) -> None:
    assert not_finite({"large": large}) is None
    assert not_finite({"large": large, "other": torch.tensor([INF])}) == "other"


def test_whole_numbers_and_empty_tensors_are() -> None:
    assert not_finite({}) is None
    assert not_finite({"count": torch.tensor(2**62), "mask": torch.tensor([True])}) is None
    assert not_finite({"none": torch.zeros(0, 4), "count": torch.tensor([7])}) is None


def test_the_line_counts_them() -> None:
    require_finite({"a": torch.ones(2)}, Path("best.safetensors"), "give another")
    with pytest.raises(CheckpointError) as error:
        require_finite({"a": torch.ones(2), "b": torch.tensor([1, NAN, INF])}, Path("best.safetensors"), "give another")
    assert str(error.value) == (
        "best.safetensors has 2 of 3 numbers in b that are NaN or infinite, weights must be finite; give another"
    )
