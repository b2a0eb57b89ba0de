"""Measure visionkit beside its peers: `.venv/bin/python tools/bench COMMAND`. The protocol is in docs/benchmarks.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from contest import BenchError
from options import parser
from runtime_benchmarks import coldstart, evaluation, latency, serve
from torchvision_benchmarks import backbones, detectors, segmenters
from training_benchmarks import accuracy, pipeline, training

JOBS: dict[str, Callable[[argparse.Namespace], str]] = {
    "training": training,
    "pipeline": pipeline,
    "accuracy": accuracy,
    "backbones": backbones,
    "detectors": detectors,
    "segmenters": segmenters,
    "serve": serve,
    "coldstart": coldstart,
    "latency": latency,
    "evaluation": evaluation,
}


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        report = JOBS[given.command](given)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
