"""`visionkit convert`: a dataset in another format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionkit.cli.left_out import LeftOut
from visionkit.cli.options import Debug, Json, Offline, SkipBad
from visionkit.cli.progress import say

if TYPE_CHECKING:
    from visionkit.api.convert import Written


def convert(
    data: Annotated[Path, typer.Argument(metavar="IN", help="Dataset folder, or its YAML file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new folder.")],
    to: Annotated[str, typer.Option(help="coco, yolo, voc, labelme or cvat.")] = "coco",
    skip_bad: SkipBad = False,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Write a dataset in another format. Ids and names are kept, and what the format cannot hold is counted.

    Pictures become hard links where the file system has them, and copies elsewhere.

    Example: [bold]visionkit convert my-data my-data-yolo --to yolo[/bold]
    """
    from visionkit.api import convert as job

    written = job.convert(data, out, to=to, skip_bad=skip_bad, say=say)
    print_written(written, json_)


def print_written(written: Written, as_json: bool) -> None:
    """What was written, on stdout; exit code 3 where items in error were left out."""
    if as_json:
        typer.echo(json.dumps(written.to_json()))
    else:
        typer.echo("\n".join(_table(written)))
        for words, counts in (("Not held by", written.not_held), ("Changed for", written.remarks)):
            for what, count in counts.items():
                typer.echo(f"{words} {written.format}: {count} {what}")
        pictures = [f"{n} {how}" for n, how in ((written.linked, "linked"), (written.copied, "copied")) if n]
        typer.echo(f"{written.out}: {written.format}, pictures: {', '.join(pictures)}")
    left_out = LeftOut()
    for line in written.left_out:
        left_out(line)
    left_out.finish()


def _table(written: Written) -> list[str]:
    """Images and objects of each class in each split, with their shares where there are several splits."""
    splits = list(written.splits)
    rows = {"images": {name: len(images.images) for name, images in written.splits.items()}}
    crowds = {
        name: sum(annotation.iscrowd for image in images.images for annotation in image.annotations)
        for name, images in written.splits.items()
    }
    per_class = written.objects_per_class()
    rows |= {f"  {name}": counts for name, counts in per_class.items()}
    if any(crowds.values()):
        rows["crowd regions"] = crowds
    width = max(len(name) for name in rows)
    lines = [f"{'':<{width}}" + "".join(f"  {name:>15}" for name in splits)]
    for name, counts in rows.items():
        whole = sum(counts.values())
        cells = (
            f"{counts[split]} ({counts[split] / whole:>6.1%})" if len(splits) > 1 and whole else str(counts[split])
            for split in splits
        )
        lines.append(f"{name:<{width}}" + "".join(f"  {cell:>15}" for cell in cells))
    return lines
