"""Iterative stratification, by hand on small cases and by its laws on drawn ones."""

import numpy as np
import pytest

from visionkit.errors import DataError, UsageError
from visionkit.formats.stratification import checked_shares, stratified_parts

HALVES = {"train": 0.5, "val": 0.5}
THREE = {"train": 0.7, "val": 0.2, "test": 0.1}


def parts_of(counts: list[list[int]], shares: dict[str, float], groups: list[object] | None = None, seed: int = 0):  # type: ignore[no-untyped-def]
    return stratified_parts(np.array(counts), groups or list(range(len(counts))), shares, seed)


def test_the_rarest_class_goes_first_and_fits() -> None:
    # Class 1 has two objects, of images 2 and 5: one each. Of class 0, eight objects, four each are left.
    counts = [[2, 0], [2, 0], [0, 1], [2, 0], [2, 0], [0, 1]]
    parts = parts_of(counts, HALVES)
    for part in HALVES:
        own = np.array([row for row, p in zip(counts, parts, strict=True) if p == part])
        assert own.sum(axis=0).tolist() == [4, 1]


def test_a_large_image_does_not_go_where_it_does_not_fit() -> None:
    # Of 95 objects val is to have 19: the 50 and the 40 are too many, the 5 is not.
    assert parts_of([[50], [40], [5]], {"train": 0.8, "val": 0.2}) == ["train", "train", "val"]


def test_three_of_a_class_are_two_and_one() -> None:
    # Webster: (2.4 - 0.5) / 0.8 = 2.4 and (1.4 - 0.5) / 0.8 = 1.1 are above (0.6 - 0.5) / 0.2 = 0.5, and that is above
    # (0.4 - 0.5) / 0.8 = -0.1.
    assert sorted(parts_of([[1], [1], [1]], {"train": 0.8, "val": 0.2})) == ["train", "train", "val"]


def test_images_without_objects_are_divided_too() -> None:
    parts = parts_of([[0]] * 10, THREE)
    assert {name: parts.count(name) for name in THREE} == {"train": 7, "val": 2, "test": 1}


def test_no_class_at_all() -> None:
    parts = stratified_parts(np.zeros((4, 0), np.int64), list(range(4)), HALVES, 0)
    assert sorted(parts) == ["train", "train", "val", "val"]


def test_groups_are_not_parted() -> None:
    random = np.random.default_rng(0)
    counts = random.poisson(1.0, (300, 5))
    groups = random.integers(0, 40, 300).tolist()
    parts = stratified_parts(counts, groups, THREE, 0)
    for group in set(groups):
        assert len({part for part, g in zip(parts, groups, strict=True) if g == group}) == 1


@pytest.mark.parametrize("seed", range(3))
def test_shares_of_images_and_of_every_class(seed: int) -> None:
    random = np.random.default_rng(seed)
    # From common to rare, and images from empty to crowded.
    counts = random.poisson(random.gamma(1, 1, (1000, 1)) * np.array([[8.0, 1.0, 0.3, 0.1]]))
    parts = np.array(stratified_parts(counts, list(range(1000)), THREE, seed))
    for name, share in THREE.items():
        assert (parts == name).mean() == pytest.approx(share, abs=0.01)
        got = counts[parts == name].sum(axis=0) / counts.sum(axis=0)
        assert got == pytest.approx(np.full(4, share), abs=0.02)
    # Neither part gets the crowded images: a draw by chance is within 0.2 of this.
    means = [counts[parts == name].sum(axis=1).mean() for name in THREE]
    assert max(means) - min(means) < 0.1


def test_seed_and_order() -> None:
    counts = np.random.default_rng(1).poisson(1.0, (60, 3))
    groups = [f"g{i}" for i in range(60)]
    parts = dict(zip(groups, stratified_parts(counts, groups, THREE, 0), strict=True))
    assert parts == dict(zip(groups, stratified_parts(counts, groups, THREE, 0), strict=True))
    turned = stratified_parts(counts[::-1], groups[::-1], THREE, 0)
    assert parts == dict(zip(groups[::-1], turned, strict=True)), "not by the order of images"
    assert parts != dict(zip(groups, stratified_parts(counts, groups, THREE, 1), strict=True))


def test_every_part_gets_something() -> None:
    # A twentieth of three images rounds to none.
    assert sorted(parts_of([[1], [1], [1]], {"train": 0.9, "val": 0.05, "test": 0.05})) == ["test", "train", "val"]


def test_too_few_groups() -> None:
    with pytest.raises(DataError, match="there are 1 groups of images for 2 splits, each needs one or more"):
        parts_of([[1], [1]], HALVES, ["same", "same"])


@pytest.mark.parametrize(
    ("val", "test", "words"),
    [
        (1.0, 0.0, "--val must be a share of the images from 0 to below 1, got 1.0"),
        (20, 0.0, "--val must be a share"),
        (0.2, -0.1, "--test must be a share"),
        (float("nan"), 0.0, "--val must be a share"),
        (0.6, 0.4, "leave nothing to train on"),
        (0.0, 0.0, "divide nothing"),
    ],
)
def test_shares_out_of_range(val: float, test: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        checked_shares(val, test)


def test_shares_of_zero_are_left_out() -> None:
    assert checked_shares(0.0, 0.25) == {"train": 0.75, "test": 0.25}
