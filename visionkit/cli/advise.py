"""`visionkit advise`: which strategy to fine-tune with, and the measurements behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from visionkit.cli.left_out import LeftOut
from visionkit.cli.options import (
    BACKBONE_HELP,
    WEIGHTS_HELP,
    Debug,
    Device,
    ImageSize,
    Json,
    Offline,
    SkipBad,
    Threads,
)
from visionkit.cli.progress import say, training_progress


def advise(
    data: Annotated[str | None, typer.Option(help="Dataset folder, its YAML file, or 'sample', 'sample-b'.")] = None,
    weights: Annotated[str | None, typer.Option(help=WEIGHTS_HELP)] = None,
    model: Annotated[str | None, typer.Option(help="Architecture: a name that visionkit models lists.")] = None,
    backbone: Annotated[str | None, typer.Option(help=BACKBONE_HELP)] = None,
    verify: Annotated[
        float | None, typer.Option(help="Minutes for a trial of each of the two best strategies.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the trials; a new one under runs/advise.")] = None,
    imgsz: ImageSize = None,
    batch: Annotated[int | None, typer.Option("--batch", "--batch-size", help="Images a step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the trials, and of a val split that is made.")] = None,
    skip_bad: SkipBad = False,
    device: Device = None,
    threads: Threads = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read images.")] = None,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Say which strategy and which --freeze suit a dataset and weights, by measuring.

    What is measured: how much data there is, how far its images lie from those the weights were learnt from, stage by
    stage, and how well the features tell its objects apart. How strong that evidence is, is said too.

    Example: [bold]visionkit advise --data my-data --weights best.safetensors[/bold]
    """
    from visionkit.api import advise as job

    left_out = LeftOut()
    with training_progress() as listen:
        found = job.advise(
            data,
            weights=weights,
            model=model,
            backbone=backbone,
            verify=verify,
            out=out,
            imgsz=imgsz,
            batch=batch,
            seed=seed,
            skip_bad=skip_bad or None,
            device=device,
            threads=threads,
            workers=workers,
            offline=offline or None,
            say=say,
            on_skip=left_out,
            listen=listen,
        )
    if json_:
        typer.echo(json.dumps(found.to_json()))
    else:
        for line in found.lines():
            typer.echo(line)
    left_out.finish()
