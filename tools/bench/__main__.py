"""Measure visionkit beside its peers: `.venv/bin/python tools/bench COMMAND`. The protocol is in docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contest import BenchError, Contestant, Turn, hold, own
from evaluation_case import CaseSize, write_case
from serve_load import load_table, measure
from table import first_minutes, summarise, table
from task import Task

USUAL_BACKBONES = "alexnet,vgg11-bn,googlenet,resnet18,resnet50,mobilenetv3-small,efficientnet-b0,convnext-tiny"


def parser() -> argparse.ArgumentParser:
    """The command line; the options behind `--` go on to `visionkit`."""
    top = argparse.ArgumentParser(
        prog="tools/bench",
        description="Measure visionkit beside its peers, in turns, A B A B; ratios are medians over the rounds.",
        epilog="Example: .venv/bin/python tools/bench training --data my-data --threads 2 --rounds 5 "
        "--peer 'other=other-venv/bin/python other_training.py'",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    training = commands.add_parser(
        "training", help="images a second of the whole training loop, and its share of the bare network"
    )
    pipeline = commands.add_parser("pipeline", help="augmented mosaics a second, one process, images in memory")
    accuracy = commands.add_parser("accuracy", help="AP against minutes, over several seeds")
    backbones = commands.add_parser(
        "backbones", help="forward and backward of our backbones beside torchvision's, in turns step by step"
    )
    backbones.set_defaults(data="sample", peer=[])
    backbones.add_argument("--imgsz", type=int, default=224, help="side of the input, px (%(default)s)")
    backbones.add_argument("--batch", type=int, default=8, help="images a step (%(default)s)")
    backbones.add_argument("--backbones", default=USUAL_BACKBONES, help="which (%(default)s)")
    backbones.add_argument("--json", action="store_true", help="print JSON instead of a table")
    detectors = commands.add_parser(
        "detectors", help="training and inference of Faster R-CNN beside torchvision's own, in turns step by step"
    )
    detectors.add_argument("--jobs", default="training,inference", help="one or both (%(default)s)")
    segmenters = commands.add_parser(
        "segmenters", help="training of FCN beside torchvision's own, in turns step by step"
    )
    segmenters.set_defaults(jobs="training")
    for command in (detectors, segmenters):
        command.set_defaults(peer=[])
        command.add_argument("--data", default="sample", help="dataset folder (%(default)s)")
        command.add_argument("--imgsz", type=int, help="side of the input, px (320 of training, 640 of inference)")
        command.add_argument("--batch", type=int, default=4, help="images a step of training (%(default)s)")
        command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    add_serve(commands)
    add_evaluation(commands)
    coldstart, latency = runtime_parsers(commands)
    for command in (training, pipeline, accuracy):
        command.add_argument("--data", default="sample", help="dataset folder in COCO layout (%(default)s)")
        command.add_argument(
            "--imgsz", type=int, default=640 if command is pipeline else 320, help="side of the input, px (%(default)s)"
        )
        command.add_argument("--batch", type=int, default=16, help="images a step (%(default)s)")
        command.add_argument(
            "--peer", action="append", default=[], metavar="NAME=COMMAND", help="another contestant; repeatable"
        )
        command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    for command in (training, accuracy, backbones, detectors, segmenters):
        command.add_argument(
            "--threads", type=int, default=os.cpu_count() or 1, help="equal threads for all (%(default)s)"
        )
    for command in (training, accuracy):
        command.add_argument("--model", help="architecture of visionkit's contestant")
        command.add_argument("--backbone", help="and its backbone")
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any of its settings")
        command.add_argument(
            "--modes",
            default="equal" if command is accuracy else "default,equal",
            help="each contestant's own number of threads, the equal one, or both (%(default)s)",
        )
    for command in (training, pipeline, backbones, detectors, segmenters, coldstart, latency):
        steps = 5 if command in (backbones, detectors, segmenters, coldstart) else 30
        command.add_argument("--steps", type=int, default=steps, help="batches timed in each turn (%(default)s)")
        command.add_argument("--rounds", type=int, default=3, help="turns of each (%(default)s)")
    pipeline.add_argument("--no-torchvision", action="store_true", help="leave out the peer written with torchvision")
    accuracy.add_argument("--minutes", type=float, default=15, help="of training (%(default)s)")
    accuracy.add_argument("--seeds", default="0,1,2", help="one round each (%(default)s)")
    accuracy.add_argument("--levels", default="0.4,0.5,0.55,0.58", help="first minute at these AP (%(default)s)")
    accuracy.add_argument("--keep", metavar="DIR", help="keep visionkit's run folders here")
    return top


def add_serve(commands: Any) -> None:
    serve = commands.add_parser(
        "serve", help="one server under many clients at once, good and bad: answers, times, memory, its end"
    )
    serve.add_argument("--weights", default="default", help="model that is served (%(default)s)")
    serve.add_argument("--clients", type=int, default=64, help="at once (%(default)s)")
    serve.add_argument("--seconds", type=float, default=60, help="that they ask for (%(default)s)")
    serve.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the server (%(default)s)")
    serve.add_argument("--json", action="store_true", help="print JSON instead of a table")


def add_evaluation(commands: Any) -> None:
    """The options of `evaluation`, whose contestants need no images."""
    evaluation = commands.add_parser(
        "evaluation", help="COCO evaluation of a made-up case beside pycocotools: seconds, memory, equal numbers"
    )
    evaluation.set_defaults(data="", imgsz=0, batch=0, steps=1, peer=[])
    for name, count in vars(CaseSize()).items():
        evaluation.add_argument(f"--{name}", type=int, default=count, help="how many (%(default)s)")
    evaluation.add_argument("--task", choices=("bbox", "segm"), default="bbox", help="boxes or masks (%(default)s)")
    evaluation.add_argument("--rounds", type=int, default=3, help="turns of each (%(default)s)")
    evaluation.add_argument("--json", action="store_true", help="print JSON instead of tables")


def runtime_parsers(commands: Any) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Those of the benchmarks that find objects in one picture, with their options but for steps and rounds."""
    coldstart = commands.add_parser(
        "coldstart", help="seconds of `visionkit detect` from nothing, beside a bare cv2 + onnxruntime script"
    )
    coldstart.set_defaults(imgsz=0, batch=1)
    latency = commands.add_parser("latency", help="milliseconds from a picture's file to boxes, in the steady state")
    latency.set_defaults(batch=1)
    latency.add_argument("--imgsz", type=int, default=0, help="side of the input, px; 0: as trained (%(default)s)")
    latency.add_argument("--runtimes", default="graph,torch", help="of these (%(default)s)")
    for command in (coldstart, latency):
        command.add_argument("--data", default="sample", help="a picture; else one is drawn (%(default)s)")
        command.add_argument("--weights", help="a graph, or what --weights of detect takes; else the bundled model")
        command.add_argument(
            "--peer", action="append", default=[], metavar="NAME=COMMAND", help="another contestant; repeatable"
        )
        command.add_argument("--threads", type=int, default=0, help="equal threads; 0: each its own (%(default)s)")
        command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return coldstart, latency


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        report = JOBS[given.command](given)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report)
    return 0


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
        word for name in ("model", "backbone") if getattr(given, name) for word in (f"--{name}", getattr(given, name))
    ]
    more += [word for assignment in given.set for word in ("--set", assignment)]
    ours = Contestant("visionkit", own("measure_accuracy.py", *keep, "--", *more))
    turns = compete([ours], given, modes(given), ["AP", "AP50"])
    levels = numbers(given.levels, "--levels")
    keys = ["AP", "AP50", *(key for key in ("test_AP", "test_AP50") if all(key in turn.said for turn in turns))]
    rows = {key: summarise(turns, key) for key in keys}
    reached = [
        {"name": t.name, "threads": t.threads, "seed": seeds(given)[t.round], "minutes": t.said.get("minutes"),
         "first_minute": dict(zip(map(str, levels), first_minutes(t.said.get("curve", ()), levels), strict=True))}
        for t in turns
    ]  # fmt: skip
    if given.json:
        return as_json(given, turns, rows={k: [r.to_json() for r in v] for k, v in rows.items()}, reached=reached)
    head = f"Accuracy after {given.minutes:g} minutes, {given.imgsz} px, batch {given.batch}, seeds {given.seeds}"
    return "\n\n".join([head, *(table(rows[key], key, 4) for key in keys), reached_table(reached, levels)])


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
    asked = given.jobs.split(",")
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


def coldstart(given: argparse.Namespace) -> str:
    weights = ["--weights", given.weights] if given.weights else []
    names = {"detect": "visionkit detect", "detect --no-save": "without a picture", "bare": "cv2 + onnxruntime"}
    contestants = [
        Contestant(names.get(what, what), own("measure_coldstart.py", what, *weights))
        for what in ("detect", "detect --no-save", "bare", "import torch")
    ]
    turns = compete(contestants, given, [given.threads], ["seconds", "cpu_seconds"])
    rows = {key: summarise(turns, key) for key in ("seconds", "cpu_seconds")}
    if given.json:
        return as_json(given, turns, rows={key: [row.to_json() for row in of_key] for key, of_key in rows.items()})
    head = f"From nothing to boxes of one picture, {given.rounds} rounds of {given.steps} starts"
    return "\n\n".join([head, table(rows["seconds"], "seconds", 3), table(rows["cpu_seconds"], "CPU seconds", 3)])


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


def reached_table(reached: Sequence[dict[str, Any]], levels: Sequence[float]) -> str:
    """When each run first reached each AP, in minutes since its command was started."""
    lines = ["First minute at AP".ljust(28) + "".join(f"{level:>8g}" for level in levels) + "     end"]
    for run in reached:
        shown = [*run["first_minute"].values(), run["minutes"]]
        times = "".join("       -" if minute is None else f"{minute:8.1f}" for minute in shown)
        lines.append(f"{run['name']}, seed {run['seed']}".ljust(28) + times)
    return "\n".join(lines)


def compete(
    first: Sequence[Contestant], given: argparse.Namespace, threads: Sequence[int], keys: Sequence[str]
) -> list[Turn]:
    """Everybody's turns, told on stderr as they end."""
    task = Task(data=given.data, imgsz=given.imgsz, batch=given.batch)
    if given.command == "accuracy":
        tasks = [replace(task, minutes=given.minutes, seed=seed) for seed in seeds(given)]
    else:
        tasks = [replace(task, steps=given.steps)] * given.rounds

    def tell(turn: Turn) -> None:
        shown = "  ".join(f"{k} {v:.4g}" for k, v in turn.said.items() if isinstance(v, int | float))
        print(f"round {turn.round + 1}  {turn.name}  threads {turn.threads or 'default'}  {shown}", file=sys.stderr)

    return hold([*first, *map(Contestant.parse, given.peer)], tasks, threads, keys, tell)


def settings(given: argparse.Namespace) -> list[str]:
    """The options of visionkit's contestant as assignments."""
    named = [f"{name}={getattr(given, name)}" for name in ("model", "backbone") if getattr(given, name)]
    return [word for assignment in [*named, *given.set] for word in ("--set", assignment)]


def modes(given: argparse.Namespace) -> list[int]:
    """Numbers of threads, 0 for each contestant's own."""
    known = {"default": 0, "equal": given.threads}
    asked = given.modes.split(",")
    if not set(asked) <= set(known):
        raise BenchError(f"--modes are default, equal or default,equal, got {given.modes!r}")
    return [known[mode] for mode in asked]


def seeds(given: argparse.Namespace) -> list[int]:
    return [int(seed) for seed in numbers(given.seeds, "--seeds")]


def numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise BenchError(f"{option} takes numbers separated by commas, got {text!r}") from None


def as_json(given: argparse.Namespace, turns: Sequence[Turn], **parts: Any) -> str:
    said = [{"round": t.round, "name": t.name, "threads": t.threads, **t.said} for t in turns]
    return json.dumps({"benchmark": given.command, "command": shlex.join(sys.argv), **parts, "turns": said})


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

if __name__ == "__main__":
    sys.exit(main())
