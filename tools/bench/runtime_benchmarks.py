"""`coldstart`, `latency`, `serve` and `evaluation`: what a trained model, and judging it, take."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path

from competition import as_json, compete, said_by_all
from contest import Contestant, own
from evaluation_case import CaseSize, write_case
from serve_load import load_table, measure
from table import summarise, table


def coldstart(given: argparse.Namespace) -> str:
    weights = ["--weights", given.weights] if given.weights else []
    names = {"detect": "visionkit detect", "detect --no-save": "without a picture", "bare": "cv2 + onnxruntime"}
    contestants = [
        Contestant(names.get(what, what), own("measure_coldstart.py", what, *weights))
        for what in ("detect", "detect --no-save", "bare", "import torch")
    ]
    turns = compete(contestants, given, [given.threads], ["seconds"])
    headings = {"seconds": "seconds", "cpu_seconds": "CPU seconds"}
    rows = {key: summarise(turns, key) for key in said_by_all(turns, list(headings))}
    if given.json:
        return as_json(given, turns, rows={key: [row.to_json() for row in of_key] for key, of_key in rows.items()})
    head = f"From nothing to boxes of one picture, {given.rounds} rounds of {given.steps} starts"
    return "\n\n".join([head, *(table(of_key, headings[key], 3) for key, of_key in rows.items())])


def latency(given: argparse.Namespace) -> str:
    weights = ["--weights", given.weights] if given.weights else []
    size = ["--imgsz", str(given.imgsz)] if given.imgsz else []
    contestants = [
        Contestant(f"visionkit, {runtime}", own("measure_latency.py", runtime, *weights, *size))
        for runtime in given.runtimes.split(",")
    ]
    turns = compete(contestants, given, [given.threads], ["milliseconds"])
    rows = summarise(turns, "milliseconds")
    if given.json:
        return as_json(given, turns, rows=[row.to_json() for row in rows])
    head = f"From a file to boxes, one picture at a time, {given.rounds} rounds of {given.steps} pictures"
    return f"{head}\n\n{table(rows, 'milliseconds', 2)}"


def serve(given: argparse.Namespace) -> str:
    said = measure(given.weights, given.clients, given.seconds, given.threads).to_json()
    if given.json:
        return json.dumps({"benchmark": given.command, "command": shlex.join(sys.argv), **said})
    return load_table(said, given.clients)


EVALUATION_KEYS = {
    "evaluate_seconds": ("evaluate + accumulate, s", 2),
    "files_to_numbers_seconds": ("files to numbers, s", 2),
    "peak_megabytes": ("most memory, MB", 0),
}


def evaluation(given: argparse.Namespace) -> str:
    size = CaseSize(given.images, given.classes, given.objects, given.detections)
    with tempfile.TemporaryDirectory() as folder:
        files = [str(file) for file in write_case(Path(folder), size, masks=given.task == "segm")]
        names = ("pycocotools", "visionkit")  # in this order a ratio is how many times as much pycocotools takes
        contestants = [Contestant(name, own("measure_evaluation.py", name, *files, given.task)) for name in names]
        turns = compete(contestants, given, [1], list(EVALUATION_KEYS))
    rows = {key: summarise(turns, key) for key in EVALUATION_KEYS}
    told = [{tuple(turn.said["numbers"]) for turn in turns if turn.name == name} for name in names]
    pairs = list(zip(*(next(iter(numbers)) for numbers in told), strict=True))
    equal = sum(a == b for a, b in pairs) if all(len(numbers) == 1 for numbers in told) else 0
    if given.json:
        as_rows = {key: [row.to_json() for row in of_key] for key, of_key in rows.items()}
        return as_json(given, turns, rows=as_rows, equal_numbers=equal)
    kind = "boxes" if given.task == "bbox" else "masks"
    head = (
        f"COCO evaluation of {kind}: {size.images:,} images, {size.classes} classes, {size.objects:,} objects, "
        f"{size.detections:,} detections, {given.rounds} rounds\nNumbers equal to the last bit: {equal} of {len(pairs)}"
    )
    return "\n\n".join([head, *(table(rows[key], *shown) for key, shown in EVALUATION_KEYS.items())])
