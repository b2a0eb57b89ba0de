"""`training`, `pipeline` and `accuracy`: how fast visionkit learns, how fast it makes samples, and what it comes to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from competition import as_json, compete, modes, numbers, said_by_all, seeds
from contest import Contestant, own
from table import first_minutes, summarise, table


def training(given: argparse.Namespace) -> str:
    ours = Contestant("visionkit", own("measure_training.py", *settings(given)))
    turns = compete([ours], given, modes(given), ["images_per_second"])
    rows = summarise(turns, "images_per_second")
    if given.json:
        return as_json(given, turns, rows=[row.to_json() for row in rows])
    of_ours = [turn for turn in turns if turn.name == "visionkit"]
    parts = [
        table(summarise(of_ours, key), heading, 3)
        for key, heading in (
            ("bare_images_per_second", "bare images/s"),
            ("share_of_bare", "loop / bare"),
            ("share_waiting_for_data", "waits for data"),
        )
    ]
    head = f"Training, {given.imgsz} px, batch {given.batch}, {given.rounds} rounds of {given.steps} batches"
    return "\n\n".join([head, table(rows, "images/s", 1), *parts])


def settings(given: argparse.Namespace) -> list[str]:
    """The options of visionkit's contestant as assignments."""
    named = [f"{name}={getattr(given, name)}" for name in ("model", "backbone") if getattr(given, name)]
    return [word for assignment in [*named, *given.set] for word in ("--set", assignment)]


def pipeline(given: argparse.Namespace) -> str:
    contestants = [Contestant("visionkit", own("measure_pipeline.py"))]
    if not given.no_torchvision:
        contestants.append(Contestant("torchvision v2", own("measure_pipeline_torchvision.py")))
    # One process with one thread, as each worker of a loader is: there is no other way to compare pipelines.
    turns = compete(contestants, given, [1], ["images_per_second"])
    rows = summarise(turns, "images_per_second")
    if given.json:
        return as_json(given, turns, rows=[row.to_json() for row in rows])
    head = (
        f"Mosaics, {given.imgsz} px, images in memory, {given.rounds} rounds of {given.steps} batches of {given.batch}"
    )
    return f"{head}\n\n{table(rows, 'images/s', 0)}"


def accuracy(given: argparse.Namespace) -> str:
    keep = ["--keep", given.keep] if given.keep else []
    more = [
        word
        for name in ("config", "processes", "model", "backbone")
        if getattr(given, name)
        for word in (f"--{name}", str(getattr(given, name)))
    ]
    more += [word for assignment in given.set for word in ("--set", assignment)]
    ours = Contestant("visionkit", own("measure_accuracy.py", *keep, "--", *more))
    levels, rounds = numbers(given.levels, "--levels"), seeds(given)  # before hours are spent
    turns = compete([ours], given, modes(given), ["AP", "AP50"])
    keys = ["AP", "AP50", *said_by_all(turns, ["test_AP", "test_AP50"])]
    rows = {key: summarise(turns, key) for key in keys}
    reached = [
        {"name": t.name, "threads": t.threads, "seed": rounds[t.round], "minutes": t.said.get("minutes"),
         "first_minute": dict(zip(map(str, levels), first_minutes(t.said.get("curve", ()), levels), strict=True))}
        for t in turns
    ]  # fmt: skip
    if given.json:
        return as_json(given, turns, rows={k: [r.to_json() for r in v] for k, v in rows.items()}, reached=reached)
    head = f"Accuracy after {given.minutes:g} minutes, {given.imgsz} px, batch {given.batch}, seeds {given.seeds}"
    without = dict.fromkeys((t.name, t.said["test_problem"]) for t in turns if "test_problem" in t.said)
    notes = [f"No test scores of {name}: {problem}" for name, problem in without]
    return "\n\n".join([head, *(table(rows[key], key, 4) for key in keys), reached_table(reached, levels), *notes])


def reached_table(reached: Sequence[dict[str, Any]], levels: Sequence[float]) -> str:
    """When each run first reached each AP, in minutes since its command was started."""
    several = len({run["threads"] for run in reached}) > 1
    names = [
        f"{run['name']}, seed {run['seed']}" + f", threads {run['threads'] or 'default'}" * several for run in reached
    ]
    width = max(28, *(len(name) + 1 for name in names))
    lines = ["First minute at AP".ljust(width) + "".join(f"{level:>8g}" for level in levels) + "     end"]
    for name, run in zip(names, reached, strict=True):
        shown = [*run["first_minute"].values(), run["minutes"]]
        times = "".join("       -" if minute is None else f"{minute:8.1f}" for minute in shown)
        lines.append(name.ljust(width) + times)
    return "\n".join(lines)
