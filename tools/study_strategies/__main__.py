"""Is the advice of `visionkit advise` good? Every strategy is trained on several targets in equal time; regret is the
score that was lost by following the advice instead of the best.

    .venv/bin/python tools/study_strategies run --target cells=blood-cells --target balloons=balloons --out study.jsonl
    .venv/bin/python tools/study_strategies report study.jsonl

One row a trial; begun again, `run` does what is missing. Thresholds are in `visionkit/advice/thresholds.py`: calibrate
them on some targets, and judge on others by `report --targets`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from regret import summarise, table
from rows import Row, add_row, key_of, read_rows
from trials import STRATEGIES, advice_row, trial_row

from visionkit.errors import VisionkitError


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="tools/study_strategies", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="trials that are missing, and the advice for each target")
    run.add_argument("--target", action="append", required=True, metavar="NAME=FOLDER", help="a dataset; repeatable")
    run.add_argument("--strategies", default=",".join(STRATEGIES), help="which (%(default)s); the advised one too")
    run.add_argument("--seeds", default="0,1", help="which (%(default)s)")
    run.add_argument("--minutes", type=float, default=3.0, help="of each trial (%(default)s)")
    run.add_argument("--weights", default="default", help="to start from, as finetune takes it (%(default)s)")
    run.add_argument("--threads", type=int, help="CPU threads of each trial")
    run.add_argument("--workers", type=int, help="processes that read images")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the trials")
    run.add_argument("--out", type=Path, default=Path("study.jsonl"), help="rows go here (%(default)s)")
    report = commands.add_parser("report", help="a table of scores, and the regret of the advice")
    report.add_argument("rows", type=Path, help="what run wrote")
    report.add_argument("--targets", help="only these, separated by commas")
    report.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return top


def named_targets(given: Sequence[str]) -> dict[str, str]:
    """`["a=/data"]` -> `{"a": "/data"}`.

    Raises:
        VisionkitError: there is no name or no folder, or a name twice.
    """
    targets: dict[str, str] = {}
    for entry in given:
        name, equals, folder = entry.partition("=")
        if not (name and equals and folder) or name in targets:
            raise VisionkitError(f"--target takes NAME=FOLDER, each name once, got {entry!r}; such as cells=my-data")
        targets[name] = folder
    return targets


def run(given: argparse.Namespace) -> None:
    targets = named_targets(given.target)
    strategies = [name.strip() for name in given.strategies.split(",") if name.strip()]
    unknown = [name for name in strategies if name not in STRATEGIES]
    if unknown:
        raise VisionkitError(f"unknown strategy {unknown[0]!r}; choose of {', '.join(STRATEGIES)}")
    try:
        seeds = [int(seed) for seed in given.seeds.split(",")]
    except ValueError:
        raise VisionkitError(f"--seeds takes whole numbers separated by commas, got {given.seeds!r}") from None
    rows = read_rows(given.out)
    known = {key_of(row) for row in rows}
    settings = {"weights": given.weights, "threads": given.threads, "workers": given.workers, "set": given.set}

    def keep(row: Row) -> Row:
        add_row(given.out, row)
        known.add(key_of(row))
        rows.append(row)
        print(json.dumps(row), flush=True)
        return row

    for target, folder in targets.items():
        found = next((row for row in rows if row["kind"] == "advice" and row["target"] == target), None)
        found = found or keep(advice_row(target, folder, **settings))
        # What `freeze` holds by itself is the backbone.
        advised = found["strategy"], None if found["freeze"] == "backbone" else found["freeze"]
        plans = list(dict.fromkeys([*((name, None) for name in strategies), advised]))
        # Seed by seed: what is there when time runs out is complete for as many seeds as there are.
        for seed in seeds:
            for strategy, freeze in plans:
                row: Row = {"kind": "trial", "target": target, "strategy": strategy, "freeze": freeze, "seed": seed}
                row |= {"minutes": given.minutes, "weights": given.weights, "set": given.set}
                if key_of(row) in known:
                    continue
                with tempfile.TemporaryDirectory(prefix="study-") as out:
                    keep(trial_row(row, folder, Path(out) / "run", **settings))


def report(given: argparse.Namespace) -> None:
    rows = read_rows(given.rows)
    if given.targets:
        wanted = given.targets.split(",")
        rows = [row for row in rows if row["target"] in wanted]
    summary = summarise(rows)
    if given.json:
        print(json.dumps(summary.to_json()))
    else:
        print(table(summary))


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    {"run": run, "report": report}[given.command](given)


if __name__ == "__main__":
    try:
        main()
    except VisionkitError as error:
        sys.exit(f"error: {error}")
