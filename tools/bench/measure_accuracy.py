"""visionkit's contestant for `accuracy`: the commands a user types, `finetune --minutes` and then `evaluate` on test.

Times are those at which the command said its epochs, from the moment it was started.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from task import Task

EPOCH = re.compile(r"^epoch +(\d+)/\d+ ")


def measure(task: Task, options: list[str], out: Path) -> dict[str, Any]:
    """Best AP and AP50 on val, the same on test or why there are none, minutes taken, and AP against minutes.

    Raises:
        SystemExit: training failed, or no evaluation had an AP.
    """
    command = [sys.executable, "-m", "visionkit"]
    threads = ["--threads", str(task.threads)] if task.threads else []
    began = time.monotonic()
    minutes_at = {}
    asked = ["--data", task.data, "--minutes", task.minutes, "--seed", task.seed, "--imgsz", task.imgsz]
    asked += ["--batch", task.batch, "--weights", "scratch", "--out", out]
    training = subprocess.Popen(
        [*command, "finetune", *map(str, asked), *threads, *options], stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert training.stderr is not None
    last = ""
    for last in training.stderr:
        if found := EPOCH.match(last):
            minutes_at[int(found[1])] = (time.monotonic() - began) / 60
    if training.wait():
        raise SystemExit(last.strip())
    minutes = (time.monotonic() - began) / 60
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    evaluated = [row for row in rows if row["AP"] is not None]
    if not evaluated:
        raise SystemExit("no evaluation had an AP: the val split has no objects")
    best = max(evaluated, key=lambda row: row["AP"])
    said = {
        "AP": best["AP"],
        "AP50": best["AP50"],
        "minutes": minutes,
        "epochs": len(rows),
        "curve": [(minutes_at[row["epoch"]], row["AP"], row["AP50"]) for row in evaluated],
    }
    test = subprocess.run(
        [*command, "evaluate", "--weights", out / "best.safetensors", "--data", task.data, "--split", "test", "--json",
         *threads],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if test.returncode:
        # Said, not raised: what training came to stands.
        return said | {"test_problem": (test.stderr.strip() or "evaluate said nothing").splitlines()[-1]}
    scores = json.loads(test.stdout)
    return said | {"test_AP": scores["AP"], "test_AP50": scores["AP50"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder for the runs; without it they are thrown away")
    parser.add_argument("options", nargs="*", help="more options of `visionkit finetune`, behind --")
    given = parser.parse_args()
    task = Task.from_environment()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        if given.keep:
            out = given.keep / f"seed{task.seed}-threads{task.threads or 'default'}"
        print(json.dumps(measure(task, given.options, out)))


if __name__ == "__main__":
    main()
