"""Images divided into splits that have like shares of every class, and whole groups (Sechidis, Tsoumakas and Vlahavas
2011, On the Stratification of Multi-Label Data, algorithm 1, "iterative stratification")."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import DataError, UsageError


def stratified_parts(
    counts: NDArray[np.int64], groups: Sequence[Hashable], shares: Mapping[str, float], seed: int
) -> list[str]:
    """The part of each image.

    The rarest class that is left goes first, each of its groups to the part that lacks most of it; among parts that
    lack as much, to the one that lacks most images; then by seed. Images without objects come last. Beyond the paper,
    whose examples have a class or not: an image counts by its objects, groups are dealt out whole, and those with most
    of the class come first, as a late large one fits nowhere. What a part lacks, after half of the group, is counted in
    its share (Webster's rounding): by bare numbers, as in the paper, the large part would take the crowded images. A
    part that gets nothing takes the smallest group of the largest part.

    Args:
        counts: i64 [N, K], objects of each class in each image.
        groups: of each image; images of one group are never parted. Their text decides ties, with `seed`.
        shares: part -> its share of the whole, each above 0; they add up to 1.

    Raises:
        DataError: fewer groups than parts.

    >>> counts = np.array([[2, 0], [2, 0], [0, 1], [0, 1]])
    >>> stratified_parts(counts, [1, 2, 3, 4], {"train": 0.5, "val": 0.5}, seed=0)
    ['val', 'train', 'val', 'train']
    """
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    if len(members) < len(shares):
        raise DataError(
            f"there are {len(members)} groups of images for {len(shares)} splits, each needs one or more; name fewer "
            "splits or a finer group"
        )
    ordered = sorted(members, key=lambda group: hashlib.sha256(f"{seed} {group}".encode("utf-8", "replace")).digest())
    sizes = np.array([len(members[group]) for group in ordered])
    objects = np.array([counts[members[group]].sum(axis=0) for group in ordered]).reshape(len(ordered), -1)
    part_of_group = _dealt(objects, sizes, np.array(list(shares.values())))
    names = list(shares)
    parts = [""] * len(groups)
    for group, part in zip(ordered, part_of_group, strict=True):
        for index in members[group]:
            parts[index] = names[part]
    return parts


def _dealt(objects: NDArray[np.int64], sizes: NDArray[np.int64], shares: NDArray[np.float64]) -> list[int]:
    """The part of each group; the earlier of two like ones is dealt out first.

    Args:
        objects: i64 [M, K] of each group.
        sizes: i64 [M], images.
        shares: f64 [P].
    """
    lacking = np.outer(shares, objects.sum(axis=0)).astype(np.float64)
    lacking_images = shares * float(sizes.sum())
    parts = np.full(len(sizes), -1)

    def deal(group: int, label: int | None) -> None:
        by_images = (lacking_images - sizes[group] / 2) / shares
        wish = by_images if label is None else (lacking[:, label] - objects[group, label] / 2) / shares
        # Sums of floats that are equal on paper differ in the last digits.
        best = np.flatnonzero(wish >= wish.max() - 1e-9)
        part = int(best[np.argmax(by_images[best].round(9))])
        parts[group] = part
        lacking[part] -= objects[group]
        lacking_images[part] -= sizes[group]

    left = objects.sum(axis=0)
    while left.any():
        label = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
        own = np.flatnonzero((objects[:, label] > 0) & (parts < 0))
        for group in own[np.argsort(-objects[own, label], kind="stable")].tolist():
            deal(group, label)
            left = left - objects[group]
    for group in np.flatnonzero(parts < 0)[np.argsort(-sizes[parts < 0], kind="stable")].tolist():
        deal(group, None)
    for part in range(len(shares)):
        if not (parts == part).any():
            images = np.array([sizes[parts == other].sum() for other in range(len(shares))])
            several = np.array([(parts == other).sum() > 1 for other in range(len(shares))])
            giving = int(np.argmax(np.where(several, images, -1)))
            own = np.flatnonzero(parts == giving)
            parts[own[np.argmin(sizes[own])]] = part
    result: list[int] = parts.tolist()
    return result


def checked_shares(val: float, test: float) -> dict[str, float]:
    """train, val and test with their shares; those of share 0 are left out.

    Raises:
        UsageError: a share is not in [0, 1), nothing is left for train, or nothing is divided.

    >>> checked_shares(0.25, 0.0)
    {'train': 0.75, 'val': 0.25}
    """
    for name, share in (("val", val), ("test", test)):
        if not 0 <= share < 1:
            raise UsageError(f"--{name} must be a share of the images from 0 to below 1, got {share}; 0.2 is a fifth")
    if val + test >= 1:
        raise UsageError(f"--val {val} and --test {test} leave nothing to train on; make their sum less than 1")
    if not val + test:
        raise UsageError("--val 0 and --test 0 divide nothing; give one of them a share")
    shares = {"train": 1 - val - test, "val": val, "test": test}
    return {name: share for name, share in shares.items() if share}
