"""`visionkit augment-preview`: a contact sheet of augmented samples with their boxes or maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from visionkit.cli.left_out import LeftOut
from visionkit.cli.options import AUGMENT_HELP, Debug, ImageSize, Json, Offline, SkipBad
from visionkit.cli.progress import say
from visionkit.counted import counted
from visionkit.errors import UsageError


def augment_preview(
    data: Annotated[str | None, typer.Argument(help="Dataset folder, its YAML file, or 'sample', 'sample-b'.")] = None,
    data_: Annotated[str | None, typer.Option("--data", help="The same, as an option.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Whose training is shown, such as fcn8s; by default one that such data are for.")
    ] = None,
    augment: Annotated[str | None, typer.Option(help=AUGMENT_HELP)] = None,
    imgsz: ImageSize = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    count: Annotated[int, typer.Option(help="Samples shown.")] = 16,
    epoch: Annotated[int, typer.Option(help="The epoch whose first samples are shown, from 1.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of order and augmentation, as finetune takes it.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The picture; a new one under runs/augment-preview.")] = None,
    skip_bad: SkipBad = False,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Show what training would feed the network: augmented samples and their boxes or maps, in one picture.

    Example: [bold]visionkit augment-preview my-data --augment heavy[/bold]
    """
    from visionkit.api import augment_preview as job
    from visionkit.data.augment_values import all_in_words, in_words

    if data is not None and data_ is not None:
        raise UsageError(f"augment-preview shows one dataset, got {data} and --data {data_}; leave one out")
    left_out = LeftOut()
    preview = job.augment_preview(
        data if data_ is None else data_,
        model=model,
        augment=augment,
        imgsz=imgsz,
        split=split,
        count=count,
        epoch=epoch,
        seed=seed,
        out=out,
        skip_bad=skip_bad,
        on_skip=left_out,
        say=say,
    )
    if json_:
        typer.echo(json.dumps(preview.to_json()))
    else:
        typer.echo(f"Augmentation {in_words(preview.settings)}: {all_in_words(preview.settings)}")
        what = "maps" if preview.has_maps else counted(preview.objects, "object")
        typer.echo(f"{counted(preview.samples, 'sample')} at {preview.image_size} px with {what}: {preview.picture}")
    left_out.finish()
