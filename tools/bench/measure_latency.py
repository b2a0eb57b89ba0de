"""A contestant of `latency`: milliseconds from the file of a picture to boxes, in the steady state, one at a time."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from task import Task

from visionkit.cli.process import tune_process

tune_process()  # as the command line does, before torch is imported

from visionkit.api.benchmark import benchmark
from visionkit.api.load import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runtime", choices=("graph", "torch", "torch-fp32"), help="of the bundled model")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--imgsz", type=int)
    given = parser.parse_args()
    task = Task.from_environment()
    weights = str(Path(given.weights).absolute()) if Path(given.weights).exists() else given.weights
    # `why` is what only PyTorch does: it chooses the runtime of the bundled model and costs nothing until it is asked.
    chosen = {"graph": {}, "torch": {"why": True}, "torch-fp32": {"why": True, "amp": False}}[given.runtime]
    detector = load(weights, device="cpu", imgsz=given.imgsz, threads=task.threads, **chosen)
    sources = [] if task.data == "sample" else [task.data]
    measured = benchmark(detector, sources, images=task.steps, warm_up=10, threads=task.threads)
    by_step = {f"{step}_milliseconds": spread.median for step, spread in measured.milliseconds.items()}
    whole = by_step.pop("all_milliseconds")
    about = {"model": measured.model, "runtime": measured.runtime, "image_size": measured.image_size}
    print(json.dumps({"milliseconds": whole, "p90": measured.milliseconds["all"].p90, **by_step, **about}))


if __name__ == "__main__":
    main()
