"""`visionkit compare`: which of two detectors is better, and whether the images can tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionkit.cli.options import Debug, Device, Json, Offline, Overlap, Threads, Tile
from visionkit.cli.progress import image_progress, say
from visionkit.counted import counted

if TYPE_CHECKING:
    from visionkit.metrics.comparison import Comparison, Difference

SIDE_HELP = "A run folder, a .safetensors file, or a COCO results file (.json)."


def compare(
    a: Annotated[Path, typer.Argument(help=SIDE_HELP)],
    b: Annotated[Path, typer.Argument(help=SIDE_HELP)],
    data: Annotated[str | None, typer.Option(help="Dataset folder; that of two runs on the same one.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="COCO ground truth file, for two results files.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    task: Annotated[str, typer.Option(help="What to compare, bbox or segm (masks).")] = "bbox",
    proposals: Annotated[
        Path | None, typer.Option(help="What propose wrote, of fast-rcnn and rcnn; those that a run was trained on.")
    ] = None,
    tile: Tile = None,
    overlap: Overlap = None,
    device: Device = None,
    threads: Threads = None,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Compare two detectors on the same images: difference in AP, its 95 % interval by a paired bootstrap, verdict.

    An interval that holds 0 means that these images cannot tell the two apart.

    Example: [bold]visionkit compare runs/finetune/my-data-1 runs/finetune/my-data-2[/bold]
    """
    from visionkit.api import compare as job

    with image_progress("evaluating") as listen:
        found = job.compare(
            a,
            b,
            data=data,
            annotations=annotations,
            split=split,
            task=task,  # type: ignore[arg-type]
            proposals=proposals,
            tile=tile,
            overlap=overlap,
            device=device or "auto",
            threads=threads or 0,
            offline=offline,
            listen=listen,
            say=say,
        )
    if json_:
        typer.echo(json.dumps(found.to_json()))
    else:
        _print(found, a, b)


def _print(found: Comparison, a: Path, b: Path) -> None:
    typer.echo(f"A  {a}\nB  {b}")
    typer.echo(f"{counted(found.images, 'image')}, {'boxes' if found.task == 'bbox' else 'masks'}\n")
    width = max(5, *(len(name) for name in found.per_class))
    typer.echo(f"{'':<{width}}       A       B    B - A  95 % interval of B - A      p")
    for name, row in (("AP", found.AP), ("AP50", found.AP50)):
        typer.echo(f"{name:<{width}}  {_numbers(row)}  {_interval(row)}")
    typer.echo(f"\n{'AP of':<{width}}       A       B    B - A")
    for name, row in found.per_class.items():
        typer.echo(f"{name:<{width}}  {_numbers(row)}")
    typer.echo(f"\n{found.verdict[0].upper()}{found.verdict[1:]}.")


def _numbers(row: Difference) -> str:
    values = ("   n/a" if value is None else f"{value:6.4f}" for value in (row.a, row.b))
    return f"{'  '.join(values)}  {'    n/a' if row.difference is None else f'{row.difference:+7.4f}'}"


def _interval(row: Difference) -> str:
    if row.interval95 is None or row.p is None:
        return "n/a"
    low, high = row.interval95
    return f"{low:+.4f} to {high:+.4f}         {row.p:.3f}"
