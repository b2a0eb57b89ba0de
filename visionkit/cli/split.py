"""`visionkit split`: train, val and test out of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visionkit.cli.convert import print_written
from visionkit.cli.options import Debug, Json, Offline, SkipBad
from visionkit.cli.progress import say

GROUP_HELP = (
    "Keep images of a group together: a column of COCO's images, such as extra.patient, or a regular expression on "
    "file_name whose first brackets name the group."
)


def split(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Dataset folder, or its YAML file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new folder.")],
    val: Annotated[float, typer.Option(help="Share of the images for val.")] = 0.2,
    test: Annotated[float, typer.Option(help="Share of the images for test.")] = 0.0,
    group: Annotated[str | None, typer.Option(help=GROUP_HELP)] = None,
    seed: Annotated[int, typer.Option(help="Decides between images that are alike.")] = 0,
    skip_bad: SkipBad = False,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Divide a dataset into train, val and test with like shares of every class, in its own format.

    Example: [bold]visionkit split my-data my-data-split --val 0.2 --test 0.1 --group "^(patient\\d+)_"[/bold]
    """
    from visionkit.api import split as job

    written = job.split(data, out, val=val, test=test, group=group, seed=seed, skip_bad=skip_bad, say=say)
    print_written(written, json_)
