"""From measurements to a plan: each case, each doubt, and how strong the evidence is."""

import json
from typing import Any

import pytest

from visionkit.advice import decision
from visionkit.advice.decision import Plan, decide
from visionkit.advice.look import Looked
from visionkit.advice.separability import Separability
from visionkit.advice.similarity import Similarity, StageDistance
from visionkit.advice.size import ClassCount, Size
from visionkit.advice.thresholds import DIFFERENT, FEW_OBJECTS, SCRATCH_IMAGES, SEPARABLE, STAGE_DIFFERS, TABLE
from visionkit.types import Unit

UNITS = [Unit(name, (name,)) for name in ("backbone.a", "backbone.pool", "backbone.b", "neck.c", "head.d")]
NEAR, FAR = 0.1 * STAGE_DIFFERS, 2 * STAGE_DIFFERS


def size(examples: int = 10, images: int = 500) -> Size:
    return Size(images, (ClassCount("cat", 10 * examples + 500, images), ClassCount("owl", examples, examples)))


def looked(*distances: float, knn: float | None = 0.5, images: int = 256, fewest: int = 100) -> Looked:
    """What was seen: distances of units 0 and 2, the pool between them has no norm."""
    stages = tuple(StageDistance(n, UNITS[n].name, d, 1) for n, d in zip((0, 2), distances, strict=False))
    separability = None if knn is None else Separability(knn, -0.1, 2 * fewest, fewest, background=True)
    return Looked(images, Similarity(stages, images) if stages else None, separability)


def plans(*arguments: Any) -> tuple[Plan, Plan | None]:
    advice = decide(*arguments, UNITS)
    return advice.best, advice.second


FEW, MANY = FEW_OBJECTS // 5, FEW_OBJECTS * 5


@pytest.mark.parametrize(
    ("measured", "best", "second"),
    [
        ((size(FEW), looked(NEAR, NEAR, knn=0.95)), Plan("head"), Plan("freeze", "backbone")),
        # Not told apart by what is there: the layers behind the backbone have to learn.
        ((size(FEW), looked(NEAR, NEAR, knn=0.1)), Plan("freeze", "backbone"), Plan("full")),
        ((size(FEW), looked(NEAR, NEAR, knn=None)), Plan("freeze", "backbone"), Plan("full")),
        # The units before the first that differs: a and the pool.
        ((size(FEW), looked(NEAR, 5 * FAR)), Plan("freeze", "2"), Plan("full")),
        # Already the first differs: nothing is held.
        ((size(FEW), looked(FAR, FAR)), Plan("full"), Plan("freeze", "backbone")),
        ((size(MANY), looked(NEAR, NEAR)), Plan("full"), Plan("freeze", "backbone")),
        ((size(MANY), looked(FAR, FAR)), Plan("full"), Plan("freeze", "backbone")),
        ((size(MANY, SCRATCH_IMAGES), looked(FAR, FAR)), Plan("scratch"), Plan("full")),
        # Weights without a memory of their source.
        ((size(FEW), looked()), Plan("freeze", "backbone"), Plan("full")),
        ((size(MANY), looked()), Plan("full"), Plan("freeze", "backbone")),
        # No weights.
        ((size(MANY), None), Plan("scratch"), None),
    ],
)
def test_every_case(measured: tuple[Any, Any], best: Plan, second: Plan | None) -> None:
    assert plans(*measured) == (best, second)


def test_the_rarest_class_decides_and_the_lines_are_lines() -> None:
    assert decide(size(FEW_OBJECTS - 1), looked(NEAR, NEAR), UNITS).amount == "little"
    assert decide(size(FEW_OBJECTS), looked(NEAR, NEAR), UNITS).amount == "much"
    at = 2 * DIFFERENT - NEAR
    assert decide(size(), looked(NEAR, at - 0.01), UNITS).kind == "like the source"
    assert decide(size(), looked(NEAR, at + 0.01), UNITS).kind == "of another kind"


def test_no_evidence_is_strong_before_thresholds_are_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = (size(FEW), looked(NEAR, NEAR), UNITS)
    monkeypatch.setattr(decision, "CALIBRATED", False)
    assert decide(*measured).strength == "fair"
    monkeypatch.setattr(decision, "CALIBRATED", True)
    assert decide(*measured).strength == "strong"
    assert decide(*measured).doubts == ()


@pytest.mark.parametrize(
    ("measured", "doubts", "strength"),
    [
        ((size(0), looked(NEAR, NEAR)), ["class owl has no example in the train split"], "fair"),
        (
            (size(FEW_OBJECTS + 1), looked(NEAR, NEAR)),
            [f"{FEW_OBJECTS + 1} examples of the rarest class are near the line of {FEW_OBJECTS}"],
            "fair",
        ),
        ((size(FEW), looked(NEAR, NEAR, images=9)), ["9 images are few for statistics, 32 would do"], "fair"),
        (
            (size(FEW), looked(DIFFERENT, DIFFERENT)),
            [f"a distance of {DIFFERENT:.2f} is near the line of {DIFFERENT:g}"],
            "fair",
        ),
        ((size(FEW), looked(NEAR, NEAR, fewest=4)), ["only 4 crops of a class, 10 would do"], "fair"),
        (
            (size(FEW), looked(NEAR, NEAR, knn=SEPARABLE)),
            [f"a k-NN score of {SEPARABLE:.2f} is near the line of {SEPARABLE:g}"],
            "fair",
        ),
        # Where the score decides nothing, it may be near.
        ((size(MANY), looked(NEAR, NEAR, knn=SEPARABLE)), [], "strong"),
        ((size(FEW), looked(NEAR, NEAR, knn=None)), ["there are no crops of two kinds to tell apart"], "fair"),
        (
            (size(FEW), looked()),
            ["the weights hold no statistics of their source: no batch norm has any, nor did training store them"],
            "weak",
        ),
        ((size(FEW), None), ["there are no trained weights to start from"], "weak"),
        (
            (size(0), looked(NEAR, NEAR, images=9)),
            ["class owl has no example in the train split", "9 images are few for statistics, 32 would do"],
            "weak",
        ),
    ],
)
def test_doubts(measured: tuple[Any, Any], doubts: list[str], strength: str) -> None:
    advice = decide(*measured, UNITS)
    assert list(advice.doubts) == doubts
    assert advice.strength == strength


def test_the_words_hold_every_number() -> None:
    lines = decide(size(FEW), looked(NEAR, 5 * FAR), UNITS).lines()
    mean = (NEAR + 5 * FAR) / 2
    assert lines == [
        "Advice: --strategy freeze --freeze 2, else --strategy full; evidence strong",
        "  case          little data, of another kind",
        f"  size          500 images; rarest class owl with {FEW} objects (little below {FEW_OBJECTS})",
        f"  similarity    {mean:.2f} standard deviations from the source over 256 images (another kind above "
        f"{DIFFERENT:g})",
        f"      0  backbone.a               {NEAR:.2f}",
        f"      2  backbone.b               {5 * FAR:.2f}",
        f"  separability  k-NN 0.50 from chance 0 to faultless 1, LogME -0.100; 200 crops, classes and background "
        f"(enough from {SEPARABLE:g})",
    ]


def test_json_holds_measurements_and_thresholds() -> None:
    found = json.loads(json.dumps(decide(size(FEW), looked(NEAR, NEAR), UNITS).to_json()))
    assert (found["strategy"], found["freeze"]) == ("freeze", "backbone")
    assert found["second"] == {"strategy": "full", "freeze": None}
    assert found["quadrant"] == "little data, like the source"
    assert found["evidence"] == {"strength": "strong", "doubts": [], "calibrated": True}
    assert found["size"]["rarest"] == "owl"
    assert found["similarity"]["distance"] == pytest.approx(NEAR)
    assert found["separability"]["knn"] == 0.5
    assert set(found["thresholds"]) == set(TABLE)
    nothing = decide(size(FEW), None, UNITS).to_json()
    assert (nothing["similarity"], nothing["separability"], nothing["second"]) == (None, None, None)
