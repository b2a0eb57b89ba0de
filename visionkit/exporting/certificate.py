"""The parity certificate: what was compared of a model and its export, how they differ, and whether that is little
enough. It lies beside the export as JSON, without times and paths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionkit.exporting.parity import Parity, Tolerance

SCHEMA = "visionkit.certificate/1"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was compared of a model and its export.

    Args:
        model: its name.
        weights_sha256, export_sha256: of the files.
        runtime: what ran the export, with its version.
        precision: of the export, `fp32` or `int8`.
        on: which images were compared, in words.
        real: whether they are real pictures.
        images: how many.
        facts: the figures of their comparison by name.
        metrics: scores of both on a val split, by name (`AP`: (model, export)); empty where no data was given.
        calibration: of INT8, which images gave the ranges, in words; else None.
        tolerance: what may differ.
        complaints: what does differ by more, a line each; empty where all is well.
    """

    model: str
    weights_sha256: str
    export_sha256: str
    runtime: str
    precision: str
    on: str
    real: bool
    images: int
    facts: Mapping[str, int | float | None]
    metrics: Mapping[str, tuple[float | None, float | None]]
    calibration: str | None
    tolerance: Tolerance
    complaints: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.complaints

    def to_json(self) -> dict[str, Any]:
        """The certificate as one JSON object of schema `visionkit.certificate/1`."""
        metrics = {name: {"model": ours, "export": theirs} for name, (ours, theirs) in self.metrics.items()}
        said = {"schema": SCHEMA, "passed": self.passed}
        return {**said, **asdict(self), "metrics": metrics, "complaints": list(self.complaints)}

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def table(self) -> str:
        """The certificate as people read it."""
        rows = [
            ("compared on", f"{self.images} images: {self.on}"),
            ("model", f"{self.model}, SHA-256 {self.weights_sha256[:12]}"),
            ("export", f"{self.precision}, by {self.runtime}, SHA-256 {self.export_sha256[:12]}"),
        ]
        if self.calibration is not None:
            rows.append(("calibrated on", self.calibration))
        rows += [(name.replace("_", " "), _figure(value)) for name, value in self.facts.items()]
        rows += [
            (name.replace("_", " "), f"model {_figure(ours)}, export {_figure(theirs)}")
            for name, (ours, theirs) in self.metrics.items()
        ]
        rows.append(
            ("verdict", "within tolerance" if self.passed else f"OUT OF TOLERANCE: {'; '.join(self.complaints)}")
        )
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def complaints_of(
    parity: Parity, metrics: Mapping[str, tuple[float | None, float | None]], tolerance: Tolerance
) -> tuple[str, ...]:
    """What differs by more than it may.

    Where scores on real truth are known, those judge: detections that no one would miss may be others then.
    """
    fallen = [
        f"{name} falls from {ours:.4f} to {theirs:.4f}, {tolerance.metric:g} is the most"
        for name, (ours, theirs) in metrics.items()
        if ours is not None and theirs is not None and ours - theirs > tolerance.metric
    ]
    return (*parity.complaints(tolerance), *fallen)


def _figure(value: float | None) -> str:
    if value is None:
        return "n/a"
    return str(value) if isinstance(value, int) else f"{value:.4g}"
