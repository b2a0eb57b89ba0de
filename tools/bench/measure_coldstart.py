"""A contestant of `coldstart`: seconds that a command takes from its start to its end, the median of several."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from task import Task

from visionkit.api.benchmark import draw_picture
from visionkit.bundled.files import bundled_onnx

COMMANDS = ("detect", "detect --no-save", "bare", "import torch")


def command_of(what: str, graph: Path, picture: Path, threads: int) -> list[str]:
    """The words of a command.

    Args:
        threads: CPU threads; 0 leaves its own default.
    """
    if what == "import torch":
        return [sys.executable, "-c", "import torch"]
    if what == "bare":
        script = str(Path(__file__).with_name("bare_detect.py"))
        return [sys.executable, script, str(graph), str(picture), *([str(threads)] if threads else [])]
    installed = Path(sys.executable).with_name("visionkit")
    visionkit = [str(installed)] if installed.exists() else [sys.executable, "-m", "visionkit"]
    weights = [] if graph == bundled_onnx() else ["--weights", str(graph)]
    limited = ["--threads", str(threads)] if threads else []
    return [*visionkit, *what.split(), str(picture), "--json", *weights, *limited]


def seconds_of(command: Sequence[str], steps: int) -> list[tuple[float, float]]:
    """Of each of so many starts, after one that brings the files into memory: by the clock, and of all CPU cores.

    The first also keeps what Python compiled, as installing and using do; else each would compile an editable
    installation anew.

    Raises:
        SystemExit: the command failed.
    """
    seconds = []
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:  # what it writes goes with it
        for _ in range(1 + steps):
            began, used = time.perf_counter(), cpu_seconds()
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            seconds.append((time.perf_counter() - began, cpu_seconds() - used))
            if done.returncode:
                raise SystemExit(f"{command[0]} failed: {(done.stderr.strip() or 'it said nothing').splitlines()[-1]}")
    return seconds[1:]


def cpu_seconds() -> float:
    """Of all processes that were started here and have ended. Other work on the machine changes this less than what the
    clock says; threads that spin while they wait are in it."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--weights", type=Path, help="a graph; else the bundled one")
    given = parser.parse_args()
    task = Task.from_environment()
    graph = given.weights.absolute() if given.weights else bundled_onnx()
    if graph is None:
        raise SystemExit("this version bundles no graph; give one by --weights")
    with tempfile.TemporaryDirectory() as folder:
        drawn = task.data == "sample"
        picture = draw_picture(Path(folder) / "picture.jpg") if drawn else Path(task.data).absolute()
        taken = seconds_of(command_of(given.command, graph, picture, task.threads), task.steps)
    seconds, used = zip(*taken, strict=True)
    print(json.dumps({"seconds": median(seconds), "cpu_seconds": median(used), "least": min(seconds)}))


if __name__ == "__main__":
    main()
