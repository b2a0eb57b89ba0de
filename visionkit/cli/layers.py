"""`visionkit layers`: the numbered units of a model."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from visionkit.cli.options import BACKBONE_HELP, Debug, Json


def layers(
    model: Annotated[str, typer.Argument(help="A model's name or a weights file.")] = "yolo",
    backbone: Annotated[str, typer.Option(help=f"For a model by name: {BACKBONE_HELP}")] = "csp-light",
    freeze: Annotated[list[str] | None, typer.Option(help="Mark what this --freeze would hold still.")] = None,
    imgsz: Annotated[int, typer.Option("--imgsz", "--img", help="Image side for the output shapes, pixels.")] = 640,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Show the units that --freeze counts: number, name, output shape, parameters, frozen or not.

    Example: [bold]visionkit layers yolo --backbone resnet18 --freeze 10[/bold]
    """
    from visionkit.api import layers as job

    found = job.layers(model, backbone=backbone, freeze_specs=freeze or (), imgsz=imgsz)
    if json_:
        typer.echo(
            json.dumps({"model": found.name, "imgsz": found.image_size, "units": [asdict(r) for r in found.rows]})
        )
        return
    names = max(len(row.name) for row in found.rows)
    shapes = max(len(row.output) for row in found.rows)
    typer.echo(f"{found.name}, output shapes (channels x height x width) at {found.image_size} px")
    for row in found.rows:
        mark = "  frozen" if row.frozen else ""
        typer.echo(f"{row.number:>3}  {row.name:<{names}}  {row.output:<{shapes}}  {row.parameters:>10,}{mark}")
    typer.echo(f"{'':5}{'total':<{names}}  {'':<{shapes}}  {sum(row.parameters for row in found.rows):>10,}")
    if found.sentence:
        typer.echo(found.sentence)
