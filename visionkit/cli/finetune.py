"""`visionkit finetune`: train a detector on a dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionkit.cli.interruption import patient_signals
from visionkit.cli.left_out import LeftOut
from visionkit.cli.options import (
    AUGMENT_HELP,
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
from visionkit.cli.process import become_several
from visionkit.cli.progress import say, training_progress

if TYPE_CHECKING:
    from visionkit.api.training_run import FinetuneResult

COMMANDS = {"AP": "detect", "mIoU": "segment", "accuracy": "classify"}
"""What a model is tried with, by what it is judged by."""


def finetune(
    data: Annotated[str | None, typer.Option(help="Dataset folder, or 'sample', 'sample-b'.")] = None,
    model: Annotated[str | None, typer.Option(help="Architecture: a name that visionkit models lists.")] = None,
    backbone: Annotated[str | None, typer.Option(help=BACKBONE_HELP)] = None,
    weights: Annotated[str | None, typer.Option(help=WEIGHTS_HELP)] = None,
    freeze: Annotated[
        list[str] | None, typer.Option(help="Units held still: 10, 0-4, backbone, all-but-head, none; repeatable.")
    ] = None,
    unfreeze: Annotated[
        list[str] | None, typer.Option(help="When they learn again, epochs from 1: backbone.layer4@5,all@20.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="auto (by measuring, see visionkit advise), head (new last layers alone), freeze (first units, the "
            "backbone), full (all, loaded layers slower), scratch."
        ),
    ] = None,
    force: Annotated[bool | None, typer.Option("--force", help="Freeze random weights all the same.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Time for it all, in place of --epochs: measures, then fixes their number.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", "--batch-size", help="Images a step; auto: the most that fit, up to 64.")
    ] = None,
    imgsz: ImageSize = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    lr_backbone: Annotated[float | None, typer.Option(help="Highest learning rate of the backbone.")] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="muon, adamw, adam, sgd, momentum, nesterov, adagrad, rmsprop or adadelta.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many evaluations without a better AP, or other metric.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="That share each batch and --threads; on a CPU 2 are faster than 1 of 2 threads.")
    ] = 1,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order and augmentation.")] = None,
    max_images: Annotated[
        int | None, typer.Option(help="Of rcnn: most training images that it is fitted on, evenly spread.")
    ] = None,
    augment: Annotated[str | None, typer.Option(help=AUGMENT_HELP)] = None,
    cache: Annotated[
        str | None, typer.Option(help="Decoded images kept in memory: ram, off, or auto, where they fit easily.")
    ] = None,
    skip_bad: SkipBad = False,
    amp: Annotated[bool | None, typer.Option(help="bf16 where the hardware has it.")] = None,
    tensorboard: Annotated[bool | None, typer.Option(help="Write curves for TensorBoard too.")] = None,
    device: Device = None,
    threads: Threads = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read and augment images.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting as KEY=VALUE; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; a new one under runs/finetune.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with an interrupted run.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and print everything, train nothing.")] = False,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Say which learning rate suits, and draw why; train nothing.")
    ] = False,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Train a detector, a segmenter or a classifier on a dataset.

    Example: [bold]visionkit finetune --data my-data --weights best.safetensors --freeze 10[/bold]
    """
    from visionkit.api import finetune as job

    flags = {
        "model": model,
        "backbone": backbone,
        "weights": weights,
        "strategy": strategy,
        "unfreeze": unfreeze or None,
        "force": force,
        "epochs": epochs,
        "minutes": minutes,
        "batch": batch,
        "imgsz": imgsz,
        "lr": lr,
        "lr_backbone": lr_backbone,
        "optimizer": optimizer,
        "patience": patience,
        "seed": seed,
        "max_images": max_images,
        "augment": augment,
        "cache": cache,
        "skip_bad": skip_bad or None,
        "amp": amp,
        "tensorboard": tensorboard,
        "device": device,
        "threads": threads,
        "workers": workers,
        "offline": offline or None,
    }
    left_out = LeftOut()
    become_several(device, processes)
    with training_progress() as listen, patient_signals(listen) as (listen_and_note, stop):
        result = job.finetune(
            data,
            freeze=freeze or (),
            config=config,
            set=set_ or (),
            out=out,
            resume=resume,
            dry_run=dry_run,
            find_lr=find_lr,
            listen=listen_and_note,
            say=say,
            on_skip=left_out,
            stop=stop,
            **flags,
        )
    if result is None:
        return
    if json_:
        typer.echo(json.dumps(result.to_json()))
    else:
        _print(result)
    left_out.finish(all_named=str(result.folder / "log.txt"))


def _print(result: FinetuneResult) -> None:
    shown = "  ".join(f"{name} {value:.4f}" for name, value in result.scores.items() if value is not None)
    typer.echo(f"Best epoch {result.best_epoch} of {result.epochs}: {shown}" if result.epochs else f"Fitted: {shown}")
    if result.skipped:
        typer.echo(f"Skipped {result.skipped} steps, their loss or gradient was not finite")
    typer.echo(f"Weights: {result.best}")
    command = next(command for metric, command in COMMANDS.items() if metric in result.scores)
    typer.echo(f"Try it: visionkit {command} IMAGE --weights {result.best}")
