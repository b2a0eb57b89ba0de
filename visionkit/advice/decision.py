"""From measurements to a strategy: which one, how much is held still, and how strong the evidence is.

The four cases of fine-tuning, little or much data, like the source's or of another kind, are those of Yosinski et al.
2014, How Transferable Are Features in Deep Neural Networks?, and of the courses that teach it since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from visionkit.advice.look import Looked
from visionkit.advice.size import Size
from visionkit.advice.thresholds import (
    CALIBRATED,
    DIFFERENT,
    FEW_OBJECTS,
    FEWEST_CROPS,
    FEWEST_IMAGES,
    NEAR,
    SCRATCH_IMAGES,
    SEPARABLE,
    STAGE_DIFFERS,
    TABLE,
)
from visionkit.counted import counted
from visionkit.types import Unit

Strategy = Literal["head", "freeze", "full", "scratch"]
Amount = Literal["little", "much"]
Kind = Literal["like the source", "of another kind", "of unknown kind"]
Strength = Literal["weak", "fair", "strong"]

RANKING: dict[tuple[Amount, Kind], tuple[Strategy, Strategy]] = {
    ("little", "like the source"): ("head", "freeze"),
    ("little", "of another kind"): ("freeze", "full"),
    ("little", "of unknown kind"): ("freeze", "full"),
    ("much", "like the source"): ("full", "freeze"),
    ("much", "of another kind"): ("full", "scratch"),
    ("much", "of unknown kind"): ("full", "freeze"),
}
"""The best strategy of each case, and the second."""

BACKBONE = "backbone"


@dataclass(frozen=True, slots=True)
class Plan:
    """A strategy with what it holds still.

    Args:
        freeze: as `--freeze` takes it; empty where the strategy decides by itself.
    """

    strategy: Strategy
    freeze: str = ""

    def words(self) -> str:
        """As on the command line."""
        return f"--strategy {self.strategy}" + (f" --freeze {self.freeze}" if self.freeze else "")

    def to_json(self) -> dict[str, Any]:
        return {"strategy": self.strategy, "freeze": self.freeze or None}


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, what speaks for it, and how much that is worth.

    Args:
        best, second: the plans, in this order; no second without weights to start from.
        doubts: what weakens the evidence, a line each.
    """

    amount: Amount
    kind: Kind
    best: Plan
    second: Plan | None
    strength: Strength
    doubts: tuple[str, ...]
    size: Size
    looked: Looked | None

    @property
    def quadrant(self) -> str:
        """`little data, like the source`."""
        return f"{self.amount} data, {self.kind}"

    def lines(self) -> list[str]:
        """The same in words, with the numbers."""
        rarest = self.size.rarest
        what = "image" if rarest.objects is None else "object"
        other = f", else {self.second.words()}" if self.second else ""
        lines = [
            f"Advice: {self.best.words()}{other}; evidence {self.strength}",
            f"  case          {self.quadrant}",
            f"  size          {counted(self.size.images, 'image')}; rarest class {rarest.name} with "
            f"{counted(rarest.examples, what)} "
            f"(little below {FEW_OBJECTS})",
        ]
        similarity = self.looked.similarity if self.looked else None
        if similarity is not None:
            lines.append(
                f"  similarity    {similarity.distance:.2f} standard deviations from the source over "
                f"{counted(similarity.images, 'image')} (another kind above {DIFFERENT:g})"
            )
            lines += [f"    {s.number:>3}  {s.unit:<24} {s.distance:.2f}" for s in similarity.stages]
        separability = self.looked.separability if self.looked else None
        if separability is not None:
            of = "classes and background" if separability.background else "classes"
            lines.append(
                f"  separability  k-NN {separability.knn:.2f} from chance 0 to faultless 1, LogME "
                f"{separability.logme:.3f}; {counted(separability.crops, 'crop')}, {of} (enough from {SEPARABLE:g})"
            )
        return lines + [f"  doubt         {doubt}" for doubt in self.doubts]

    def to_json(self) -> dict[str, Any]:
        """The same for machines."""
        looked = self.looked
        return {
            "quadrant": self.quadrant,
            **self.best.to_json(),
            "second": self.second.to_json() if self.second else None,
            "evidence": {"strength": self.strength, "doubts": list(self.doubts), "calibrated": CALIBRATED},
            "size": self.size.to_json(),
            "similarity": looked.similarity.to_json() if looked and looked.similarity else None,
            "separability": looked.separability.to_json() if looked and looked.separability else None,
            "thresholds": {name: value for name, (value, _) in TABLE.items()},
        }


def decide(size: Size, looked: Looked | None, units: Sequence[Unit]) -> Advice:
    """The advice that measurements lead to.

    Args:
        looked: None where there are no weights to start from.
        units: the model's.
    """
    amount: Amount = "little" if size.rarest.examples < FEW_OBJECTS else "much"
    similarity = looked.similarity if looked else None
    separability = looked.separability if looked else None
    kind: Kind = "of unknown kind"
    if similarity is not None:
        kind = "of another kind" if similarity.distance > DIFFERENT else "like the source"
    first, second = RANKING[amount, kind]
    if first == "head" and (separability is None or separability.knn < SEPARABLE):
        # New last layers can only tell apart what the layers before them do.
        first, second = "freeze", "full"
    if kind == "of another kind" and amount == "much" and size.images >= SCRATCH_IMAGES:
        first, second = "scratch", "full"
    elif second == "scratch" and size.images < SCRATCH_IMAGES:
        second = "freeze"
    best, other = (_plan(strategy, looked, units) for strategy in (first, second))
    if best.strategy == "freeze" and best.freeze == "":
        best, other = Plan("full"), Plan("freeze", BACKBONE)  # already the first stage is foreign
    elif other.strategy == "freeze" and other.freeze == "":
        other = Plan("freeze", BACKBONE)
    doubts = tuple(_doubts(size, looked, RANKING[amount, kind][0] == "head"))
    strength: Strength = "strong" if not doubts and CALIBRATED else "fair"
    if looked is None or similarity is None or len(doubts) > 1:
        strength = "weak"
    if looked is None:
        return Advice(amount, kind, Plan("scratch"), None, strength, doubts, size, looked)
    return Advice(amount, kind, best, other, strength, doubts, size, looked)


def _plan(strategy: Strategy, looked: Looked | None, units: Sequence[Unit]) -> Plan:
    return Plan(strategy, _held(looked, units) if strategy == "freeze" else "")


def _held(looked: Looked | None, units: Sequence[Unit]) -> str:
    """What `freeze` holds: the units before the first that differs, the backbone where none does; empty for nothing."""
    depth = sum(unit.name.startswith(f"{BACKBONE}.") for unit in units)
    stages = looked.similarity.stages if looked and looked.similarity else ()
    differing = [stage.number for stage in stages if stage.distance > STAGE_DIFFERS]
    count = min([*differing, depth])
    return BACKBONE if count == depth else str(count) if count else ""


def _doubts(size: Size, looked: Looked | None, separability_decides: bool) -> list[str]:
    """What weakens the evidence: too little of it, or a measurement near the line that it is held against."""
    doubts = []
    rarest, similarity = size.rarest, looked.similarity if looked else None
    separability = looked.separability if looked else None
    if rarest.examples == 0:
        doubts.append(f"class {rarest.name} has no example in the train split")
    elif _near(rarest.examples, FEW_OBJECTS):
        doubts.append(f"{rarest.examples} examples of the rarest class are near the line of {FEW_OBJECTS}")
    if looked is None:
        return [*doubts, "there are no trained weights to start from"]
    if looked.images < FEWEST_IMAGES:
        are = "is" if looked.images == 1 else "are"
        doubts.append(f"{counted(looked.images, 'image')} {are} few for statistics, {FEWEST_IMAGES} would do")
    if similarity is None:
        doubts.append(
            "the weights hold no statistics of their source: no batch norm has any, nor did training store them"
        )
    elif similarity.source_images is not None:
        doubts.append("the lines are calibrated on batch norms, and these statistics are of what stages give")
    elif _near(similarity.distance, DIFFERENT):
        doubts.append(f"a distance of {similarity.distance:.2f} is near the line of {DIFFERENT:g}")
    if separability is None:
        doubts.append("there are no crops of two kinds to tell apart")
    elif separability.fewest < FEWEST_CROPS:
        doubts.append(f"only {counted(separability.fewest, 'crop')} of a class, {FEWEST_CROPS} would do")
    elif separability_decides and _near(separability.knn, SEPARABLE):
        doubts.append(f"a k-NN score of {separability.knn:.2f} is near the line of {SEPARABLE:g}")
    return doubts


def _near(value: float, line: float) -> bool:
    return line / NEAR < value < line * NEAR
