"""`backbones`, `detectors` and `segmenters`: ours and torchvision's in one process, in turns step by step."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace

from competition import as_json, compete
from contest import BenchError, Contestant, own
from table import summarise, table


def backbones(given: argparse.Namespace) -> str:
    contestants = [Contestant(name, own("measure_backbone.py", name)) for name in given.backbones.split(",")]
    keys = {
        "milliseconds": "visionkit ms",
        "torchvision_milliseconds": "torchvision ms",
        "times_torchvision": "visionkit / torchvision",
    }
    turns = compete(contestants, given, [given.threads], list(keys))
    # Each against torchvision's own network in its own process; between networks there is nothing to compare.
    rows = {key: [replace(row, ratio=None) for row in summarise(turns, key)] for key in keys}
    if given.json:
        return as_json(given, turns, rows={key: [row.to_json() for row in of_key] for key, of_key in rows.items()})
    head = f"Forward and backward, {given.imgsz} px, batch {given.batch}, {given.rounds} rounds of {given.steps} steps"
    tables = [table(rows[key], words, 2 if key == "times_torchvision" else 1) for key, words in keys.items()]
    return "\n\n".join([head, *tables])


Job = tuple[int, dict[str, str], dict[str, tuple[str, int]]]
"""Side of the input, contestants, and what of theirs is shown under which heading with how many digits."""


def training_beside_torchvision(script: str) -> Job:
    return (
        320,
        {f"{network} {what}": own(script, network) for network, what in (("same", "network"), ("light", "recipe"))},
        {
            "milliseconds": ("visionkit ms", 1),
            "torchvision_milliseconds": ("torchvision ms", 1),
            "times_as_fast": ("times as fast", 2),
        },
    )


SEGMENTER_JOBS = {"training": training_beside_torchvision("measure_segmenter_training.py")}
DETECTOR_JOBS: dict[str, Job] = {
    "training": training_beside_torchvision("measure_detector_training.py"),
    "inference": (
        640,
        {"R50-FPN": own("measure_detector_inference.py")},
        {
            "torchvision_milliseconds": ("torchvision ms", 1),
            "default_milliseconds": ("visionkit ms", 1),
            "default_times_as_fast": ("times as fast", 2),
            "fp32_times_as_fast": ("times as fast, fp32", 2),
            "exact_times_as_fast": ("times as fast, exact", 2),
            "fp32_matched": ("its boxes found, fp32", 4),
        },
    ),
}


def detectors(given: argparse.Namespace) -> str:
    return beside_torchvision(given, DETECTOR_JOBS)


def segmenters(given: argparse.Namespace) -> str:
    return beside_torchvision(given, SEGMENTER_JOBS)


def beside_torchvision(given: argparse.Namespace, jobs: Mapping[str, Job]) -> str:
    """The jobs that the command line names, one after another."""
    asked = list(dict.fromkeys(given.jobs.split(",")))
    if not set(asked) <= set(jobs):
        raise BenchError(f"--jobs are {','.join(jobs)} or one of them, got {given.jobs!r}")
    parts, all_turns, all_rows = [], [], {}
    for job in asked:
        size, commands, shown = jobs[job]
        side = given.imgsz or size
        contestants = [Contestant(name, command) for name, command in commands.items()]
        options = argparse.Namespace(**{**vars(given), "imgsz": side})
        turns = compete(contestants, options, [given.threads], list(shown))
        # Each against torchvision's in its own process, as backbones.
        rows = {key: [replace(row, ratio=None) for row in summarise(turns, key)] for key in shown}
        batch = f", batch {given.batch}" if job == "training" else ""
        parts.append(f"{job.capitalize()}, {side} px{batch}, {given.rounds} rounds of {given.steps} steps")
        parts += [table(rows[key], heading, digits) for key, (heading, digits) in shown.items()]
        all_turns += turns
        all_rows[job] = {key: [row.to_json() for row in of_key] for key, of_key in rows.items()}
    return as_json(given, all_turns, rows=all_rows) if given.json else "\n\n".join(parts)
