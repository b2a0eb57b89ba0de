"""What a contestant is asked to do. It travels in environment variables, so that any command can read it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

PREFIX = "VISIONKIT_BENCH_"


@dataclass(frozen=True)
class Task:
    """One job of a benchmark.

    Args:
        data: dataset folder, COCO layout.
        imgsz: side of the square input in pixels.
        batch: images a step.
        steps: batches to time, after as many as a contestant needs to warm up.
        minutes: of training.
        seed: of weights, order and augmentation.
        threads: CPU threads; 0 leaves the contestant its own default.
    """

    data: str = "sample"
    imgsz: int = 320
    batch: int = 16
    steps: int = 30
    minutes: float = 1.0
    seed: int = 0
    threads: int = 0

    def environment(self) -> dict[str, str]:
        """`VISIONKIT_BENCH_DATA` and so on; where threads are asked for, `OMP_NUM_THREADS` too."""
        said = {PREFIX + f.name.upper(): str(getattr(self, f.name)) for f in fields(self) if f.name != "threads"}
        if self.threads:
            said |= {f"{PREFIX}THREADS": str(self.threads), "OMP_NUM_THREADS": str(self.threads)}
        return said

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Task:
        """The task that `environment()` told; defaults where a variable is missing."""
        types = {"str": str, "int": int, "float": float}
        said = {f.name: (types[str(f.type)], environment.get(PREFIX + f.name.upper())) for f in fields(cls)}
        return cls(**{name: kind(text) for name, (kind, text) in said.items() if text is not None})
