"""What following the advice cost: the score of the best strategy less that of the advised one, target by target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rows import Row, way_of

from visionkit.errors import VisionkitError


@dataclass(frozen=True, slots=True)
class TargetRegret:
    """One target.

    Args:
        scores: mean over seeds, by plan (`freeze 6`).
        seeds: how many each plan has.
        advised: the plan of the advice; None where it was not asked.
    """

    target: str
    scores: dict[str, float]
    seeds: dict[str, int]
    advised: str | None

    @property
    def best(self) -> str:
        """The plan with the highest score, the first of equals."""
        return max(self.scores, key=lambda plan: self.scores[plan])

    def regret_of(self, plan: str | None) -> float | None:
        """What a plan loses against the best; None where it was not tried."""
        return self.scores[self.best] - self.scores[plan] if plan in self.scores else None


@dataclass(frozen=True, slots=True)
class Summary:
    """All targets."""

    targets: tuple[TargetRegret, ...]

    @property
    def regrets(self) -> dict[str, float]:
        """Of the advice, by target."""
        found = {target.target: target.regret_of(target.advised) for target in self.targets}
        return {name: regret for name, regret in found.items() if regret is not None}

    @property
    def plans(self) -> list[str]:
        return list(dict.fromkeys(plan for target in self.targets for plan in target.scores))

    def always(self) -> dict[str, float]:
        """Mean regret of always taking one plan, of the plans that every target has tried: what advice must beat."""
        regrets = {plan: [target.regret_of(plan) for target in self.targets] for plan in self.plans}
        return {plan: fmean(found) for plan, found in regrets.items() if None not in found}  # type: ignore[type-var]

    def to_json(self) -> dict[str, Any]:
        regrets = self.regrets
        return {
            "targets": {
                target.target: {
                    "scores": target.scores,
                    "seeds": target.seeds,
                    "best": target.best,
                    "advised": target.advised,
                    "regret": regrets.get(target.target),
                }
                for target in self.targets
            },
            "mean_regret": fmean(regrets.values()) if regrets else None,
            "worst_regret": max(regrets.values(), default=None),
            "always": self.always(),
        }


def plan_of(row: Row) -> str:
    """`freeze 6`, or `freeze` where the strategy decides what is held."""
    return " ".join(str(part) for part in (row["strategy"], row["freeze"]) if part)


def summarise(rows: Sequence[Row]) -> Summary:
    """The targets in the order of their first rows.

    Raises:
        VisionkitError: there is no trial, or those of a target were made in several ways.
    """
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    ways: dict[str, set[Any]] = defaultdict(set)
    advised: dict[str, str] = {}
    for row in rows:
        if row["kind"] == "trial":
            # No score, as where nothing was found to judge, is a score of 0.
            scores[row["target"]][plan_of(row)].append(row["score"] or 0.0)
            ways[row["target"]].add(way_of(row))
        else:
            advised[row["target"]] = plan_of(row)
    if not scores:
        raise VisionkitError("there are no trials in these rows; make some by: tools/study_strategies run")
    for target, made in ways.items():
        if len(made) > 1:
            raise VisionkitError(
                f"trials of {target} were made in {len(made)} ways, with other minutes, weights or settings, and "
                "scores compare only within one; keep the rows of each way in a file of their own"
            )
    return Summary(
        tuple(
            TargetRegret(
                target,
                {plan: fmean(found) for plan, found in plans.items()},
                {plan: len(found) for plan, found in plans.items()},
                _tried(advised.get(target), plans),
            )
            for target, plans in scores.items()
        )
    )


def _tried(plan: str | None, plans: dict[str, list[float]]) -> str | None:
    """The plan as it was tried: `freeze backbone` is what `freeze` does by itself."""
    whole = None if plan is None else plan.removesuffix(" backbone")
    return whole if plan not in plans and whole in plans else plan


def table(summary: Summary) -> str:
    """Scores by target and plan, the advised one in brackets, the best with a star."""
    plans = summary.plans
    rows = [("target", *plans, "regret")]
    for target in summary.targets:
        cells = []
        for plan in plans:
            score = target.scores.get(plan)
            text = "-" if score is None else f"{score:.4f}" + "*" * (plan == target.best)
            cells.append(f"[{text}]" if plan == target.advised else text)
        regret = summary.regrets.get(target.target)
        rows.append((target.target, *cells, "-" if regret is None else f"{regret:.4f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    regrets = summary.regrets
    if regrets:
        worst = max(regrets, key=lambda name: regrets[name])
        lines.append(
            f"advice: mean regret {fmean(regrets.values()):.4f} over {len(regrets)} targets, worst "
            f"{regrets[worst]:.4f} on {worst}"
        )
    lines += [f"always {plan}: mean regret {regret:.4f}" for plan, regret in summary.always().items()]
    return "\n".join(lines)
