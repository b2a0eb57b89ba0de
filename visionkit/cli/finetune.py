"""`visionkit finetune`: train a detector on a dataset."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionkit.cli.interruption import patient_signals
from visionkit.cli.left_out import LeftOut
from visionkit.cli.options import (
    AUGMENT_HELP,
    BACKBONE_HELP,
    WEIGHTS_HELP,
    Debug,
    Json,
    Offline,
    SkipBad,
)
from visionkit.cli.process import become_several
from visionkit.cli.progress import say, training_progress
from visionkit.counted import counted
from visionkit.errors import UsageError

if TYPE_CHECKING:
    from visionkit.api.training_run import FinetuneResult
    from visionkit.engine.events import Event

OR_THE_WEIGHTS = "or that of the weights"

COMMANDS = {"AP": "detect", "mIoU": "segment", "accuracy": "classify"}
"""What a model is tried with, by what it is judged by."""


def finetune(
    data: Annotated[
        str | None,
        typer.Option(
            help="Dataset folder, its YAML file, or 'sample', 'sample-b'.",
            show_default="the dataset in this folder, or else sample",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Architecture: a name that visionkit models lists.", show_default=f"yolo, {OR_THE_WEIGHTS}"),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help=BACKBONE_HELP, show_default=f"csp-light, {OR_THE_WEIGHTS}")
    ] = None,
    weights: Annotated[str | None, typer.Option(help=WEIGHTS_HELP, show_default="default")] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(help="Units held still: 10, 0-4, backbone, all-but-head, none; repeatable.", show_default="none"),
    ] = None,
    unfreeze: Annotated[
        list[str] | None, typer.Option(help="When they learn again, epochs from 1: backbone.layer4@5,all@20.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="auto (by measuring, see visionkit advise), head (new last layers alone), freeze (first units, the "
            "backbone), full (all, loaded layers slower), scratch.",
            show_default="none, --freeze and rates alone decide",
        ),
    ] = None,
    keep_classes: Annotated[
        bool | None,
        typer.Option(
            "--keep-classes", help="Learn the classes of the data beside those of the weights, and do not forget these."
        ),
    ] = None,
    guard: Annotated[
        str | None,
        typer.Option(help="COCO file or dataset of old classes: AP of each before and after, in guard.json too."),
    ] = None,
    force: Annotated[bool | None, typer.Option("--force", help="Freeze random weights all the same.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.", show_default="100")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Time for it all, in place of --epochs: measures, then fixes their number.")
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch", "--batch-size", help="Images a step; auto: the most that fit, up to 64.", show_default="16"
        ),
    ] = None,
    imgsz: Annotated[
        int | None,
        typer.Option(
            "--imgsz", "--img", help="Side of the square network input, pixels.", show_default=f"320, {OR_THE_WEIGHTS}"
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Side of the overlapping tiles that larger images are learnt and judged in, pixels.",
            show_default="0, whole",
        ),
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="Share of a tile that neighbours have in common.", show_default="0.2")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Highest learning rate.", show_default="0.002, other optimizers have their own")
    ] = None,
    lr_backbone: Annotated[
        float | None, typer.Option(help="Highest learning rate of the backbone.", show_default="that of all others")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="muon, adamw, adam, sgd, momentum, nesterov, adagrad, rmsprop or adadelta.", show_default="muon"
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many evaluations without a better AP, or other metric.", show_default="0, never"
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            help="That share each batch and --threads; on a CPU 2 beat 1 of 2 threads. To be said with --resume too.",
        ),
    ] = 1,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order and augmentation.", show_default="0")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="So many runs, from --seed on: mean and spread, in seeds.json too.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Cross-validation: train and val in so many parts, each val once; mean and spread."),
    ] = None,
    max_images: Annotated[
        int | None,
        typer.Option(
            help="Of rcnn: most training images that it is fitted on, evenly spread.", show_default="0, takes all"
        ),
    ] = None,
    augment: Annotated[str | None, typer.Option(help=AUGMENT_HELP, show_default="heavy")] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            help="Decoded images kept in memory: ram, off, or auto, where they fit easily.", show_default="auto"
        ),
    ] = None,
    skip_bad: SkipBad = False,
    waive: Annotated[
        list[str] | None,
        typer.Option(help="Code of an error in the data, such as VK204: its items are left out; repeatable."),
    ] = None,
    amp: Annotated[bool | None, typer.Option(help="bf16 where the hardware has it.", show_default="amp")] = None,
    tensorboard: Annotated[
        bool | None, typer.Option(help="Write curves for TensorBoard too.", show_default="no-tensorboard")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:N, several as cuda:0,1, or mps.", show_default="auto")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="torch's choice")] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that read and augment images.", show_default="cores - 1, at most 8"),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting as KEY=VALUE; repeatable.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run, or of several.", show_default="a new one under runs")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with an interrupted run, or with several, in their folder.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and print everything, train nothing.")] = False,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Say which learning rate suits, and draw why; train nothing.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="At the end write report.html into the run's folder: an evaluation more.")
    ] = False,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Train a detector, a segmenter or a classifier on a dataset.

    Example: [bold]visionkit finetune --data my-data --weights best.safetensors --freeze 10[/bold]
    """
    from visionkit.api.finetune import finetune as one_run
    from visionkit.api.study import study
    from visionkit.api.study_plan import is_study
    from visionkit.api.study_result import StudyResult
    from visionkit.engine.events import RateFound

    flags: dict[str, Any] = {
        "model": model,
        "backbone": backbone,
        "weights": weights,
        "strategy": strategy,
        "unfreeze": unfreeze or None,
        "keep_classes": keep_classes,
        "guard": guard,
        "force": force,
        "epochs": epochs,
        "minutes": minutes,
        "batch": batch,
        "imgsz": imgsz,
        "tile": tile,
        "overlap": overlap,
        "lr": lr,
        "lr_backbone": lr_backbone,
        "optimizer": optimizer,
        "patience": patience,
        "seed": seed,
        "max_images": max_images,
        "augment": augment,
        "cache": cache,
        "skip_bad": skip_bad or None,
        "waive": waive or None,
        "amp": amp,
        "tensorboard": tensorboard,
        "device": device,
        "threads": threads,
        "workers": workers,
        "offline": offline or None,
    }
    several = folds is not None or seeds is not None or (resume is not None and is_study(resume))
    if several and report:
        raise UsageError(
            "--report is of one run, --seeds and --folds make several; leave it out, and see each by evaluate --report"
        )
    if several:
        flags |= {"folds": folds, "seeds": seeds, "find_lr": find_lr or None}
    else:
        flags |= {"find_lr": find_lr, "report": report}
    left_out = LeftOut()
    rates: list[RateFound] = []
    become_several(device, processes)
    with training_progress() as listen, patient_signals(listen) as (listen_and_note, stop):

        def listen_for_a_rate(event: Event) -> None:
            if isinstance(event, RateFound):
                rates.append(event)
            listen_and_note(event)

        train: Callable[..., FinetuneResult | StudyResult | None] = study if several else one_run
        result = train(
            data,
            freeze=freeze or (),
            config=config,
            set=set_ or (),
            out=out,
            resume=resume,
            dry_run=dry_run,
            listen=listen_for_a_rate,
            say=say,
            on_skip=left_out,
            stop=stop,
            **flags,
        )
    for rate in rates:
        typer.echo(json.dumps({"lr": rate.lr, "picture": str(rate.picture)}) if json_ else f"--lr {rate.lr:g}")
    if result is None:
        return
    if json_:
        typer.echo(json.dumps(result.to_json()))
    elif isinstance(result, StudyResult):
        for line in result.lines():
            typer.echo(line)
    else:
        _print(result)
    log = result.folder if isinstance(result, StudyResult) else result.folder / "log.txt"
    left_out.finish(all_named=str(log))


def _print(result: FinetuneResult) -> None:
    shown = "  ".join(f"{name} {value:.4f}" for name, value in result.scores.items() if value is not None)
    if result.epochs and not shown:
        typer.echo(f"No epoch is the best: val has nothing to judge, and {next(iter(result.scores))} is not defined")
    else:
        best = f"Best epoch {result.best_epoch} of {result.epochs}"
        typer.echo(f"{best if result.epochs else 'Fitted'}: {shown}")
    if result.skipped:
        typer.echo(f"Skipped {counted(result.skipped, 'step')}: loss or gradient was not finite")
    typer.echo(f"Weights: {result.best}")
    command = next(command for metric, command in COMMANDS.items() if metric in result.scores)
    typer.echo(f"Try it: visionkit {command} IMAGE --weights {result.best}")
