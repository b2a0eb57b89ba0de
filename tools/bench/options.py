"""The command line of `tools/bench`: its commands and their options."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from evaluation_case import CaseSize

USUAL_BACKBONES = "alexnet,vgg11-bn,googlenet,resnet18,resnet50,mobilenetv3-small,efficientnet-b0,convnext-tiny"


def at_least(least: int) -> Callable[[str], int]:
    """A type of options: whole numbers from `least` on."""

    def whole_number(text: str) -> int:
        if (number := int(text)) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {number}")
        return number

    return whole_number


def above_zero(text: str) -> float:
    """A type of options: numbers above 0, not infinite."""
    if not 0 < (number := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, got {number:g}")
    return number


def parser() -> argparse.ArgumentParser:
    """The command line: a command for each benchmark."""
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
    backbones.add_argument("--imgsz", type=at_least(1), default=224, help="side of the input, px (%(default)s)")
    backbones.add_argument("--batch", type=at_least(1), default=8, help="images a step (%(default)s)")
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
        command.add_argument(
            "--imgsz", type=at_least(1), help="side of the input, px (320 of training, 640 of inference)"
        )
        command.add_argument("--batch", type=at_least(1), default=4, help="images a step of training (%(default)s)")
        command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    add_serve(commands)
    add_evaluation(commands)
    coldstart, latency = runtime_parsers(commands)
    for command in (training, pipeline, accuracy):
        command.add_argument("--data", default="sample", help="dataset folder in COCO layout (%(default)s)")
        command.add_argument(
            "--imgsz",
            type=at_least(1),
            default=640 if command is pipeline else 320,
            help="side of the input, px (%(default)s)",
        )
        command.add_argument("--batch", type=at_least(1), default=16, help="images a step (%(default)s)")
        add_peers(command)
        command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    for command in (training, accuracy, backbones, detectors, segmenters):
        command.add_argument(
            "--threads", type=at_least(1), default=os.cpu_count() or 1, help="equal threads for all (%(default)s)"
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
        command.add_argument(
            "--steps", type=at_least(1), default=steps, help="batches timed in each turn (%(default)s)"
        )
        command.add_argument("--rounds", type=at_least(1), default=3, help="turns of each (%(default)s)")
    pipeline.add_argument("--no-torchvision", action="store_true", help="leave out the peer written with torchvision")
    accuracy.add_argument("--config", metavar="FILE", help="recipe of visionkit's contestant")
    accuracy.add_argument("--processes", type=at_least(1), help="in which it trains, a part of the threads for each")
    accuracy.add_argument("--minutes", type=above_zero, default=15, help="of training (%(default)s)")
    accuracy.add_argument("--seeds", default="0,1,2", help="one round each (%(default)s)")
    accuracy.add_argument("--levels", default="0.4,0.5,0.55,0.58", help="first minute at these AP (%(default)s)")
    accuracy.add_argument("--keep", metavar="DIR", help="keep visionkit's run folders here")
    return top


def add_peers(command: argparse.ArgumentParser) -> None:
    """The option of those benchmarks in which others may take part."""
    command.add_argument(
        "--peer", action="append", default=[], metavar="NAME=COMMAND", help="another contestant; repeatable"
    )


def add_serve(commands: Any) -> None:
    """The options of `serve`."""
    serve = commands.add_parser(
        "serve", help="one server under many clients at once, good and bad: answers, times, memory, its end"
    )
    serve.add_argument("--weights", default="default", help="model that is served (%(default)s)")
    serve.add_argument("--clients", type=at_least(1), default=64, help="at once (%(default)s)")
    serve.add_argument("--seconds", type=above_zero, default=60, help="that they ask for (%(default)s)")
    serve.add_argument("--threads", type=at_least(1), default=os.cpu_count() or 1, help="of the server (%(default)s)")
    serve.add_argument("--json", action="store_true", help="print JSON instead of a table")


def add_evaluation(commands: Any) -> None:
    """The options of `evaluation`, whose contestants need no images."""
    evaluation = commands.add_parser(
        "evaluation", help="COCO evaluation of a made-up case beside pycocotools: seconds, memory, equal numbers"
    )
    evaluation.set_defaults(data="", imgsz=0, batch=0, steps=1, peer=[])
    for name, count in vars(CaseSize()).items():
        evaluation.add_argument(f"--{name}", type=at_least(1), default=count, help="how many (%(default)s)")
    evaluation.add_argument("--task", choices=("bbox", "segm"), default="bbox", help="boxes or masks (%(default)s)")
    evaluation.add_argument("--rounds", type=at_least(1), default=3, help="turns of each (%(default)s)")
    evaluation.add_argument("--json", action="store_true", help="print JSON instead of tables")


def runtime_parsers(commands: Any) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Those of the benchmarks that find objects in one picture, with their options but for steps and rounds."""
    coldstart = commands.add_parser(
        "coldstart", help="seconds of `visionkit detect` from nothing, beside a bare cv2 + onnxruntime script"
    )
    coldstart.set_defaults(imgsz=0, batch=1)
    latency = commands.add_parser("latency", help="milliseconds from a picture's file to boxes, in the steady state")
    latency.set_defaults(batch=1)
    latency.add_argument(
        "--imgsz", type=at_least(0), default=0, help="side of the input, px; 0: as trained (%(default)s)"
    )
    latency.add_argument("--runtimes", default="graph,torch", help="of these (%(default)s)")
    for command in (coldstart, latency):
        command.add_argument("--data", default="sample", help="a picture; else one is drawn (%(default)s)")
        command.add_argument("--weights", help="a graph, or what --weights of detect takes; else the bundled model")
        add_peers(command)
        command.add_argument(
            "--threads", type=at_least(0), default=0, help="equal threads; 0: each its own (%(default)s)"
        )
        command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return coldstart, latency
