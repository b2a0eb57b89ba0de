"""`visionkit propose`: where objects may be in the images of a dataset, as files for fast-rcnn and rcnn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionkit.cli.left_out import LeftOut
from visionkit.cli.options import Debug, Json, Offline, SkipBad
from visionkit.cli.progress import proposal_progress, say

if TYPE_CHECKING:
    from visionkit.api.propose import SplitProposals


def propose(
    data: Annotated[str, typer.Argument(help="Dataset folder, its YAML file, or 'sample', 'sample-b'.")],
    out: Annotated[Path, typer.Argument(help="Folder of the files, one a split.")],
    mode: Annotated[str, typer.Option(help="single, fast or quality: 1, 8 or 80 ways of grouping.")] = "fast",
    most: Annotated[int, typer.Option(help="Proposals of an image.")] = 2000,
    split: Annotated[list[str] | None, typer.Option(help="train, val or test; repeatable; all that there are.")] = None,
    format_: Annotated[str, typer.Option("--format", help="npz or json.")] = "npz",
    skip_bad: SkipBad = False,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Find where objects may be, of any class, by selective search; write it as the files that fast-rcnn is fed by.

    Example: [bold]visionkit propose my-data proposals[/bold], then
    [bold]visionkit finetune --data my-data --model fast-rcnn --set proposals=proposals[/bold]
    """
    from visionkit.api import propose as job

    left_out = LeftOut()
    with proposal_progress() as listen:
        done = job.propose(
            data,
            out,
            mode=mode,  # type: ignore[arg-type]
            most=most,
            splits=split or (),
            format=format_,  # type: ignore[arg-type]
            skip_bad=skip_bad,
            on_skip=left_out,
            listen=listen,
            say=say,
        )
    if json_:
        typer.echo(json.dumps(done.to_json()))
    else:
        for name, of_split in done.splits.items():
            typer.echo(_words(name, of_split))
    left_out.finish()


def _words(name: str, found: SplitProposals) -> str:
    images = max(1, found.images)
    words = f"{name}: {found.proposals / images:.0f} proposals an image in {found.seconds / images:.2f} s"
    if found.recall50 is not None:
        words += (
            f"; of the objects {found.recall50:.4f} found at IoU 0.5, {found.recall70:.4f} at 0.7, "
            f"mean best overlap {found.mean_best_overlap:.4f}"
        )
    return f"{words}: {found.file}"
